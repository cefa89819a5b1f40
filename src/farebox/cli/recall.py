"""Having running gateways give credit back that they have in hand, before a command takes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farebox.core.settings import Settings
    from farebox.store import Store

_PATIENCE_S = 2.0


def recall_of(store: Store, settings: Settings) -> Callable[[int], None]:
    """What recalls an account's credit from whatever runs on this store. It raises nothing: what
    was not given back cannot be taken, and the store says so.
    """
    if store.is_postgresql:
        return lambda account_id: _from_all_hosts(settings.database, account_id)
    return lambda account_id: _from_this_host(settings.data_dir, account_id)


def _from_this_host(data_dir: Path, account_id: int) -> None:
    from farebox.ledger.client import recall_now

    with suppress(OSError, UnicodeError):  # nobody serves this folder
        path = (data_dir / "run" / "ledger").read_text(encoding="utf-8").strip()
        recall_now(path, account_id, _PATIENCE_S)


def _from_all_hosts(database_url: str, account_id: int) -> None:
    import psycopg
    from sqlalchemy.exc import DBAPIError

    from farebox.store.recalls import recall_now

    with suppress(DBAPIError, psycopg.Error):
        recall_now(database_url, account_id, _PATIENCE_S)

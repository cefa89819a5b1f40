"""What the routes are handed: settings, the gateway, who may call, reads of the store, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farebox.core.settings import Settings
from farebox.server.auth import Directory
from farebox.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from farebox.relay import Gateway


@dataclass(frozen=True, slots=True)
class Reads:
    """The reads of the store that routes need; each blocks, so routes call it in a thread.

    `receipt(request_id, account_id)` raises errors.NotFound for an unknown id and for another
    account's alike. `money(account_id)` gives the money fields of an account. `check()` raises
    whatever it likes when the store cannot be read.
    """

    receipt: Callable[[str, int], Mapping[str, object]]
    money: Callable[[int], Mapping[str, object]]
    check: Callable[[], object]


@dataclass(slots=True)
class State:
    """One worker's state. `draining` is set once, when the worker has been told to end."""

    settings: Settings
    gateway: Gateway
    directory: Directory
    reads: Reads
    metrics: Metrics
    draining: bool = False

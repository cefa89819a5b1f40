"""Opening a store, and the one object to use it by. Each theme is a file beside this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from farebox.store.accounts import Accounts
from farebox.store.audit import Audits
from farebox.store.background import Background
from farebox.store.backup import Backups
from farebox.store.calibration import Calibrations
from farebox.store.catalogues import Catalogues
from farebox.store.connections import reason
from farebox.store.engine import connections_to
from farebox.store.errors import StoreConflict, StoreError
from farebox.store.keys import Keys
from farebox.store.leases import Leases
from farebox.store.reports import Reports
from farebox.store.retention import Retention
from farebox.store.schema import facts
from farebox.store.transfers import Transfers
from farebox.store.turns import Turns

_REVISIONS = "SELECT name, value FROM revisions"


@dataclass(frozen=True, slots=True)
class Revisions:
    """Two counters that only grow: one for the catalogue, one for accounts and keys."""

    catalogue: int
    keys: int


class Store(
    Accounts,
    Transfers,
    Keys,
    Catalogues,
    Leases,
    Background,
    Reports,
    Calibrations,
    Audits,
    Retention,
    Turns,
    Backups,
):
    """Everything that is kept. Synchronous and safe to share by threads; raises StoreError."""

    @property
    def instance_id(self) -> str:
        """The random name that this store was given when it was made."""
        return self._fact("instance_id") or ""

    @property
    def secret_fingerprint(self) -> str | None:
        """The fingerprint of the master secret in use, if any was yet."""
        return self._fact("secret_fingerprint")

    def check_secret(self, fingerprint: str) -> None:
        """Keep the first fingerprint that is shown; raise StoreConflict for any other after it."""
        with self._writing() as connection:
            known = connection.execute(
                sa.select(facts.c.value).where(facts.c.name == "secret_fingerprint")
            ).scalar()
            if known is None:
                connection.execute(
                    sa.insert(facts).values(name="secret_fingerprint", value=fingerprint)
                )
            elif known != fingerprint:
                raise StoreConflict(
                    f"The master secret is not the one that the store {self.shown} was made with. "
                    "Point FAREBOX_SECRET_FILE or [server].secret_file to the secret that belongs "
                    "to it."
                )

    def revisions(self) -> Revisions:
        """What other processes compare with what they have; cheap enough to ask all the time."""
        with self._asking() as driver:
            values = dict(driver.execute(_REVISIONS).fetchall())
        return Revisions(values["catalogue"], values["keys"])

    def _fact(self, name: str) -> str | None:
        with self._reading() as connection:
            return connection.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar()


def has_present_schema(database_url: str, data_dir: Path) -> bool:
    """Whether the store at this URL has the schema that this code knows; nothing is changed. Raises
    StoreError, also for a schema from the future.
    """
    connections = connections_to(database_url, data_dir)
    try:
        return connections.is_ready()
    except DBAPIError as error:
        raise StoreError(
            f"The store {connections.shown} cannot be read: {reason(error)}."
        ) from error
    finally:
        connections.close()


def open_store(database_url: str, data_dir: Path) -> Store:
    """The store at this URL, made if missing and migrated if old. Raises StoreError.

    A path in the URL that is not absolute counts from `data_dir`.
    """
    connections = connections_to(database_url, data_dir)
    try:
        connections.prepare()
    except BaseException:
        connections.close()
        raise
    return Store(connections)

"""Where a ledger process keeps calls while the store cannot be written: a SQLite file beside it.

A row has the columns of `usage`. What is in here was answered for: it goes away only once the store
has it. The file is made when there is something to keep, and says of which store its calls are: in
another one, the same numbers are other accounts and leases.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import astuple

from farebox.billing.entry import ENTRY_FIELDS, Entry
from farebox.billing.jobs import Post, Posted, Spooled
from farebox.store.errors import StoreConflict, StoreError
from farebox.store.schema import usage

_BUSY_S = 1.0
_COLUMNS = (*ENTRY_FIELDS, "lease_id", "charge", "absorbed")
_NAMES = ", ".join(_COLUMNS)


def _declared(name: str) -> str:
    column = usage.columns[name]
    kind = "TEXT" if column.type.python_type is str else "INTEGER"
    return f"{name} {kind}" if column.nullable else f"{name} {kind} NOT NULL"


_TABLE = f"""
    CREATE TABLE IF NOT EXISTS usage (
        position INTEGER PRIMARY KEY, {", ".join(_declared(name) for name in _COLUMNS)},
        UNIQUE (request_id)
    ) STRICT
"""
_STORE = "CREATE TABLE IF NOT EXISTS store (id TEXT NOT NULL) STRICT"
_ADD = f"""
    INSERT INTO usage ({_NAMES}) VALUES ({", ".join("?" * len(_COLUMNS))})
    ON CONFLICT (request_id) DO NOTHING
"""
_AMOUNTS = "SELECT charge, absorbed FROM usage WHERE request_id = ?"
_OLDEST = f"SELECT {_NAMES} FROM usage ORDER BY position LIMIT ?"
_WAITING = "SELECT request_id, lease_id, charge, absorbed FROM usage ORDER BY position"
_COUNT = "SELECT count(*) FROM usage"
_DROP = "DELETE FROM usage WHERE request_id = ?"


class Spool:
    """See the module. For one thread at a time; raises StoreError when it cannot be used, and then
    nothing was changed: StoreConflict while calls of another store than `store_id` wait in it. To
    be closed.
    """

    def __init__(self, path: Path, store_id: str = "") -> None:
        self._path = path
        self._store_id = store_id
        self._driver: sqlite3.Connection | None = None
        self._count: int | None = None

    def __len__(self) -> int:
        """How many wait."""
        if self._count is None:
            with self._using(make=False) as driver:
                self._count = 0 if driver is None else int(driver.execute(_COUNT).fetchone()[0])
        return self._count

    def add(self, posts: Sequence[Post]) -> list[Posted]:
        """Keep these, safely on the disk. One that waits there already stays as it was, and its
        amounts are told.
        """
        outcomes: list[Posted] = []
        with self._using(make=True) as driver:
            assert driver is not None
            driver.execute("BEGIN IMMEDIATE")
            for post in posts:
                row = (*astuple(post.entry), post.lease_id, post.charge, post.absorbed)
                is_new = driver.execute(_ADD, row).rowcount == 1
                amounts = (post.charge, post.absorbed)
                if not is_new:
                    amounts = driver.execute(_AMOUNTS, (post.entry.request_id,)).fetchone()
                outcomes.append(Posted(*amounts, inserted=is_new))
            driver.execute("COMMIT")
        self._count = None
        return outcomes

    def oldest(self, limit: int) -> list[Post]:
        """The first of them, at most so many."""
        with self._using(make=False) as driver:
            rows: Iterable[tuple[object, ...]] = driver.execute(_OLDEST, (limit,)) if driver else ()
            return [_post(row) for row in rows]

    def waiting(self) -> list[Spooled]:
        """All that wait, for a ledger that begins."""
        with self._using(make=False) as driver:
            return [Spooled(*row) for row in driver.execute(_WAITING)] if driver else []

    def drop(self, request_ids: Sequence[str]) -> None:
        """These are in the store now."""
        with self._using(make=False) as driver:
            if driver is not None:
                driver.execute("BEGIN IMMEDIATE")
                driver.executemany(_DROP, [(request_id,) for request_id in request_ids])
                driver.execute("COMMIT")
        self._count = None

    def close(self) -> None:
        """Close the file; what waits stays."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    @contextmanager
    def _using(self, *, make: bool) -> Generator[sqlite3.Connection | None]:
        """The open file; None if there is none and none is to be made."""
        try:
            if self._driver is not None and not self._path.exists():
                self.close()  # somebody deleted the file: what is written there would be too
            if self._driver is None and (make or self._path.exists()):
                self._driver = _open(self._path, self._store_id)
            yield self._driver
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"The spool {self._path} cannot be used: {error}.") from error
        finally:
            if self._driver is not None and self._driver.in_transaction:
                self._driver.execute("ROLLBACK")


def _open(path: Path, store_id: str) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # tells who called what: not for others
    driver = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute(_TABLE)
        driver.execute(_STORE)
        _claim(driver, path, store_id)
    except BaseException:
        driver.close()
        raise
    return driver


def _claim(driver: sqlite3.Connection, path: Path, store_id: str) -> None:
    """Have it say whose its calls are. One that is empty may be anybody's."""
    known = driver.execute("SELECT id FROM store").fetchone()
    if known == (store_id,):
        return
    (waiting,) = driver.execute(_COUNT).fetchone()
    if known is not None and waiting:
        raise StoreConflict(
            f"In {path} there are {waiting} calls of another store ({known[0]}), which have not "
            "been charged yet. Serve that store again until they are, or move the file away."
        )
    driver.execute("BEGIN IMMEDIATE")
    driver.execute("DELETE FROM store")
    driver.execute("INSERT INTO store (id) VALUES (?)", (store_id,))
    driver.execute("COMMIT")


def _post(row: tuple[object, ...]) -> Post:
    columns: list[object] = list(row)
    lease_id, charge, absorbed = columns[-3:]
    assert isinstance(lease_id, int | None)
    assert isinstance(charge, int)
    assert isinstance(absorbed, int)
    return Post(Entry(*columns[:-3]), lease_id, charge, absorbed)  # pyright: ignore[reportArgumentType]

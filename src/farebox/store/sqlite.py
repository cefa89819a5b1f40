"""The store in one SQLite file. The connections' common shape is connections.py's."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from farebox.store.connections import PATIENCE_MS, Connections, Driver, driver_of, reason
from farebox.store.errors import StoreError
from farebox.store.migrate import migrate
from farebox.store.posting_sqlite import SqliteTables
from farebox.store.tables import Tables

# Freed pages are overwritten, also where SQLite was not built to do so: deleted means gone.
_WIPE = "PRAGMA secure_delete = ON"
# The log of writes has pages of before the deletion, until it is written over: on a quiet gateway
# that may take days.
_EMPTY_LOG = "PRAGMA wal_checkpoint(TRUNCATE)"
_EMPTY_LOG_MS = 100  # whoever wants to write waits while this waits for readers


def _as_null(value: None) -> None:
    return value


# The driver knows how to bind None, but looks for an adapter first: where none is registered in two
# more places, which takes twice as long.
sqlite3.register_adapter(type(None), _as_null)


def connect(path: Path) -> sa.Engine:
    """An engine for the file; nothing is opened yet."""
    engine = sa.create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"check_same_thread": False, "timeout": PATIENCE_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        _set_up(connection)

    @event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _set_up(connection: sqlite3.Connection) -> None:
    # Transactions are ours to begin: the driver's own habit of beginning one before the first
    # write would let a transaction read first and then fail to become a writer.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")


class _Driver(sqlite3.Connection):
    """A connection of nobody's pool: taking one from SQLAlchemy's is a tenth of a small batch."""

    patience_ms = PATIENCE_MS  # what was last asked for


class SqliteConnections(Connections):
    """Connections to one file. There is one writer at a time whatever it writes."""

    is_postgresql = False
    errors = (sqlite3.OperationalError, sqlite3.DatabaseError)
    defects = (sqlite3.IntegrityError, sqlite3.DataError)

    def __init__(self, path: Path) -> None:
        self._file_path = path
        self.shown = str(path)
        self.reading = connect(path)
        self.writing = self.writing_rows = self.reading.execution_options(writes=True)
        self._drivers: list[_Driver] = []  # that are not in use
        self._file: tuple[int, int] | None = None

    @property
    def path(self) -> Path:
        return self._file_path

    def prepare(self) -> None:
        path = self._file_path
        try:
            if not (path.exists() and self.is_ready()):
                self._make()
        except OSError as error:
            raise StoreError(
                f"The store {path} cannot be opened: {error.strerror}. Check the permissions, or "
                "name another with --data-dir or --database."
            ) from error
        except (DBAPIError, sqlite3.Error) as error:
            raise StoreError(f"The store {path} cannot be opened: {reason(error)}.") from error
        self._file = _identity(path)

    def _make(self) -> None:
        path = self._file_path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only one process creates or migrates; the others wait here and find the work done.
        with _locked(path.with_name(path.name + ".lock")):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # holds money: not for others
            if self.is_ready():
                return
            with self.writing.connect() as connection:
                driver = driver_of(connection)
                # The mode is kept in the file. It lets readers read while a writer writes.
                driver.execute("PRAGMA journal_mode = WAL")
                # A table that changes is made anew, and others refer to it meanwhile. Within a
                # transaction this could not be switched; the last migration checks the references.
                driver.execute("PRAGMA foreign_keys = OFF")
                try:
                    with connection.begin():
                        migrate(connection)
                finally:
                    driver.execute("PRAGMA foreign_keys = ON")

    def check(self) -> None:
        # What is written to a file that was deleted is lost without an error, charges and all.
        if _identity(self._file_path) != self._file:
            raise StoreError(
                f"The store {self._file_path} was moved, deleted or replaced while it was in use. "
                "Put the file back where it was, or start the gateway again."
            )

    @contextmanager
    def asking(self) -> Generator[Driver]:
        driver = self._take()
        try:
            yield driver
        finally:
            self._drivers.append(driver)

    @contextmanager
    def driving(self, patience_ms: int) -> Generator[Driver]:
        driver = self._take()
        try:
            if driver.patience_ms != patience_ms:
                driver.execute(f"PRAGMA busy_timeout = {patience_ms}")
                driver.patience_ms = patience_ms
            driver.execute("BEGIN IMMEDIATE")
            yield driver
            driver.execute("COMMIT")
        finally:
            # Some errors, such as a full disk, have ended the transaction already.
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            self._drivers.append(driver)

    def _take(self) -> _Driver:
        try:
            return self._drivers.pop()
        except IndexError:
            return self._open()

    def _open(self) -> _Driver:
        driver = sqlite3.connect(
            self._file_path,
            timeout=PATIENCE_MS / 1000,
            check_same_thread=False,
            factory=_Driver,
        )
        _set_up(driver)
        return driver

    @contextmanager
    def posting(self, patience_ms: int) -> Generator[Tables]:
        with self.driving(patience_ms) as driver:
            yield SqliteTables(cast("sqlite3.Connection", driver))

    def close(self) -> None:
        while self._drivers:
            self._drivers.pop().close()
        super().close()

    def wipe(self, driver: Driver) -> None:
        driver.execute(_WIPE)

    def empty_log(self) -> None:
        pooled = self.writing.raw_connection()
        driver: sqlite3.Connection = driver_of(pooled)
        try:
            driver.execute(f"PRAGMA busy_timeout = {_EMPTY_LOG_MS}")
            driver.execute(_EMPTY_LOG)  # says so if it could not; then the next does
        finally:
            driver.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
            pooled.close()


@contextmanager
def _locked(path: Path) -> Generator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino

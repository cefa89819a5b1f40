"""The connections to the store and its transactions. What is in it is the other files'."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from farebox.store.errors import BadStoreUrl, StoreError
from farebox.store.migrate import is_current, migrate

BUSY_TIMEOUT_MS = 10_000  # how long one writer waits for another before it gives up


def sqlite_path(database_url: str) -> Path:
    """The file of a `sqlite:///…` URL. Raises BadStoreUrl with a sentence for any other URL."""
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise BadStoreUrl(
            f"{database_url!r} is not a database URL. Use sqlite:///PATH, such as "
            "sqlite:////var/lib/farebox/farebox.db."
        ) from None
    if url.get_backend_name() == "postgresql":
        raise BadStoreUrl(
            f"PostgreSQL isn't supported by this version ({_shown(url)}). "
            "Use sqlite:///PATH, or leave --database out."
        )
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise BadStoreUrl(f"{_shown(url)} is no store that Farebox knows. Use sqlite:///PATH.")
    if not url.database or url.database == ":memory:" or url.query:
        raise BadStoreUrl(
            f"{_shown(url)} names no file. Use sqlite:///PATH: several processes share the store."
        )
    return Path(url.database)


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def connect(path: Path) -> sa.Engine:
    """An engine for the SQLite file; nothing is opened yet."""
    engine = sa.create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        # Transactions are ours to begin: the driver's own habit of beginning one before the first
        # write would let a transaction read first and then fail to become a writer.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def create_and_migrate(engine: sa.Engine, path: Path) -> None:
    """Make the file if it is missing and bring its schema up to date. Raises StoreError."""
    try:
        if path.exists() and _ready(engine):
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only one process creates or migrates; the others wait here and find the work done.
        with _locked(path.with_name(path.name + ".lock")):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # holds money: not for others
            if _ready(engine):
                return
            # The mode is kept in the file. It lets readers read while a writer writes.
            with engine.connect() as connection:
                _driver(connection).execute("PRAGMA journal_mode = WAL")
            with engine.execution_options(writes=True).begin() as connection:
                migrate(connection)
    except OSError as error:
        raise StoreError(
            f"The store {path} cannot be opened: {error.strerror}. Check the permissions, or name "
            "another with --data-dir or --database."
        ) from error
    except (DBAPIError, sqlite3.Error) as error:
        raise StoreError(f"The store {path} cannot be opened: {_reason(error)}.") from error


def _ready(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        return is_current(connection)


def _reason(error: Exception) -> object:
    return error.orig if isinstance(error, DBAPIError) else error


def _driver(connection: sa.Connection | sa.PoolProxiedConnection) -> sqlite3.Connection:
    if isinstance(connection, sa.Connection):
        connection = connection.connection
    driver: Any = connection.driver_connection
    return driver


@contextmanager
def _locked(path: Path) -> Generator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class StoreBase:
    """An open store: its engine and three kinds of transaction, shared by the themes of Store."""

    def __init__(self, engine: sa.Engine, path: Path) -> None:
        self._engine = engine
        self._writes = engine.execution_options(writes=True)
        self._path = path
        self._file = _identity(path)

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Generator[sa.Connection]:
        """One snapshot of the store."""
        with self._sentences(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Generator[sa.Connection]:
        """A transaction that is the only writer from its first statement on."""
        with self._sentences(), self._writes.begin() as connection:
            yield connection

    @contextmanager
    def _driving(self, patience_ms: int = BUSY_TIMEOUT_MS) -> Generator[sqlite3.Connection]:
        """The same without SQLAlchemy's share of the work, for statements of the hot path."""
        with self._sentences():
            pooled = self._engine.raw_connection()
            driver = _driver(pooled)
            try:
                if patience_ms != BUSY_TIMEOUT_MS:
                    driver.execute(f"PRAGMA busy_timeout = {patience_ms}")
                with _transaction(driver):
                    yield driver
            finally:
                if patience_ms != BUSY_TIMEOUT_MS:
                    driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
                pooled.close()

    @contextmanager
    def _sentences(self) -> Generator[None]:
        """Errors of the database as StoreError; a broken constraint is a defect and stays one."""
        # What is written to a file that was deleted is lost without an error, charges and all.
        if _identity(self._path) != self._file:
            raise StoreError(
                f"The store {self._path} was moved, deleted or replaced while it was in use. "
                "Put the file back where it was, or start the gateway again."
            )
        try:
            yield
        except (IntegrityError, sqlite3.IntegrityError):
            raise
        except (DBAPIError, sqlite3.Error, OSError) as error:
            raise StoreError(f"The store {self._path} failed: {_reason(error)}.") from error


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _transaction(driver: sqlite3.Connection) -> Generator[None]:
    """BEGIN IMMEDIATE … COMMIT on a plain connection; leaving by an exception rolls back."""
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield
        driver.execute("COMMIT")
    except BaseException:
        # Some errors, such as a full disk, have ended the transaction already.
        if driver.in_transaction:
            driver.execute("ROLLBACK")
        raise

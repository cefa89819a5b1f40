"""The store in a PostgreSQL database. The connections' common shape is connections.py's.

psycopg is an extra, so nothing of this is imported before a URL asks for it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from farebox.store.connections import PATIENCE_MS, Connections, Driver, driver_of, reason
from farebox.store.errors import BadStoreUrl, StoreError
from farebox.store.migrate import migrate
from farebox.store.postgresql_session import Session
from farebox.store.posting_postgresql import STATEMENTS, PostgresTables
from farebox.store.tables import Tables
from farebox.store.urls import shown

CONNECT_S = 2  # psycopg takes no less; a server that is there answers within milliseconds
_POOL = 4  # connections that a process keeps; a server has a hundred by default
_MORE = 4  # and these for a moment
# Advisory locks are numbers that a database's users agree on: "farebox" and which one it is.
WRITER_LOCK = 0x6661_7265_626F_7801
_MIGRATION_LOCK = 0x6661_7265_626F_7802
_MIGRATION_PATIENCE = "600s"  # another process may have a large store to migrate

# A role or database may have other defaults: an answer must be worth a disk's sync, and a report
# may take its time.
_SESSION = f"""
    SET synchronous_commit = on; SET statement_timeout = 0; SET lock_timeout = {PATIENCE_MS}
"""
# A host that vanished must not hold what all others wait for until TCP notices.
_ALONE = f"""
    SELECT set_config('idle_in_transaction_session_timeout', '60s', true),
    pg_advisory_xact_lock({WRITER_LOCK})
"""
# Two statements in one message. The number is an int's.
_BEGIN = """
    BEGIN; SELECT set_config('lock_timeout', '{ms:d}', true),
    set_config('statement_timeout', '{ms:d}', true),
    set_config('idle_in_transaction_session_timeout', '60s', true)
"""
_MIGRATING = f"""
    SELECT set_config('lock_timeout', '{_MIGRATION_PATIENCE}', true),
    pg_advisory_xact_lock({_MIGRATION_LOCK})
"""
_MIGRATION_BEGINS = f"SELECT set_config('lock_timeout', '{PATIENCE_MS}', true)"

# What can be done about a start that failed, by words of the server's message.
_REMEDIES = (
    ("password", "Check the user and the password: of the URL, of PGPASSWORD or of ~/.pgpass."),
    ("does not exist", "Make the user and the database first: docs/operations.md says how."),
    ("permission denied", "The user must own the database, or be allowed to make tables in it."),
    ("", "Check that the server runs, and that the URL names it."),
)


def connect(url: URL) -> sa.Engine:
    """An engine for the database; nothing is opened yet."""
    # What the URL itself says of these counts.
    defaults: dict[str, Any] = {
        "connect_timeout": CONNECT_S,
        "application_name": "farebox",
        "client_encoding": "utf8",
        # A host that is gone is noticed when it does not acknowledge, not after TCP's two hours.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": CONNECT_S * 1000,
    }
    engine = sa.create_engine(
        url,
        connect_args={name: value for name, value in defaults.items() if name not in url.query},
        # Before each use, so that a restart of the database is not felt by whoever comes next.
        pool_pre_ping=True,
        pool_use_lifo=True,
        pool_size=_POOL,
        max_overflow=_MORE,
        pool_timeout=PATIENCE_MS / 1000,
        use_native_hstore=False,  # would be a query for a type that is not used
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: psycopg.Connection, _record: object) -> None:
        connection.autocommit = True
        connection.execute(_SESSION.encode())
        connection.autocommit = False

    @event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("alone", False):
            connection.exec_driver_sql(_ALONE)

    return engine


def detached(engine: sa.Engine) -> psycopg.Connection[Any]:
    """A connection as the engine's own are, but nobody else's. Raises psycopg.Error."""
    try:
        pooled = engine.raw_connection()
    except DBAPIError as error:
        raise error.orig or error from None
    driver: psycopg.Connection[Any] = driver_of(pooled)
    pooled.detach()
    driver.rollback()
    driver.autocommit = True
    return driver


class PostgresConnections(Connections):
    """Connections to one database, which other hosts use too."""

    is_postgresql = True
    errors = (psycopg.Error,)
    defects = (psycopg.IntegrityError, psycopg.DataError)

    def __init__(self, url: URL) -> None:
        self.shown = shown(url)
        try:
            make_conninfo("", **{name: str(value) for name, value in url.query.items()})
        except psycopg.ProgrammingError as error:
            raise BadStoreUrl(f"{self.shown} cannot be used: {reason(error)}.") from error
        self.writing_rows = connect(url)
        self.writing = self.writing_rows.execution_options(alone=True)
        self.reading = self.writing_rows.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._apart = connect(url)  # no connection stays in its pool
        self._sessions: list[Session] = []  # that are not in use

    @property
    def path(self) -> None:
        return None

    def prepare(self) -> None:
        try:
            if not self.is_ready():
                self._make()
        except (DBAPIError, psycopg.Error) as error:
            what = reason(error)
            remedy = next(remedy for words, remedy in _REMEDIES if words in what)
            raise StoreError(
                f"The store {self.shown} cannot be opened: {what}. {remedy}"
            ) from error

    def _make(self) -> None:
        with self.writing_rows.begin() as connection:
            # Only one process migrates; the others wait here and find the work done.
            connection.exec_driver_sql(_MIGRATING)
            if self.is_ready():
                return
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
            if encoding != "UTF8":
                raise StoreError(
                    f"The database {self.shown} has the encoding {encoding}. Make one with UTF8: "
                    "CREATE DATABASE name TEMPLATE template0 ENCODING 'UTF8'."
                )
            connection.exec_driver_sql(_MIGRATION_BEGINS)
            migrate(connection)

    def check(self) -> None:
        pass  # a database that is gone says so itself

    @contextmanager
    def driving(self, patience_ms: int) -> Generator[Driver]:
        pooled = self.writing_rows.raw_connection()
        driver: psycopg.Connection[Any] = driver_of(pooled)
        try:
            driver.autocommit = True  # BEGIN and COMMIT are ours, and nothing begins by itself
            driver.execute(_BEGIN.format(ms=patience_ms).encode())
            yield driver
            driver.execute("COMMIT")
        finally:
            _give_back(pooled, driver)

    def asking(self) -> AbstractContextManager[Driver]:
        return self.driving(PATIENCE_MS)

    @contextmanager
    def posting(self, patience_ms: int) -> Generator[Tables]:
        try:
            session = self._sessions.pop()
        except IndexError:
            session = Session(partial(detached, self._apart), STATEMENTS)
        try:
            session.begin(patience_ms)
            yield PostgresTables(session)
            session.commit()
        finally:
            session.roll_back()  # nothing, after a commit
            self._sessions.append(session)

    def close(self) -> None:
        while self._sessions:
            self._sessions.pop().close()
        super().close()

    def wipe(self, driver: Driver) -> None:
        pass  # what is deleted goes when the server vacuums, and from its log as that is recycled

    def empty_log(self) -> None:
        pass


def _give_back(pooled: sa.PoolProxiedConnection, driver: psycopg.Connection[Any]) -> None:
    """Back to the pool, with what was not committed undone; a connection that broke is dropped."""
    with suppress(psycopg.Error):
        driver.rollback()  # nothing, after a commit
        driver.autocommit = False
    if driver.closed or driver.info.transaction_status != TransactionStatus.IDLE:
        pooled.invalidate()
    pooled.close()

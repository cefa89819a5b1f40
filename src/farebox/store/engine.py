"""An open store and its transactions, on either engine. What is in it is the other files'."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from farebox.store.connections import PATIENCE_MS, Connections, Driver, reason
from farebox.store.errors import BadStoreUrl, StoreError
from farebox.store.sqlite import SqliteConnections
from farebox.store.urls import is_postgresql, parse_url, sqlite_path


def connections_to(database_url: str, data_dir: Path) -> Connections:
    """The way to the database of that URL; nothing is opened yet. Raises BadStoreUrl.

    A path in the URL that is not absolute counts from `data_dir`.
    """
    url = parse_url(database_url)
    if not is_postgresql(url):
        return SqliteConnections(data_dir / sqlite_path(url))
    try:
        # Its driver is an extra, and takes a while to load.
        from farebox.store.postgresql import PostgresConnections
    except ImportError as error:
        raise BadStoreUrl(
            "A PostgreSQL store needs the driver psycopg, which is not here or does not load "
            f"({reason(error)}). Install it with: pip install 'farebox[postgres]'."
        ) from error
    return PostgresConnections(url)


class StoreBase:
    """An open store: its connections and kinds of transaction, shared by the themes of Store."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def shown(self) -> str:
        """What to call it in sentences: the path, or the URL without its password."""
        return self._connections.shown

    @property
    def is_postgresql(self) -> bool:
        """Whether it is PostgreSQL, which other hosts may share; else it is a SQLite file."""
        return self._connections.is_postgresql

    @property
    def path(self) -> Path:
        """The file that holds it, with SQLite. Not to be asked for with PostgreSQL."""
        path = self._connections.path
        assert path is not None, "a PostgreSQL store is no file"
        return path

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._connections.close()

    @contextmanager
    def _reading(self) -> Generator[sa.Connection]:
        """One snapshot of the store."""
        with self._sentences(), self._connections.reading.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Generator[sa.Connection]:
        """A transaction that is the only one of this kind from its first statement on.

        With PostgreSQL those of `_driving` and `_writing_rows` run beside it: lock the rows that
        both change.
        """
        with self._sentences(), self._connections.writing.begin() as connection:
            yield connection

    @contextmanager
    def _writing_rows(self) -> Generator[sa.Connection]:
        """A transaction for rows that nobody else writes: with PostgreSQL it waits for nobody."""
        with self._sentences(), self._connections.writing_rows.begin() as connection:
            yield connection

    @contextmanager
    def _driving(self, patience_ms: int = PATIENCE_MS) -> Generator[Driver]:
        """The same without SQLAlchemy's share of the work, for statements of the hot path: on the
        driver's own connection, sqlite3.Connection or psycopg.Connection.

        With PostgreSQL a statement gives up after `patience_ms`, with SQLite the wait for the lock.
        """
        with self._sentences(), self._connections.driving(patience_ms) as driver:
            yield driver

    @contextmanager
    def _asking(self) -> Generator[Driver]:
        """One statement that reads, without SQLAlchemy's share of the work either."""
        with self._sentences(), self._connections.asking() as driver:
            yield driver

    @contextmanager
    def _sentences(self) -> Generator[None]:
        """Errors of the database as StoreError; a broken constraint is a defect and stays one, as
        does a value that a column cannot hold.
        """
        connections = self._connections
        connections.check()
        try:
            yield
        except (IntegrityError, DataError, *connections.defects):
            raise
        except (DBAPIError, PoolTimeout, OSError, *connections.errors) as error:
            raise StoreError(f"The store {self.shown} failed: {reason(error)}.") from error

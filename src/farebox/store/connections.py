"""What an engine does for the store: its transactions, its errors, its first start. Two files fill
this in, sqlite.py and postgresql.py; engine.py uses it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from farebox.store.migrate import is_current
from farebox.store.tables import Tables

PATIENCE_MS = 10_000  # how long one writer waits for another before it gives up


class Cursor(Protocol):
    """What both drivers' cursors have in common."""

    @property
    def rowcount(self) -> int:
        """Rows that the statement touched or found."""
        ...

    def execute(self, statement: Any, parameters: Any = ..., /) -> Any:
        """Run one statement."""
        ...

    def executemany(self, statement: Any, parameters: Any, /) -> Any:
        """Run one statement for each of the parameters."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        ...


class Driver(Protocol):
    """What sqlite3.Connection and psycopg.Connection have in common. Parameters are `?` and `:name`
    for the one, `%s` and `%(name)s` for the other.
    """

    def execute(
        self, statement: Any, parameters: Sequence[Any] | Mapping[str, Any] = ..., /
    ) -> Cursor:
        """Run one statement."""
        ...

    def cursor(self) -> Cursor:
        """A new cursor."""
        ...


Both = tuple[str, str]  # a statement for SQLite, and for PostgreSQL: indexed by is_postgresql
_PARAMETER = re.compile(r":(\w+)")


def both(statement: str, lock: str = "") -> Both:
    """A statement that is the same on both engines but for how their drivers write parameters.
    `lock` is what PostgreSQL needs beside it where SQLite has one writer anyway.
    """
    return statement, _PARAMETER.sub(r"%(\1)s", statement) + lock


class Connections(ABC):
    """The connections to one database, and how they are used."""

    is_postgresql: ClassVar[bool]
    # What the driver raises when the database cannot be used, and what it raises for values that
    # contradict the schema: the first become StoreError, the second are defects and stay.
    errors: ClassVar[tuple[type[Exception], ...]]
    defects: ClassVar[tuple[type[Exception], ...]]

    reading: sa.Engine  # one snapshot
    writing: sa.Engine  # the only writer
    writing_rows: sa.Engine  # a writer beside others
    shown: str  # the URL or path for sentences, without password

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """The file that holds it, if one does."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what is missing and bring the schema up to date. Raises StoreError."""

    @abstractmethod
    def check(self) -> None:
        """Raise StoreError if the store is not the one any more that was opened."""

    @abstractmethod
    def driving(self, patience_ms: int) -> AbstractContextManager[Driver]:
        """A transaction on the driver's own connection, as a writer beside others."""

    @abstractmethod
    def asking(self) -> AbstractContextManager[Driver]:
        """The driver's own connection for one statement that only reads."""

    @abstractmethod
    def posting(self, patience_ms: int) -> AbstractContextManager[Tables]:
        """The same for a ledger's batches, with their statements."""

    @abstractmethod
    def wipe(self, driver: Driver) -> None:
        """Within a transaction: leave nothing in the file of what it replaces or deletes."""

    @abstractmethod
    def empty_log(self) -> None:
        """Take what was deleted out of the log of writes too, if nobody is in the way."""

    def close(self) -> None:
        """Close every connection that is not in use."""
        self.writing.dispose()

    def is_ready(self) -> bool:
        """Whether the schema is the present one. Raises StoreError for one from the future."""
        with self.writing.connect() as connection:
            return is_current(connection)


def driver_of(connection: sa.Connection | sa.PoolProxiedConnection) -> Any:
    """The driver's connection below SQLAlchemy's."""
    if isinstance(connection, sa.Connection):
        connection = connection.connection
    return connection.driver_connection


def reason(error: Exception) -> str:
    """What went wrong in the database's words, in one line without its full stop."""
    original: Any = error.orig if isinstance(error, DBAPIError) else error
    # PostgreSQL tells more than one line of an error; what it was comes first. Lines that begin
    # with a tab are questions to whoever reads it.
    diagnosis = getattr(original, "diag", None)
    text = str(getattr(diagnosis, "message_primary", None) or original)
    lines = [line for line in text.splitlines() if not line.startswith("\t")]
    return " ".join(" ".join(lines).split()).removeprefix("connection failed: ").rstrip(".")

"""A connection to PostgreSQL that a ledger keeps for its transactions, spoken to at libpq's level.

Several statements are one message and one wait, and were prepared once. That costs a fraction of
what one after the other does by psycopg's cursors, and batches of calls consist of little else.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

# What texts and plans are made with is not left to what a role, a database or a URL says.
_SETTINGS = (
    "SET client_encoding = 'UTF8'",
    "SET standard_conforming_strings = on",
    "SET plan_cache_mode = force_generic_plan",
    "SET idle_in_transaction_session_timeout = '60s'",  # a host that vanished holds up the others
)
_CONVERSIONS: dict[int, Callable[[bytes], Any]] = {
    16: b"t".__eq__,  # boolean
    20: int,  # bigint
    23: int,  # integer
}


class Session:
    """See the module. For one thread at a time; raises psycopg.Error. To be closed.

    `connect` opens a connection, when one is needed; `prepared` are statements by their names, as
    PREPARE has them: `(bigint, text) AS SELECT …`.
    """

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Any]], prepared: Mapping[str, str]
    ) -> None:
        self._connect = connect
        self._prepared = [f"PREPARE {name} {statement}" for name, statement in prepared.items()]
        self._connection: psycopg.Connection[Any] | None = None
        self._limit_ms = 0  # of a statement, and of its waiting for a lock
        self._wanted_ms = 0
        self.is_begun = False  # something was said in this transaction

    def begin(self, limit_ms: int) -> None:
        """From here on, what is asked is within one transaction; its first message begins it."""
        self._wanted_ms = limit_ms
        self.is_begun = False

    def ask(self, statements: Sequence[str], data: bytes = b"") -> list[PGresult]:
        """What each of these came to; `data` is for the last one, if it is a COPY.

        A connection that is found dead when a transaction begins is replaced, so that a restart of
        the server between two of them is not felt.
        """
        if not statements:
            return []
        if self.is_begun:
            return self._exchange(statements, data)
        self.is_begun = True
        if self._connection is not None:
            try:
                return self._begin(statements, data)
            except psycopg.Error:  # libpq gives some of a lost connection no kind of their own
                if not self._is_lost:
                    raise
        self._open()
        return self._begin(statements, data)

    def commit(self) -> None:
        """The end of the transaction, if anything was said in it."""
        if self.is_begun:
            (done,) = self._exchange(["COMMIT"])
            assert done.command_status == b"COMMIT", "a statement had failed"
            self.is_begun = False

    def roll_back(self) -> None:
        """Undo what was not committed; nothing after a commit. A connection that broke, or waits
        for an answer still, is dropped. Raises nothing.
        """
        is_begun, self.is_begun = self.is_begun, False
        if is_begun and self._connection is not None:
            with suppress(psycopg.Error):
                if self._pgconn.transaction_status != TransactionStatus.ACTIVE:
                    self._exchange(["ROLLBACK"])
            if self._pgconn.transaction_status != TransactionStatus.IDLE:
                self.close()

    def close(self) -> None:
        """Hang up. What is asked next opens a connection again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _pgconn(self) -> PGconn:
        assert self._connection is not None
        return self._connection.pgconn

    @property
    def _is_lost(self) -> bool:
        return self._pgconn.status != ConnStatus.OK

    def _open(self) -> None:
        self.close()
        self._connection = self._connect()
        self._readable, self._either = select.poll(), select.poll()
        self._readable.register(self._pgconn.socket, select.POLLIN)
        self._either.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)
        self._limit_ms = 0
        try:
            self._exchange([*_SETTINGS, *self._prepared])
        except psycopg.Error:
            self.close()  # what is asked next must not find a connection without the statements
            raise

    def _begin(self, statements: Sequence[str], data: bytes) -> list[PGresult]:
        if self._limit_ms != self._wanted_ms:
            limits = ("lock_timeout", "statement_timeout")
            self._exchange([f"SET {name} = {self._wanted_ms:d}" for name in limits])
            self._limit_ms = self._wanted_ms
        return self._exchange(["BEGIN", *statements], data)[1:]

    def _exchange(self, statements: Sequence[str], data: bytes = b"") -> list[PGresult]:
        message = ";".join(statements).encode()
        if b"\0" in message:
            raise psycopg.DataError("PostgreSQL's texts have no NUL")
        pgconn = self._pgconn
        pgconn.send_query(message)
        results: list[PGresult] = []
        while (result := self._next()) is not None:
            if result.status == ExecStatus.COPY_IN:
                pgconn.put_copy_data(data)
                pgconn.put_copy_end()
            else:
                results.append(result)
        if results[-1].status == ExecStatus.FATAL_ERROR:
            raise error_from_result(results[-1])
        return results

    def _next(self) -> PGresult | None:
        """The next result of a message; None: it had no more. The others' threads run meanwhile."""
        pgconn = self._pgconn
        while pgconn.flush():
            self._either.poll()
            pgconn.consume_input()  # or each side might wait for the other to read
        while pgconn.is_busy():
            self._readable.poll()
            pgconn.consume_input()
        return pgconn.get_result()


def execute(name: str, *values: int | str | None) -> str:
    """A prepared statement with its parameters."""
    return f"EXECUTE {name}({', '.join(map(_literal, values))})" if values else f"EXECUTE {name}"


def rows_of(result: PGresult) -> list[tuple[Any, ...]]:
    """The rows of a result, of integers, booleans and texts."""
    get = result.get_value
    conversions = [
        _CONVERSIONS.get(result.ftype(column), bytes.decode) for column in range(result.nfields)
    ]
    return [
        tuple(
            None if (value := get(row, column)) is None else convert(value)
            for column, convert in enumerate(conversions)
        )
        for row in range(result.ntuples)
    ]


def _literal(value: int | str | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"

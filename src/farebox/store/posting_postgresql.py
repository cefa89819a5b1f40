"""The statements of posting.py for PostgreSQL: few round trips, and rows as one JSON document; many
calls by COPY.

Measured with 100 rows of `usage` a statement, CPU of client and server, microseconds a row:
json_to_recordset 3 + 17, jsonb_to_recordset 3 + 28, unnest of arrays that the driver makes 35 + 18,
unnest of array literals made here 8 + 16; one VALUES list, with 16 rows, 85 + 20.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import psycopg

from farebox.billing.jobs import OpenLease
from farebox.store.schema import lease_hours, metadata, usage, usage_hours
from farebox.store.tables import (
    TRANSFER,
    AccountState,
    Ask,
    Changes,
    Found,
    LeaseState,
    Row,
)

_JSON = msgspec.json.Encoder()
# Keys of the JSON objects: short, since the server compares them with each column's.
_KEYS = tuple(f"c{n}" for n in range(len(usage.columns)))


class _Rows:
    """Rows as a JSON document, and the table that PostgreSQL makes of it."""

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        types = metadata.tables[table].columns
        keys = _KEYS[: len(columns)]
        texts = [types[name].type.python_type is str for name in columns]
        self._struct = msgspec.defstruct("_Row", [(key, Any) for key in keys], gc=False)
        self.columns = ", ".join(columns)
        self.parameter = "%s::json"
        self.table = "r({})".format(
            ", ".join(
                f"{key} {'text' if is_text else 'bigint'}"
                for key, is_text in zip(keys, texts, strict=True)
            )
        )

    def document(self, rows: Iterable[Row]) -> str:
        """The parameter."""
        made = self._struct
        return _JSON.encode([made(*row) for row in rows]).decode()


def _insert(table: str, rows: _Rows) -> str:
    return (
        f"INSERT INTO {table} ({rows.columns})"
        f" SELECT * FROM json_to_recordset({rows.parameter}) AS {rows.table}"
    )


def _added(table: str, names: Iterable[str]) -> str:
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in names)


_LEASES = """
    SELECT id, account_id, owner, state, granted, spent, returned FROM leases
    WHERE id = ANY(%s::bigint[]) ORDER BY id FOR NO KEY UPDATE
"""
_ACCOUNTS = """
    SELECT id, available, credit_limit, disabled = 0 FROM accounts
    WHERE id = ANY(%s::bigint[]) ORDER BY id FOR NO KEY UPDATE
"""
# A statement of its own: it must see what was committed while the accounts' locks were waited for.
_HELD = """
    SELECT account_id, sum(granted - spent - returned)::bigint FROM leases
    WHERE account_id = ANY(%s::bigint[]) AND state IN ('open', 'draining') GROUP BY account_id
"""
# By the roll-ups, since periods begin with an hour.
_SPENT = """
    SELECT coalesce(sum(charge), 0)::bigint FROM usage_hours
    WHERE account_id = (SELECT account_id FROM keys WHERE id = %(key_id)s)
        AND key_id = %(key_id)s AND hour_us >= %(since_us)s
"""
_UNSPENT = """
    SELECT id, account_id, granted - spent - returned FROM leases
    WHERE owner = %s AND state IN ('open', 'draining') ORDER BY id
"""
_NEW_LEASES = """
    SELECT nextval(pg_get_serial_sequence('leases', 'id')) FROM generate_series(1, %s::int)
"""
_WRITTEN = "SELECT request_id, charge, absorbed FROM usage WHERE request_id = ANY(%s::text[])"
_USAGE_ROWS = _Rows("usage", [column.name for column in usage.columns])
_USAGE = _insert("usage", _USAGE_ROWS) + " ON CONFLICT (request_id) DO NOTHING RETURNING request_id"
# Many rows are copied, which spares the server 5 µs a row, but knows no conflict. NULL is written
# as Python writes None.
_COPY = f"COPY usage ({_USAGE_ROWS.columns}) FROM STDIN WITH (NULL 'None')"
_MANY = 32  # two more round trips and a savepoint are worth it
_BEFORE_COPY = "SAVEPOINT before_copy"
_UNDO_COPY = "ROLLBACK TO SAVEPOINT before_copy"
_LINE = "\t".join(["%s"] * len(usage.columns)) + "\n"
_TABS = _LINE.count("\t")
_ESCAPED = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_NULLABLE_TEXTS = [
    n
    for n, column in enumerate(usage.columns)
    if column.nullable and column.type.python_type is str
]
_TAKE_BACK = "DELETE FROM usage WHERE request_id = ANY(%s::text[])"
_NEW_LEASE_ROWS = _Rows(
    "leases", ("id", "account_id", "owner", "state", "granted", "spent", "returned", "opened_us")
)
_NEW_LEASE = _insert("leases", _NEW_LEASE_ROWS)
# What every batch of calls writes is one statement.
_LEASE_ROWS = _Rows("leases", ("id", "granted", "spent", "returned", "state", "closed_us"))
_TRANSFER_ROWS = _Rows("transfers", TRANSFER)
_LEASE_HOUR_ROWS = _Rows("lease_hours", [column.name for column in lease_hours.columns])
_HOUR_COLUMNS = [column.name for column in usage_hours.columns]
_HOUR_ROWS = _Rows("usage_hours", _HOUR_COLUMNS)
_CALLS = f"""
    WITH moved AS ({_insert("transfers", _TRANSFER_ROWS)}),
    of_leases AS (
        {_insert("lease_hours", _LEASE_HOUR_ROWS)}
        ON CONFLICT (lease_id, hour_us) DO UPDATE
        SET {_added("lease_hours", ("calls", "charge"))}
    ),
    of_hours AS (
        {_insert("usage_hours", _HOUR_ROWS)}
        ON CONFLICT (account_id, key_id, model, hour_us) DO UPDATE
        SET {_added("usage_hours", _HOUR_COLUMNS[4:])}
    )
    UPDATE leases SET granted = granted + c1, spent = spent + c2, returned = returned + c3,
        state = c4, closed_us = c5
    FROM json_to_recordset(%s::json) AS {_LEASE_ROWS.table}
    WHERE id = c0 AND leases.state IN ('open', 'draining')
"""
_ACCOUNT_ROWS = _Rows("accounts", ("id", "available"))
_ACCOUNT = f"""
    UPDATE accounts SET available = available + c1
    FROM json_to_recordset(%s::json) AS {_ACCOUNT_ROWS.table} WHERE id = c0
"""
# The seal of an hour whose rows were dropped stays: there is nothing to count it by any more.
_UNSEAL = "DELETE FROM sealed_hours WHERE hour_us = ANY(%s::bigint[]) AND dropped_us IS NULL"
_UNDELIVERED = """
    UPDATE usage SET outcome = 'undelivered'
    WHERE request_id = ANY(%s::text[]) AND outcome = 'complete'
"""
_REJECT = """
    INSERT INTO settle_rejected (request_id, entry, error, created_us) VALUES (%s, %s, %s, %s)
"""

# What is wrong with a job. All else is the server's, as a table or a right that is missing: calls
# must not go free for that.
_FAULTS = (psycopg.IntegrityError, psycopg.DataError)


class PostgresTables:
    """tables.Tables on a connection of psycopg."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def look(self, ask: Ask) -> Found:
        """See tables.Tables."""
        execute = self._driver.execute
        locked, held, found, fresh, inserted = None, None, None, None, None
        is_many = len(ask.rows) >= _MANY
        with self._driver.pipeline():
            if ask.accounts:
                locked = execute(_ACCOUNTS, (_listed(ask.accounts),))
                held = execute(_HELD, (_listed(ask.accounts),))
            if ask.leases:
                found = execute(_LEASES, (_listed(ask.leases),))
            if ask.new_leases:
                fresh = execute(_NEW_LEASES, (ask.new_leases,))
            sums = [
                execute(_SPENT, {"key_id": each.key_id, "since_us": each.since_us})
                for each in ask.spendings
            ]
            if is_many:
                execute(_BEFORE_COPY)
            elif ask.rows:
                inserted = execute(_USAGE, (_USAGE_ROWS.document(ask.rows),))
        holds = dict(held.fetchall()) if held else {}
        return Found(
            {row[0]: _account(row, holds.get(row[0], 0)) for row in locked or ()},
            {row[0]: LeaseState(*row) for row in found or ()},
            [each.fetchall()[0][0] for each in sums],
            [row[0] for row in fresh or ()],
            self._copy(ask.rows) if is_many else self._written(ask.rows, inserted or ()),
        )

    def _copy(self, rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
        """Insert many; charge and absorbed of those that were there before."""
        try:
            with self._driver.cursor().copy(_COPY) as copy:
                copy.write(_lines(rows))
        except psycopg.errors.UniqueViolation:
            self._driver.execute(_UNDO_COPY)
            inserted = self._driver.execute(_USAGE, (_USAGE_ROWS.document(rows),))
            return self._written(rows, inserted)
        return {}

    def _written(self, rows: Sequence[Row], inserted: Iterable[Row]) -> dict[str, tuple[int, int]]:
        """Charge and absorbed of those that were there before. `inserted`: ids of the others."""
        new = {row[0] for row in inserted}
        if len(new) == len(rows):
            return {}
        before = [row[0] for row in rows if row[0] not in new]
        return {row[0]: (row[1], row[2]) for row in self._driver.execute(_WRITTEN, (before,))}

    def write(self, changes: Changes, now_us: int) -> None:
        """See tables.Tables."""
        execute = self._driver.execute
        changed = None
        with self._driver.pipeline():
            if changes.taken_back:
                execute(_TAKE_BACK, (changes.taken_back,))
            new = [
                (each.lease_id, each.account_id, each.owner, "open", 0, 0, 0, now_us)
                for each in changes.leases
                if each.is_new
            ]
            if new:
                execute(_NEW_LEASE, (_NEW_LEASE_ROWS.document(new),))
            if changes.accounts:
                rows = [(each.account_id, each.change) for each in changes.accounts]
                execute(_ACCOUNT, (_ACCOUNT_ROWS.document(rows),))
            if changes.leases or changes.transfers or changes.usage_hours:
                changed = execute(
                    _CALLS,
                    (
                        _TRANSFER_ROWS.document(changes.transfers),
                        _LEASE_HOUR_ROWS.document(changes.lease_hours),
                        _HOUR_ROWS.document(changes.usage_hours),
                        _LEASE_ROWS.document(_lease(each, now_us) for each in changes.leases),
                    ),
                )
            if changes.unsealed:
                execute(_UNSEAL, (_listed(changes.unsealed),))
            if changes.undelivered:
                execute(_UNDELIVERED, (changes.undelivered,))
        assert changed is None or changed.rowcount == len(changes.leases)

    def unspent(self, owner: str) -> list[OpenLease]:
        """See tables.Tables."""
        return [OpenLease(*row) for row in self._driver.execute(_UNSPENT, (owner,))]

    def reject(self, row: Row) -> None:
        """See tables.Tables."""
        self._driver.execute(_REJECT, row)

    def execute(self, statement: str) -> None:
        """See tables.Tables."""
        self._driver.execute(statement)

    def is_away(self, error: Exception) -> bool:
        """See tables.Tables."""
        return isinstance(error, psycopg.Error) and not isinstance(error, _FAULTS)


def _lines(rows: Sequence[Row]) -> str:
    """Rows of `usage` as COPY reads them."""
    lines = "".join([_LINE % row for row in rows])
    is_plain = (
        "\\" not in lines
        and "\r" not in lines
        and lines.count("\n") == len(rows)
        and lines.count("\t") == len(rows) * _TABS
        and not any(row[n] == "None" for row in rows for n in _NULLABLE_TEXTS)
    )
    return lines if is_plain else "".join([_LINE % tuple(map(_escape, row)) for row in rows])


def _escape(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return r"\None" if value == "None" else value.translate(_ESCAPED)


def _lease(lease: LeaseState, now_us: int) -> Row:
    return (
        lease.lease_id,
        lease.more_granted,
        lease.more_spent,
        lease.more_returned,
        lease.next_state,
        now_us if lease.next_state == "closed" else None,
    )


def _account(row: Row, held: int) -> AccountState:
    account_id, available, credit_limit, is_open = row
    return AccountState(account_id, available, credit_limit, is_open, held)


def _listed(ids: Iterable[int]) -> str:
    """An array literal: the driver's own way with lists looks at each of them."""
    return "{" + ",".join(map(str, ids)) + "}"

"""The statements of posting.py for PostgreSQL: a batch is three or four messages, and rows are one
JSON document, those of many calls a COPY.

Measured with 100 rows of `usage` a statement, CPU of client and server, microseconds a row:
json_to_recordset 3 + 17, jsonb_to_recordset 3 + 28, unnest of arrays that the driver makes 35 + 18,
unnest of array literals made here 8 + 16; one VALUES list, with 16 rows, 85 + 20.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg

from farebox.billing.jobs import OpenLease
from farebox.store.postgresql_session import Session, execute, rows_of
from farebox.store.schema import lease_hours, metadata, usage, usage_hours
from farebox.store.tables import (
    TRANSFER,
    AccountState,
    Ask,
    Changes,
    Found,
    LeaseState,
    Row,
    check_changed,
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


def _insert(table: str, rows: _Rows, place: int = 1) -> str:
    """`place` is that of the parameter."""
    return (
        f"INSERT INTO {table} ({rows.columns})"
        f" SELECT * FROM json_to_recordset(${place}) AS {rows.table}"
    )


def _added(table: str, names: Iterable[str]) -> str:
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in names)


_USAGE_ROWS = _Rows("usage", [column.name for column in usage.columns])
_NEW_LEASE_ROWS = _Rows(
    "leases", ("id", "account_id", "owner", "state", "granted", "spent", "returned", "opened_us")
)
_LEASE_ROWS = _Rows("leases", ("id", "granted", "spent", "returned", "state", "closed_us"))
_TRANSFER_ROWS = _Rows("transfers", TRANSFER)
_LEASE_HOUR_ROWS = _Rows("lease_hours", [column.name for column in lease_hours.columns])
_HOUR_COLUMNS = [column.name for column in usage_hours.columns]
_HOUR_ROWS = _Rows("usage_hours", _HOUR_COLUMNS)
_ACCOUNT_ROWS = _Rows("accounts", ("id", "available"))

# By their names, as Session prepares them.
STATEMENTS = {
    "leases": """(bigint[]) AS
        SELECT id, account_id, owner, state, granted, spent, returned FROM leases
        WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE
    """,
    "accounts": """(bigint[]) AS
        SELECT id, available, credit_limit, disabled = 0 FROM accounts
        WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE
    """,
    # A statement of its own: it must see what was committed while the accounts' locks were waited
    # for.
    "held": """(bigint[]) AS
        SELECT account_id, sum(granted - spent - returned)::bigint FROM leases
        WHERE account_id = ANY($1) AND state IN ('open', 'draining') GROUP BY account_id
    """,
    # By the roll-ups, since periods begin with an hour.
    "spent": """(text, bigint) AS
        SELECT coalesce(sum(charge), 0)::bigint FROM usage_hours
        WHERE account_id = (SELECT account_id FROM keys WHERE id = $1)
            AND key_id = $1 AND hour_us >= $2
    """,
    "unspent": """(text) AS
        SELECT id, account_id, granted - spent - returned FROM leases
        WHERE owner = $1 AND state IN ('open', 'draining') ORDER BY id
    """,
    "new_leases": """(int) AS
        SELECT nextval(pg_get_serial_sequence('leases', 'id')) FROM generate_series(1, $1)
    """,
    "written": """(json) AS
        SELECT request_id, charge, absorbed FROM usage
        WHERE request_id = ANY(ARRAY(SELECT json_array_elements_text($1)))
    """,
    "usage_rows": f"""(json) AS
        {_insert("usage", _USAGE_ROWS)}
        ON CONFLICT (request_id) DO NOTHING RETURNING request_id
    """,
    "take_back": """(json) AS
        DELETE FROM usage WHERE request_id = ANY(ARRAY(SELECT json_array_elements_text($1)))
    """,
    "new_lease": f"(json) AS {_insert('leases', _NEW_LEASE_ROWS)}",
    "account": f"""(json) AS
        UPDATE accounts SET available = available + c1
        FROM json_to_recordset($1) AS {_ACCOUNT_ROWS.table} WHERE id = c0
    """,
    # What every batch of calls writes.
    "calls": f"""(json, json, json, json) AS
        WITH moved AS ({_insert("transfers", _TRANSFER_ROWS)}),
        of_leases AS (
            {_insert("lease_hours", _LEASE_HOUR_ROWS, 2)}
            ON CONFLICT (lease_id, hour_us) DO UPDATE
            SET {_added("lease_hours", ("calls", "charge"))}
        ),
        of_hours AS (
            {_insert("usage_hours", _HOUR_ROWS, 3)}
            ON CONFLICT (account_id, key_id, model, hour_us) DO UPDATE
            SET {_added("usage_hours", _HOUR_COLUMNS[4:])}
        )
        UPDATE leases SET granted = granted + c1, spent = spent + c2, returned = returned + c3,
            state = c4, closed_us = c5
        FROM json_to_recordset($4) AS {_LEASE_ROWS.table}
        WHERE id = c0 AND leases.state IN ('open', 'draining')
    """,
    # The seal of an hour whose rows were dropped stays: there is nothing to count it by any more.
    "unseal": """(bigint[]) AS
        DELETE FROM sealed_hours WHERE hour_us = ANY($1) AND dropped_us IS NULL
    """,
    "undelivered": """(json) AS
        UPDATE usage SET outcome = 'undelivered'
        WHERE request_id = ANY(ARRAY(SELECT json_array_elements_text($1))) AND outcome = 'complete'
    """,
    "reject": """(text, text, text, bigint) AS
        INSERT INTO settle_rejected (request_id, entry, error, created_us) VALUES ($1, $2, $3, $4)
    """,
}
# Many rows are copied, which spares the server 5 µs a row, but knows no conflict.
_COPY = rf"""
    COPY usage ({_USAGE_ROWS.columns}) FROM STDIN WITH (FORMAT csv, NULL 'null', ESCAPE '\')
"""
_MANY = 16  # another round trip is worth it

# What is wrong with a job. All else is the server's, as a table or a right that is missing: calls
# must not go free for that.
_FAULTS = (psycopg.IntegrityError, psycopg.DataError)


class PostgresTables:
    """tables.Tables by a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def look(self, ask: Ask) -> Found:
        """See tables.Tables."""
        # Only what nothing else was written before can be done once more.
        data = None
        if len(ask.rows) >= _MANY and not self._session.is_begun:
            data = _lines(ask.rows)
        if data is not None:
            try:
                return self._look(ask, _COPY, data)
            except psycopg.errors.UniqueViolation:
                self._session.roll_back()
        insert = execute("usage_rows", _USAGE_ROWS.document(ask.rows))
        return self._look(ask, insert if ask.rows else "")

    def _look(self, ask: Ask, insert: str, data: bytes = b"") -> Found:
        accounts, leases = _listed(ask.accounts), _listed(ask.leases)
        looks = {
            "accounts": execute("accounts", accounts) if ask.accounts else "",
            "held": execute("held", accounts) if ask.accounts else "",
            "leases": execute("leases", leases) if ask.leases else "",
            "new_leases": execute("new_leases", ask.new_leases) if ask.new_leases else "",
        }
        spendings = [execute("spent", each.key_id, each.since_us) for each in ask.spendings]
        statements = [*filter(None, looks.values()), *spendings, *filter(None, [insert])]
        results = iter(self._session.ask(statements, data))
        found = {name: rows_of(next(results)) for name, statement in looks.items() if statement}
        held = dict(found.get("held", ()))
        return Found(
            {row[0]: _account(row, held) for row in found.get("accounts", ())},
            {row[0]: LeaseState(*row) for row in found.get("leases", ())},
            [rows_of(next(results))[0][0] for _ in spendings],
            [row[0] for row in found.get("new_leases", ())],
            {} if data or not insert else self._written(ask.rows, rows_of(next(results))),
        )

    def _written(self, rows: Sequence[Row], inserted: Sequence[Row]) -> dict[str, tuple[int, int]]:
        """Charge and absorbed of those that were there before. `inserted`: ids of the others."""
        if len(inserted) == len(rows):
            return {}
        new = {row[0] for row in inserted}
        before = _document([row[0] for row in rows if row[0] not in new])
        (found,) = self._session.ask([execute("written", before)])
        return {row[0]: (row[1], row[2]) for row in rows_of(found)}

    def write(self, changes: Changes, now_us: int) -> None:
        """See tables.Tables."""
        statements: list[str] = []
        if changes.taken_back:
            statements.append(execute("take_back", _document(changes.taken_back)))
        new = [
            (each.lease_id, each.account_id, each.owner, "open", 0, 0, 0, now_us)
            for each in changes.leases
            if each.is_new
        ]
        if new:
            statements.append(execute("new_lease", _NEW_LEASE_ROWS.document(new)))
        if changes.accounts:
            accounts = [(each.account_id, each.change) for each in changes.accounts]
            statements.append(execute("account", _ACCOUNT_ROWS.document(accounts)))
        place = None
        if changes.leases or changes.transfers or changes.usage_hours:
            place = len(statements)
            calls = execute(
                "calls",
                _TRANSFER_ROWS.document(changes.transfers),
                _LEASE_HOUR_ROWS.document(changes.lease_hours),
                _HOUR_ROWS.document(changes.usage_hours),
                _LEASE_ROWS.document(_lease(each, now_us) for each in changes.leases),
            )
            statements.append(calls)
        if changes.unsealed:
            statements.append(execute("unseal", _listed(changes.unsealed)))
        if changes.undelivered:
            statements.append(execute("undelivered", _document(changes.undelivered)))
        results = self._session.ask(statements)
        if place is not None:
            check_changed(results[place].command_tuples or 0, changes.leases)

    def unspent(self, owner: str) -> list[OpenLease]:
        """See tables.Tables."""
        (found,) = self._session.ask([execute("unspent", owner)])
        return [OpenLease(*row) for row in rows_of(found)]

    def reject(self, row: Row) -> None:
        """See tables.Tables."""
        self._session.ask([execute("reject", *row)])

    def execute(self, statement: str) -> None:
        """See tables.Tables."""
        self._session.ask([statement])

    def is_away(self, error: Exception) -> bool:
        """See tables.Tables."""
        return isinstance(error, psycopg.Error) and not isinstance(error, _FAULTS)


def _lines(rows: Sequence[Row]) -> bytes | None:
    """Rows of `usage` as _COPY reads them: they are JSON's arrays without the brackets, as long as
    no text has a line's end or a backslash. None: some text has.
    """
    arrays = _JSON.encode_lines(rows)
    if arrays.count(b"\\") != arrays.count(b'\\"'):
        return None
    return arrays[1:-2].replace(b"]\n[", b"\n")


def _document(texts: Sequence[str]) -> str:
    return _JSON.encode(texts).decode()


def _account(row: Row, held: Mapping[int, int]) -> AccountState:
    account_id, available, credit_limit, is_open = row
    return AccountState(account_id, available, credit_limit, is_open, held.get(account_id, 0))


def _lease(lease: LeaseState, now_us: int) -> Row:
    return (
        lease.lease_id,
        lease.more_granted,
        lease.more_spent,
        lease.more_returned,
        lease.next_state,
        now_us if lease.next_state == "closed" else None,
    )


def _listed(ids: Iterable[int]) -> str:
    """An array literal."""
    return "{" + ",".join(map(str, ids)) + "}"

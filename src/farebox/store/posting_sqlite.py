"""The statements of posting.py for SQLite: the standard library's driver, one writer at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from farebox.billing.jobs import OpenLease
from farebox.store.schema import lease_hours, usage, usage_hours
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

# So many rows of `usage` in one statement, the most that there are: a quarter less work than one by
# one, and the driver lets the other threads go first, and waits to have its turn again, once for
# all of them.
_TOGETHER = (64, 16, 4)


def _insert(table: str, columns: Sequence[str], rows: int = 1) -> str:
    places = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([places] * rows)}"


_LEASES = """
    SELECT id, account_id, owner, state, granted, spent, returned FROM leases
    WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id
"""
_ACCOUNTS = """
    SELECT id, available, credit_limit, disabled = 0,
        (SELECT coalesce(sum(granted - spent - returned), 0) FROM leases
         WHERE account_id = a.id AND state IN ('open', 'draining'))
    FROM accounts a WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id
"""
# By the roll-ups, since periods begin with an hour.
_SPENT = """
    SELECT coalesce(sum(charge), 0) FROM usage_hours
    WHERE account_id = (SELECT account_id FROM keys WHERE id = ?1) AND key_id = ?1 AND hour_us >= ?2
"""
_UNSPENT = """
    SELECT id, account_id, granted - spent - returned FROM leases
    WHERE owner = ? AND state IN ('open', 'draining') ORDER BY id
"""
_LAST_LEASE = "SELECT coalesce(max(id), 0) FROM leases"
_LAST_ROWS = "SELECT request_id FROM usage ORDER BY rowid DESC LIMIT ?"
_WRITTEN = """
    SELECT request_id, charge, absorbed FROM usage
    WHERE request_id IN (SELECT value FROM json_each(?))
"""
_USAGE_COLUMNS = [column.name for column in usage.columns]
_USAGE = _insert("usage", _USAGE_COLUMNS) + " ON CONFLICT (request_id) DO NOTHING"
_USAGE_TOGETHER = [
    (rows, _insert("usage", _USAGE_COLUMNS, rows) + " ON CONFLICT (request_id) DO NOTHING")
    for rows in _TOGETHER
]
_TAKE_BACK = "DELETE FROM usage WHERE request_id = ?"
_NEW_LEASE = _insert(
    "leases", ("id", "account_id", "owner", "state", "granted", "spent", "returned", "opened_us")
)
_LEASE = """
    UPDATE leases SET granted = granted + ?, spent = spent + ?, returned = returned + ?
    WHERE id = ? AND state IN ('open', 'draining')
"""
# Apart, since an index has the states that may be charged: setting one writes it, changed or not.
_LEASE_STATE = """
    UPDATE leases SET state = ?1, closed_us = CASE WHEN ?1 = 'closed' THEN ?2 END WHERE id = ?3
"""
_ACCOUNT = "UPDATE accounts SET available = available + ? WHERE id = ?"
_TRANSFER = _insert("transfers", TRANSFER)
_LEASE_HOUR = (
    _insert("lease_hours", [column.name for column in lease_hours.columns])
    + " ON CONFLICT (lease_id, hour_us) DO UPDATE SET"
    " calls = calls + excluded.calls, charge = charge + excluded.charge"
)
_HOUR_COLUMNS = [column.name for column in usage_hours.columns]
_HOUR = (
    _insert("usage_hours", _HOUR_COLUMNS)
    + " ON CONFLICT (account_id, key_id, model, hour_us) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _HOUR_COLUMNS[4:])
)
# The seal of an hour whose rows were dropped stays: there is nothing to count it by any more.
_UNSEAL = "DELETE FROM sealed_hours WHERE hour_us = ? AND dropped_us IS NULL"
_UNDELIVERED = """
    UPDATE usage SET outcome = 'undelivered' WHERE request_id = ? AND outcome = 'complete'
"""
_REJECT = _insert("settle_rejected", ("request_id", "entry", "error", "created_us"))

# What is wrong with a job. All else is the disk's, the file's, or somebody's who holds its lock.
_FAULTS = (sqlite3.IntegrityError, sqlite3.DataError)


class SqliteTables:
    """tables.Tables on a connection."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver

    def look(self, ask: Ask) -> Found:
        """See tables.Tables. Nothing needs a lock: who may write here is the only one who may."""
        execute = self._driver.execute
        leases: dict[int, LeaseState] = {}
        accounts: dict[int, AccountState] = {}
        new_leases: Sequence[int] = ()
        if ask.leases:
            for row in execute(_LEASES, (_listed(ask.leases),)):
                leases[row[0]] = LeaseState(*row)
        if ask.accounts:
            for row in execute(_ACCOUNTS, (_listed(ask.accounts),)):
                accounts[row[0]] = AccountState(row[0], row[1], row[2], bool(row[3]), row[4])
        if ask.new_leases:
            last = execute(_LAST_LEASE).fetchone()[0]
            new_leases = range(last + 1, last + 1 + ask.new_leases)
        spent = [
            execute(_SPENT, (each.key_id, each.since_us)).fetchone()[0] for each in ask.spendings
        ]
        return Found(accounts, leases, spent, new_leases, self._insert(ask.rows))

    def _insert(self, rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
        """Insert what is not there; charge and absorbed of what is."""
        if not rows:
            return {}
        driver = self._driver
        inserted = start = 0
        for many, statement in _USAGE_TOGETHER:
            while len(rows) - start >= many:
                values: list[Any] = []
                for row in rows[start : start + many]:
                    values += row
                inserted += driver.execute(statement, values).rowcount
                start += many
        if start < len(rows):
            inserted += driver.executemany(_USAGE, rows[start:]).rowcount
        if inserted == len(rows):
            return {}
        # Some were there before. Which, the count does not say; new rows come after all others.
        new = {request_id for (request_id,) in driver.execute(_LAST_ROWS, (inserted,))}
        before = json.dumps([row[0] for row in rows if row[0] not in new])
        found = driver.execute(_WRITTEN, (before,))
        return {request_id: (charge, absorbed) for request_id, charge, absorbed in found}

    def write(self, changes: Changes, now_us: int) -> None:
        """See tables.Tables."""
        many = self._driver.executemany
        if changes.taken_back:
            many(_TAKE_BACK, _singles(changes.taken_back))
        if changes.leases:
            self._write_leases(changes.leases, now_us)
        if changes.accounts:
            many(_ACCOUNT, [(each.change, each.account_id) for each in changes.accounts])
        if changes.transfers:
            many(_TRANSFER, changes.transfers)
        if changes.lease_hours:
            many(_LEASE_HOUR, changes.lease_hours)
        if changes.usage_hours:
            many(_HOUR, changes.usage_hours)
        if changes.unsealed:
            many(_UNSEAL, _singles(changes.unsealed))
        if changes.undelivered:
            many(_UNDELIVERED, _singles(changes.undelivered))

    def _write_leases(self, leases: Sequence[LeaseState], now_us: int) -> None:
        many = self._driver.executemany
        new = [
            (each.lease_id, each.account_id, each.owner, "open", 0, 0, 0, now_us)
            for each in leases
            if each.is_new
        ]
        if new:
            many(_NEW_LEASE, new)
        sums = [
            (each.more_granted, each.more_spent, each.more_returned, each.lease_id)
            for each in leases
        ]
        check_changed(many(_LEASE, sums).rowcount, leases)
        states = [
            (each.next_state, now_us, each.lease_id)
            for each in leases
            if each.next_state != each.state
        ]
        if states:
            many(_LEASE_STATE, states)

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
        return isinstance(error, sqlite3.Error) and not isinstance(error, _FAULTS)


def _listed(ids: Iterable[int]) -> str:
    return f"[{','.join(map(str, ids))}]"


def _singles(values: Iterable[int | str]) -> list[tuple[int | str]]:
    return [(value,) for value in values]

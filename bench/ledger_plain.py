"""What the ledger is compared with: every hold and every settlement a transaction of its own.

SQLite with the same durability, in one thread of the worker, as simple as it can be written.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from msgspec.structs import astuple

from farebox.billing.entry import ENTRY_FIELDS, entry_of
from farebox.core.ports import HoldRequest, Settled, Settlement

_HOUR_US = 3_600_000_000
_SCHEMA = f"""
CREATE TABLE accounts (id INTEGER PRIMARY KEY, available INTEGER NOT NULL, spent INTEGER NOT NULL);
CREATE TABLE holds (request_id TEXT PRIMARY KEY, account_id INTEGER, amount INTEGER) WITHOUT ROWID;
CREATE TABLE usage ({", ".join(ENTRY_FIELDS)}, charge INTEGER, PRIMARY KEY (request_id));
CREATE TABLE usage_hours (account_id, key_id, model, hour_us, calls INTEGER, charge INTEGER,
    PRIMARY KEY (account_id, key_id, model, hour_us)) WITHOUT ROWID;
"""
_PLACES = ", ".join("?" * (len(ENTRY_FIELDS) + 1))
_T = TypeVar("_T")


def make_store(path: str, accounts: int) -> None:
    """A store with accounts that have more than enough; their ids are 1, 2, 3 …"""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_SCHEMA)
    rows = [(n + 1, 10**15) for n in range(accounts)]
    connection.executemany("INSERT INTO accounts VALUES (?, ?, 0)", rows)
    connection.commit()
    connection.close()


class PlainBooks:
    """core.ports.Books without a ledger."""

    def __init__(self, path: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous = FULL")

    async def hold(self, request: HoldRequest) -> int:
        """Reserve all of it."""
        return await self._do(lambda: self._hold(request))

    def release(self, request_id: str) -> None:
        """Not measured."""
        raise NotImplementedError

    async def extend(self, request_id: str, more_nanocredits: int) -> int:
        """Not measured."""
        raise NotImplementedError

    async def settle(self, settlement: Settlement) -> Settled:
        """Release, charge and write."""
        return await self._do(lambda: self._settle(settlement))

    def delivered(self, request_id: str) -> None:
        """Not kept."""

    async def close(self) -> None:
        """The end."""
        self._thread.shutdown()
        self._connection.close()

    async def _do(self, work: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(self._thread, work)

    def _hold(self, request: HoldRequest) -> int:
        amount, execute = request.most_nanocredits, self._connection.execute
        execute("BEGIN IMMEDIATE")
        execute(
            "UPDATE accounts SET available = available - ?1 WHERE id = ?2 AND available >= ?1",
            (amount, request.account_id),
        )
        held = (request.request_id, request.account_id, amount)
        execute("INSERT INTO holds VALUES (?, ?, ?)", held)
        execute("COMMIT")
        return amount

    def _settle(self, settlement: Settlement) -> Settled:
        due, execute = settlement.due_nanocredits, self._connection.execute
        entry = entry_of(settlement)
        hour_us = entry.created_us // _HOUR_US * _HOUR_US
        execute("BEGIN IMMEDIATE")
        ((amount,),) = execute(
            "DELETE FROM holds WHERE request_id = ? RETURNING amount", (entry.request_id,)
        ).fetchall()
        execute(
            "UPDATE accounts SET available = available + ?, spent = spent + ? WHERE id = ?",
            (amount - due, due, entry.account_id),
        )
        execute(f"INSERT INTO usage VALUES ({_PLACES})", (*astuple(entry), due))
        execute(
            "INSERT INTO usage_hours VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET"
            " calls = calls + 1, charge = charge + excluded.charge",
            (entry.account_id, entry.key_id, entry.model, hour_us, due),
        )
        execute("COMMIT")
        return Settled(due, 0)

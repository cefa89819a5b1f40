"""Holding and settling: what one call does to the money, in one transaction each.

The statements are plain SQL that SQLite and PostgreSQL both know, run on the driver's connection:
this is the hot path. The functions that end in `_in` work within a transaction that is open, so
that books.py can commit several calls together.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from farebox.core import clock
from farebox.core.money import MAX_NANOCREDITS, show_credits
from farebox.core.ports import HoldRequest, Settled, Settlement
from farebox.core.usage import CLASSES
from farebox.errors import OutOfCredit, Unauthorized
from farebox.store.engine import StoreBase
from farebox.store.schema import usage, usage_hours

HOUR_US = 3_600_000_000


def _insert_into(table: str, columns: tuple[str, ...]) -> str:
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + name for name in columns)})"


_HELD = "SELECT amount FROM holds WHERE request_id = :request_id"
_PAYER = "SELECT available, held, credit_limit, disabled FROM accounts WHERE id = :account_id"
_RESERVE = (
    "UPDATE accounts SET available = available - :amount, held = held + :amount"
    " WHERE id = :account_id"
)
_HOLD = _insert_into(
    "holds", ("request_id", "account_id", "key_id", "owner", "amount", "created_us")
)
_RELEASE = "DELETE FROM holds WHERE request_id = :request_id RETURNING account_id, amount"
_RELEASE_OWNER = "DELETE FROM holds WHERE owner = :owner RETURNING account_id, amount"
_RELEASE_ALL = "DELETE FROM holds RETURNING account_id, amount"
_SETTLED = "SELECT charge, absorbed FROM usage WHERE request_id = :request_id"
# One look at the payer and at the hold of this call, if there is one.
_PAYER_AND_HOLD = (
    "SELECT a.available, a.credit_limit, h.amount FROM accounts a"
    " LEFT JOIN holds h ON h.request_id = :request_id AND h.account_id = a.id"
    " WHERE a.id = :account_id"
)
_USAGE = (
    _insert_into("usage", tuple(column.name for column in usage.columns))
    + " ON CONFLICT (request_id) DO NOTHING"
)
_CHARGE = (
    "UPDATE accounts SET available = available + :held - :charge, held = held - :held,"
    " spent = spent + :charge WHERE id = :account_id"
)
_TRANSFER = _insert_into("transfers", ("account_id", "kind", "amount", "request_id", "created_us"))
_ATTEMPT = _insert_into(
    "attempts", ("request_id", "n", "channel", "status", "error", "ms", "ttft_ms")
)
_HOUR_COLUMNS = tuple(column.name for column in usage_hours.columns)
_HOUR = (
    _insert_into("usage_hours", _HOUR_COLUMNS)
    + " ON CONFLICT (account_id, key_id, model, hour_us) DO UPDATE SET "
    + ", ".join(f"{name} = usage_hours.{name} + excluded.{name}" for name in _HOUR_COLUMNS[4:])
)
_NO_TOKENS = dict.fromkeys(_HOUR_COLUMNS[5:-1], 0)


def hold_in(driver: sqlite3.Connection, request: HoldRequest, owner: str) -> int:
    """Reserve for one call; see Calls.hold. Asking again gives the same answer."""
    names: dict[str, Any] = {"request_id": request.request_id, "account_id": request.account_id}
    if held := driver.execute(_HELD, names).fetchone():
        return int(held[0])
    payer = driver.execute(_PAYER, names).fetchone()
    if payer is None or payer[3]:
        raise Unauthorized("The account of this key is closed. Ask the operator to open it.")
    available, held_already, credit_limit, _ = payer
    amount = min(request.most_nanocredits, available + credit_limit)
    if amount < request.least_nanocredits:
        raise OutOfCredit(
            _shortfall(request.least_nanocredits, available + credit_limit, available, held_already)
        )
    names["amount"] = amount
    if amount:
        driver.execute(_RESERVE, names)
    names |= {"key_id": request.key_id, "owner": owner, "created_us": clock.now_us()}
    driver.execute(_HOLD, names)
    return amount


def _shortfall(least: int, room: int, available: int, held: int) -> str:
    """The sentence of a refusal; all of it in nano-credits."""
    missing = show_credits(least - room)
    sentence = (
        f"This call needs at least {show_credits(least)} credits and the balance is "
        f"{show_credits(available + held)}: {missing} more are needed."
    )
    if room + held >= least:
        sentence = (
            f"This call needs at least {show_credits(least)} credits. The balance is "
            f"{show_credits(available + held)}, but {show_credits(held)} of it are held by calls "
            f"in flight: {missing} more are needed now."
        )
    return f"{sentence} Add credits, or ask for a shorter answer."


def settle_in(driver: sqlite3.Connection, settlement: Settlement) -> Settled:
    """Settle one call; see Calls.settle."""
    due = settlement.due_nanocredits
    assert 0 <= due <= MAX_NANOCREDITS
    names = {"request_id": settlement.request_id, "account_id": settlement.account_id}
    payer = driver.execute(_PAYER_AND_HOLD, names).fetchone()
    assert payer is not None, f"no account {settlement.account_id}"
    available, credit_limit, held = payer
    charge = min(due, available + (held or 0) + credit_limit)
    settled = Settled(charge, due - charge)
    now_us = clock.now_us()
    row = _usage_row(settlement, settled, now_us)
    # Whatever follows happens only for a row that was really inserted: exactly once a request.
    if driver.execute(_USAGE, row).rowcount == 0:
        first = driver.execute(_SETTLED, names).fetchone()
        return Settled(*first)
    if held is not None:
        driver.execute(_RELEASE, names).fetchall()
    if held or charge:
        driver.execute(_CHARGE, names | {"held": held or 0, "charge": charge})
    for kind, amount in (("charge", charge), ("absorbed", settled.absorbed_nanocredits)):
        if amount:
            driver.execute(
                _TRANSFER, names | {"kind": kind, "amount": amount, "created_us": now_us}
            )
    for attempt in settlement.attempts:
        driver.execute(
            _ATTEMPT,
            {
                "request_id": settlement.request_id,
                "n": attempt.n,
                "channel": attempt.channel,
                "status": attempt.status,
                "error": attempt.error,
                "ms": attempt.ms,
                "ttft_ms": attempt.ttft_ms,
            },
        )
    hour_us = settlement.created_us // HOUR_US * HOUR_US
    driver.execute(_HOUR, row | {"hour_us": hour_us, "calls": 1})
    return settled


def _usage_row(settlement: Settlement, settled: Settled, now_us: int) -> dict[str, Any]:
    tokens = settlement.usage
    row: dict[str, Any] = {
        "request_id": settlement.request_id,
        "account_id": settlement.account_id,
        "key_id": settlement.key_id,
        "model": settlement.model,
        "channel": settlement.channel,
        "dialect": settlement.dialect,
        "stream": int(settlement.stream),
        "outcome": settlement.outcome,
        "created_us": settlement.created_us,
        "settled_us": now_us,
        "price_version": settlement.price_version,
        "rate_ppm": settlement.rate_ppm,
        **_NO_TOKENS,
        "due": settlement.due_nanocredits,
        "charge": settled.charge_nanocredits,
        "absorbed": settled.absorbed_nanocredits,
        "hold": settlement.hold_nanocredits,
        "service_tier": settlement.service_tier,
        "tool_calls": _json(settlement.tool_calls),
        "flags": _json(settlement.flags),
        "ms": settlement.ms,
        "ttft_ms": settlement.ttft_ms,
    }
    for name in CLASSES:
        row[name] = getattr(tokens, name)
    return row


def _json(values: tuple[Any, ...]) -> str:
    return json.dumps(values, separators=(",", ":")) if values else "[]"


def release_in(driver: sqlite3.Connection, request_id: str) -> None:
    """Give back the hold of a call that will not be settled, if it has one."""
    for account_id, amount in driver.execute(_RELEASE, {"request_id": request_id}).fetchall():
        driver.execute(_RESERVE, {"account_id": account_id, "amount": -amount})


def _apart(driver: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> Any:
    driver.execute("SAVEPOINT apart")
    try:
        result = work(driver)
    except sqlite3.OperationalError:
        raise  # the disk or the lock: nobody's own fault, and the transaction may be gone
    except Exception as error:  # noqa: BLE001 (whatever it is, it is this call's own answer)
        driver.execute("ROLLBACK TO apart")
        result = error
    driver.execute("RELEASE apart")
    return result


class Calls(StoreBase):
    """What the store does for calls."""

    def hold(self, request: HoldRequest, owner: str) -> int:
        """Reserve up to `most` and not less than `least`; the nano-credits held.

        `owner` names the process that the call runs in. Raises errors.OutOfCredit, and
        errors.Unauthorized for an account that is disabled.
        """
        with self._driving() as driver:
            return hold_in(driver, request, owner)

    def settle(self, settlement: Settlement) -> Settled:
        """Give back the hold, charge what is due, and write the usage row, attempts and roll-up.

        What the account cannot pay down to its floor is absorbed by the operator. A request id
        that is settled already changes nothing and gives the first answer again.
        """
        with self._driving() as driver:
            return settle_in(driver, settlement)

    def together(
        self, works: Sequence[Callable[[sqlite3.Connection], Any]], patience_ms: int
    ) -> list[Any]:
        """Do several pieces of work in one transaction; the result of each, or its exception.

        One that raises is undone alone. Raises StoreError, with nothing done, when the store
        cannot be written, or not within about `patience_ms`.
        """
        with self._driving(patience_ms) as driver:
            return [_apart(driver, work) for work in works]

    def release_holds(self, owner: str) -> int:
        """Give back all holds of a process that has ended; how many there were."""
        return self._release(_RELEASE_OWNER, {"owner": owner})

    def release_all_holds(self) -> int:
        """Give back every hold: for a start, before there is any process with calls in flight."""
        return self._release(_RELEASE_ALL, {})

    def _release(self, statement: str, names: dict[str, str]) -> int:
        with self._driving() as driver:
            rows = driver.execute(statement, names).fetchall()
            for account_id, amount in rows:
                driver.execute(_RESERVE, {"account_id": account_id, "amount": -amount})
        return len(rows)

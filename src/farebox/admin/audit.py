"""The proof of the books: every invariant looked at, and each call priced again. Mends nothing.

What is looked at in the store is store/audit.py's; here calls are priced by the version that they
were admitted under, sound hours are sealed, and the findings put together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from farebox.admin.pricebook import PriceBook
from farebox.billing.charge import charge
from farebox.core import clock
from farebox.core.usage import CLASSES, Usage
from farebox.store import Store
from farebox.store.audit import Found, Hour, Row, Seal
from farebox.store.reports import HOUR_US

SEAL_AFTER_US = 2 * HOUR_US  # from an hour's end: calls admitted in it are over by then
SEALS_IN_TURN = 1000  # compared whole each time
INVARIANTS = {
    "I1": "What came into each account is available, in leases, charged or lost",
    "I2": "No account is below its floor",
    "I3": "What each lease has spent is the sum of its calls, within what it was granted",
    "I4": "One row a call, and none of a call that was rejected",
    "I5": "The sums by hour are those of the calls",
    "I6": "Charges, and what was absorbed, have the transfers that explain them",
    "I7": "No lease is open of an owner that has gone",
    "I8": "Every call costs what its tokens, price version and rate say",
}


class AuditStopped(Exception):
    """The audit was told to stop before it was done."""


def _never() -> bool:
    return False


def audit(
    store: Store, *, full: bool = False, stopped: Callable[[], bool] = _never
) -> dict[str, Any]:
    """Look at all invariants: hours that are not sealed, or with `full` all calls that are kept.

    Beside writers, too: each look is at one snapshot. `stopped` is asked again and again; once it
    says so, AuditStopped is raised.
    """
    began_s, now_us = clock.monotonic_s(), clock.now_us()
    found = {name: Found() for name in INVARIANTS}
    for name, more in store.broken_books(full=full).items():
        found[name].add(more.rows, more.total)
    seals = store.broken_seals(None if full else SEALS_IN_TURN, now_us)
    found["I5"].add([_with_hour(row, "sealed_hour") for row in seals.rows], seals.total)
    hours, calls, sealed = store.hours_to_audit(full=full), 0, 0
    prices = PriceBook(store)
    for hour_us in hours:
        seal, looked_at = _look_at_hour(store, hour_us, prices, found, stopped)
        calls += looked_at
        if seal is not None and hour_us + HOUR_US + SEAL_AFTER_US <= now_us:
            sealed += store.seal_hour(seal, now_us)
    draining = store.draining_leases()
    return {
        "ok": not any(each.total for each in found.values()),
        "full": full,
        "hours": len(hours),
        "calls": calls,
        "sealed": sealed,
        "seconds": round(clock.monotonic_s() - began_s, 3),
        "invariants": [
            {
                "id": name,
                "says": says,
                "ok": not found[name].total,
                "rows": found[name].rows,
                "more": found[name].total - len(found[name].rows),
                "notes": _as_notes(draining) if name == "I7" else [],
            }
            for name, says in INVARIANTS.items()
        ],
    }


def _look_at_hour(
    store: Store,
    hour_us: int,
    prices: PriceBook,
    found: dict[str, Found],
    stopped: Callable[[], bool],
) -> tuple[Seal | None, int]:
    """Note what is wrong in an hour; what to seal it by if nothing is, and how many calls it
    has.
    """
    if stopped():
        raise AuditStopped
    with store.hour(hour_us) as hour:
        broken = hour.broken()
        for each in broken.values():
            each.rows[:] = [_with_hour(row, "hour") for row in each.rows]
        wrong, calls = _reprice(hour, prices, stopped)
        broken["I8"] = wrong
        seal = hour.seal()
    for name, each in broken.items():
        found[name].add(each.rows, each.total)
    return (None if any(each.total for each in broken.values()) else seal), calls


def _reprice(hour: Hour, prices: PriceBook, stopped: Callable[[], bool]) -> tuple[Found, int]:
    found, calls = Found(), 0
    for calls, row in enumerate(hour.calls(), start=1):
        if calls % 1000 == 0 and stopped():
            raise AuditStopped
        paid = row["charge"] + row["absorbed"]
        # Nothing is due of a call that was let off, whatever was counted; see receipts.
        if not paid and not row["due"]:
            continue
        costs = _cost(row, prices)
        if costs != paid:
            found.add(
                [
                    {
                        "request_id": row["request_id"],
                        "account_id": row["account_id"],
                        "model": row["model"],
                        "created_at": clock.rfc3339(row["created_us"]),
                        "price_version": row["price_version"],
                        "paid_nanocredits": paid,
                        "costs_nanocredits": costs,
                    }
                ],
                1,
            )
    return found, calls


def _cost(row: Any, prices: PriceBook) -> int | None:
    """What the call costs by its own price and rate; None where there is no such price."""
    price = prices.price(row["price_version"], row["model"], row["created_us"])
    if price is None:
        return None
    tools = row["tool_calls"]
    return charge(
        Usage(**{name: row[name] for name in CLASSES}),
        price,
        row["rate_ppm"],
        row["created_us"],
        service_tier=row["service_tier"],
        tool_calls=() if tools == "[]" else tuple((name, n) for name, n in json.loads(tools)),
    )


def _with_hour(row: Row, name: str) -> Row:
    return {name: clock.rfc3339(row[f"{name}_us"])} | {
        key: value for key, value in row.items() if key != f"{name}_us"
    }


def _as_notes(draining: Found) -> list[Row]:
    """Leases that drain break nothing, but their credit is kept from the account meanwhile."""
    notes = [{"note": "draining", **row} for row in draining.rows]
    if draining.total > len(draining.rows):
        notes.append({"note": "draining", "more": draining.total - len(draining.rows)})
    return notes

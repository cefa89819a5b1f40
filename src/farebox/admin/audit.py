"""The proof of the books: every invariant looked at, and each call priced again. Mends nothing.

What is looked at in the store is store/audit.py's; here calls are priced by the version that they
were admitted under, sound hours are sealed, and the findings put together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farebox.admin.pricebook import PriceBook
from farebox.billing.charge import charge
from farebox.core import clock
from farebox.store import Store
from farebox.store.audit import Found, Hour, Priced, Row, Seal
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
    store: Store,
    *,
    full: bool = False,
    priced_until_us: int = 0,
    stopped: Callable[[], bool] = _never,
) -> dict[str, Any]:
    """Look at all invariants: hours that are not sealed, or with `full` all calls that are kept.

    Beside writers, too: each look is at one snapshot. Calls that were settled before
    `priced_until_us` are not priced again before their hour is sealed: for who did that lately.
    `stopped` is asked again and again; once it says so, AuditStopped is raised.
    """
    began_s, now_us = clock.monotonic_s(), clock.now_us()
    found = {name: Found() for name in INVARIANTS}
    for name, more in store.broken_books(full=full).items():
        found[name].add(more.rows, more.total)
    store.unseal_unfinished(now_us)
    seals = store.broken_seals(None if full else SEALS_IN_TURN, now_us)
    found["I5"].add([_with_hour(row, "sealed_hour") for row in seals.rows], seals.total)
    hours, calls, sealed = store.hours_to_audit(full=full), 0, 0
    prices = PriceBook(store)
    for hour_us in hours:
        is_over = hour_us + HOUR_US + SEAL_AFTER_US <= now_us
        since_us = 0 if full or is_over else priced_until_us
        seal, looked_at = _look_at_hour(store, hour_us, since_us, _Look(prices, found, stopped))
        calls += looked_at
        if seal is not None and is_over:
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


@dataclass(frozen=True, slots=True)
class _Look:
    """What each look at an hour needs, and where it notes what it finds."""

    prices: PriceBook
    found: dict[str, Found]
    stopped: Callable[[], bool]


def _look_at_hour(
    store: Store, hour_us: int, since_us: int, look: _Look
) -> tuple[Seal | None, int]:
    """Note what is wrong in an hour; what to seal it by if nothing is, and how many of its calls
    were priced.
    """
    if look.stopped():
        raise AuditStopped
    with store.hour(hour_us) as hour:
        broken = hour.broken()
        for each in broken.values():
            each.rows[:] = [_with_hour(row, "hour") for row in each.rows]
        broken["I8"], calls = _reprice(hour, since_us, look)
        seal = hour.seal()
    for name, each in broken.items():
        look.found[name].add(each.rows, each.total)
    return (None if any(each.total for each in broken.values()) else seal), calls


def _reprice(hour: Hour, since_us: int, look: _Look) -> tuple[Found, int]:
    found, calls = Found(), 0
    for calls, call in enumerate(hour.calls(since_us), start=1):
        if calls % 1000 == 0 and look.stopped():
            raise AuditStopped
        paid = call.charge + call.absorbed
        # Nothing is due of a call that was let off, whatever was counted; see receipts.
        if not paid and not call.due:
            continue
        costs = _cost(call, look.prices)
        if costs != paid:
            found.add([_wrong_price(call, paid, costs)], 1)
    return found, calls


def _wrong_price(call: Priced, paid: int, costs: int | None) -> Row:
    return {
        "request_id": call.request_id,
        "account_id": call.account_id,
        "model": call.model,
        "created_at": clock.rfc3339(call.created_us),
        "price_version": call.price_version,
        "paid_nanocredits": paid,
        "costs_nanocredits": costs,
    }


def _cost(call: Priced, prices: PriceBook) -> int | None:
    """What the call costs by its own price and rate; None where there is no such price."""
    price = prices.price(call.price_version, call.model, call.created_us)
    if price is None:
        return None
    tools = call.tool_calls
    return charge(
        call.usage,
        price,
        call.rate_ppm,
        call.created_us,
        service_tier=call.service_tier,
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

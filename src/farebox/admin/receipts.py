"""The itemised receipt of one call, computed again from what was stored. Prices nothing itself."""

from __future__ import annotations

from typing import Any

import msgspec

from farebox.admin.pricebook import PriceBook
from farebox.billing.charge import EXACT, Line, bill
from farebox.core import clock
from farebox.core.ids import request_time_us
from farebox.core.money import show_exact, show_ppm
from farebox.core.ports import Settlement
from farebox.errors import NotFound
from farebox.store import Store
from farebox.store.reports import StoredCall

_KINDS = ("req", "resp", "msg")  # of ids that bear a request's: its own, and those of answers


def show(
    store: Store, request_id: str, account_id: int | None = None, keep_days: int | None = None
) -> dict[str, Any]:
    """The receipt of a request id `req_…`, or of the id made of it for a response (`resp_…`) or a
    message (`msg_…`).

    Σ amounts of the lines + rounding = charge + absorbed, exactly. Raises NotFound, also for a call
    of another account than `account_id`, if that is given. `keep_days`: how long single calls are
    kept, to be told of one whose time is over.
    """
    kind, _, body = request_id.partition("_")
    known = kind in _KINDS and body != ""
    call = store.call(f"req_{body}") if known else None
    if call is None or account_id not in (None, call.settlement.account_id):
        if known and _is_dropped(store, f"req_{body}"):
            raise NotFound(_dropped(request_id, keep_days))
        raise NotFound(
            f"There is no receipt {request_id[:80]!r}. The id is the x-request-id of an answer."
        )
    return _as_dict(call, _lines(store, call.settlement))


def _is_dropped(store: Store, request_id: str) -> bool:
    # The time is in the id, so this tells nothing of whose call it was, or whether it was one.
    made_us = request_time_us(request_id)
    return made_us is not None and store.is_dropped(made_us)


def _dropped(request_id: str, keep_days: int | None) -> str:
    span = f"for {keep_days} days" if keep_days else "for some time"
    return (
        f"There is no receipt {request_id[:80]!r} any more. Single calls are kept {span}"
        " (usage_keep_days); the sums by hour are kept for ever."
    )


def _lines(store: Store, settlement: Settlement) -> tuple[Line, ...]:
    """The lines by the price that the call was admitted at; none if it was let off."""
    price = PriceBook(store).price(
        settlement.price_version, settlement.model, settlement.created_us
    )
    if price is None:
        return ()
    billed = bill(
        settlement.usage,
        price,
        settlement.rate_ppm,
        settlement.created_us,
        service_tier=settlement.service_tier,
        tool_calls=settlement.tool_calls,
    )
    if billed.due_nanocredits != settlement.due_nanocredits and not settlement.due_nanocredits:
        return ()
    return billed.lines


def _as_dict(call: StoredCall, lines: tuple[Line, ...]) -> dict[str, Any]:
    settlement, settled = call.settlement, call.settled
    paid = settled.charge_nanocredits + settled.absorbed_nanocredits
    rounding = paid * EXACT - sum(line.exact for line in lines)
    # Else it was changed after it was written: `farebox audit --full` names it (I8).
    assert not lines or 0 <= rounding < EXACT, f"{settlement.request_id} is not what it cost"
    return {
        "request_id": settlement.request_id,
        "account": call.account,
        "key_id": settlement.key_id,
        "model": settlement.model,
        "channel": settlement.channel,
        "dialect": settlement.dialect,
        "stream": settlement.stream,
        "service_tier": settlement.service_tier,
        "outcome": settlement.outcome,
        "created_at": clock.rfc3339(settlement.created_us),
        "settled_at": clock.rfc3339(call.settled_us),
        "price_version": settlement.price_version,
        "rate": show_ppm(settlement.rate_ppm),
        "usage": settlement.usage.as_dict(),
        "lines": [line.as_dict() for line in lines],
        "rounding": show_exact(rounding),
        "hold_nanocredits": settlement.hold_nanocredits,
        "charge_nanocredits": settled.charge_nanocredits,
        "absorbed_nanocredits": settled.absorbed_nanocredits,
        "lease_id": call.lease_id,
        "flags": list(settlement.flags),
        "attempts": [msgspec.structs.asdict(attempt) for attempt in settlement.attempts],
    }

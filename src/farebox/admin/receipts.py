"""The itemised receipt of one call, computed again from what was stored. Prices nothing itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from farebox.admin.catalogue import snapshot
from farebox.billing.charge import EXACT, Line, bill
from farebox.core import clock
from farebox.core.money import show_exact, show_ppm
from farebox.core.ports import Settlement
from farebox.errors import NotFound
from farebox.store import Store
from farebox.store.reports import StoredCall

_KINDS = ("req", "resp", "msg")  # of ids that bear a request's: its own, and those of answers


def show(store: Store, request_id: str, account_id: int | None = None) -> dict[str, Any]:
    """The receipt of a request id `req_…`, or of the id made of it for a response (`resp_…`) or a
    message (`msg_…`).

    Σ amounts of the lines + rounding = charge + absorbed, exactly. Raises NotFound, also for a call
    of another account than `account_id`, if that is given.
    """
    kind, _, body = request_id.partition("_")
    call = store.call(f"req_{body}") if kind in _KINDS and body else None
    if call is None or account_id not in (None, call.settlement.account_id):
        raise NotFound(
            f"There is no receipt {request_id[:80]!r}. The id is the x-request-id of an answer."
        )
    return _as_dict(call, _lines(store, call.settlement))


def _lines(store: Store, settlement: Settlement) -> tuple[Line, ...]:
    """The lines by the price that the call was admitted at; none if it was let off."""
    catalogue = store.load_catalogue(settlement.price_version)
    if catalogue is None:
        return ()
    models = snapshot(catalogue.document, catalogue.version, catalogue.created_us).models
    model = models.get(settlement.model)
    if model is None or model.price is None:
        return ()
    billed = bill(
        settlement.usage,
        model.price,
        settlement.rate_ppm,
        settlement.created_us,
        service_tier=settlement.service_tier,
        tool_calls=settlement.tool_calls,
    )
    if billed.due_nanocredits != settlement.due_nanocredits and not settlement.due_nanocredits:
        return ()
    return billed.lines


def _as_dict(call: StoredCall, lines: tuple[Line, ...]) -> dict[str, Any]:
    settlement = call.settlement
    rounding = settlement.due_nanocredits * EXACT - sum(line.exact for line in lines)
    return {
        "request_id": settlement.request_id,
        "account": call.account,
        "key_id": settlement.key_id,
        "model": settlement.model,
        "channel": settlement.channel,
        "dialect": settlement.dialect,
        "stream": settlement.stream,
        "outcome": settlement.outcome,
        "created_at": clock.rfc3339(settlement.created_us),
        "price_version": settlement.price_version,
        "rate": show_ppm(settlement.rate_ppm),
        "usage": settlement.usage.as_dict(),
        "lines": [line.as_dict() for line in lines],
        "rounding": show_exact(rounding),
        "hold_nanocredits": settlement.hold_nanocredits,
        "charge_nanocredits": call.settled.charge_nanocredits,
        "absorbed_nanocredits": call.settled.absorbed_nanocredits,
        "flags": list(settlement.flags),
        "attempts": [asdict(attempt) for attempt in settlement.attempts],
    }

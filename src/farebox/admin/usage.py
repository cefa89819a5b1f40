"""What was used, summed by model, key or day from hourly roll-ups. Single calls are receipts'."""

from __future__ import annotations

from typing import Any, Literal, get_args

from farebox.admin.durations import parse_moment_us
from farebox.core import clock
from farebox.core.usage import CLASSES
from farebox.errors import BadRequest
from farebox.store import Store
from farebox.store.reports import HOUR_US, Total

By = Literal["model", "key", "day"]


def usage(store: Store, by: str = "model", since: str = "7d") -> dict[str, Any]:
    """Calls, tokens by class and charges since a span ago or a moment. Raises BadRequest.

    Sums are of whole hours: `since` in the answer is the beginning of the hour it falls into.
    """
    kind = next((name for name in get_args(By) if name == by), None)
    if kind is None:
        raise BadRequest(f"--by {by!r} is not known. Use model, key or day.")
    since_us, until_us = _span(since)
    totals = store.usage_totals(kind, since_us, until_us)
    return {
        "since": clock.rfc3339(since_us),
        "until": clock.rfc3339(until_us),
        "rows": [{kind: _label(total), **_sums([total])} for total in totals],
        "total": _sums(totals),
    }


def undelivered(store: Store, since: str = "7d") -> dict[str, Any]:
    """Calls that were charged and whose end the client did not get, oldest first: whom an operator
    may want to refund. Raises BadRequest.
    """
    since_us, until_us = _span(since)
    calls = store.undelivered(since_us, until_us)
    return {
        "since": clock.rfc3339(since_us),
        "until": clock.rfc3339(until_us),
        "rows": [
            {
                "request_id": call.request_id,
                "account": call.account,
                "key_id": call.key_id,
                "model": call.model,
                "created_at": clock.rfc3339(call.created_us),
                "charge_nanocredits": call.charge_nanocredits,
            }
            for call in calls
        ],
        "total": {
            "calls": len(calls),
            "charge_nanocredits": sum(call.charge_nanocredits for call in calls),
        },
    }


def _span(since: str) -> tuple[int, int]:
    """From the beginning of the hour that `since` falls into until now, in microseconds."""
    now_us = clock.now_us()
    since_us = parse_moment_us(since, "--since", now_us, back=True)
    if since_us > now_us:
        raise BadRequest(f"--since {since!r} is in the future.")
    return max(since_us, 0) // HOUR_US * HOUR_US, now_us


def _label(total: Total) -> str:
    return clock.rfc3339(total.of)[:10] if isinstance(total.of, int) else total.of


def _sums(totals: list[Total]) -> dict[str, Any]:
    return {
        "calls": sum(total.calls for total in totals),
        "tokens": {name: sum(total.tokens[name] for total in totals) for name in CLASSES},
        "charge_nanocredits": sum(total.charge_nanocredits for total in totals),
        "absorbed_nanocredits": sum(total.absorbed_nanocredits for total in totals),
    }

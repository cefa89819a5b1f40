"""What stands in the line that every request has in the log. Nothing here writes."""

from __future__ import annotations

import msgspec

from farebox.core import clock
from farebox.core.usage import Usage
from farebox.telemetry.record import Record


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """Of any request. Whoever is not known is not named."""

    time: str  # RFC 3339
    level: str
    event: str
    method: str
    route: str  # a pattern
    status: int | None  # None: the client left before it had one
    ms: float
    request_id: str
    account: str | None = None  # by name
    key: str | None = None  # its id
    error: str | None = None  # the code or type that the client was told


class CallLine(Line, omit_defaults=True, kw_only=True, gc=False):
    """Of a call that was settled."""

    model: str
    channel: str | None
    stream: bool
    outcome: str
    tokens: Usage  # by class, those that there were
    charge_nanocredits: int
    absorbed_nanocredits: int
    flags: tuple[str, ...]
    attempts: int
    failed: list[str] | None = None  # attempts: channel and error
    ttft_ms: int | None


def line_of(record: Record, route: str, status: int | None, duration_s: float) -> Line:
    """The line of a request that is over."""
    shared = (
        clock.rfc3339(clock.now_us()),
        "info",
        "request",
        record.method,
        route,
        status,
        int(duration_s * 10_000 + 0.5) / 10,  # as round(…, 1), which takes ten times as long
        record.request_id,
        record.account,
        record.key,
        record.error,
    )
    settlement, settled = record.settlement, record.settled
    if settlement is None or settled is None:
        return Line(*shared)
    attempts = settlement.attempts
    failed: list[str] | None = None
    for each in attempts:
        if each.error:
            failed = [*(failed or ()), f"{each.channel}: {each.error}"]
    return CallLine(
        *shared,
        model=settlement.model,
        channel=settlement.channel,
        stream=settlement.stream,
        outcome=settlement.outcome,
        tokens=settlement.usage,
        charge_nanocredits=settled.charge_nanocredits,
        absorbed_nanocredits=settled.absorbed_nanocredits,
        flags=settlement.flags,
        attempts=len(attempts),
        failed=failed,
        ttft_ms=settlement.ttft_ms,
    )

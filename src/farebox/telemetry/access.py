"""What stands in the line that every request has in the log. Nothing here writes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
from msgspec import UNSET, UnsetType

from farebox.core import clock
from farebox.core.usage import Usage
from farebox.telemetry.record import Record


class Line(msgspec.Struct, gc=False):
    """What is UNSET is not in the line: whoever is not known is not named."""

    time: str  # RFC 3339
    level: str
    event: str
    method: str
    route: str  # a pattern
    status: int | None  # None: the client left before it had one
    ms: float
    request_id: str
    account: str | UnsetType  # by name
    key: str | UnsetType  # its id
    error: str | UnsetType  # the code or type that the client was told
    # Of a call that was settled:
    model: str | UnsetType = UNSET
    channel: str | UnsetType | None = UNSET
    stream: bool | UnsetType = UNSET
    outcome: str | UnsetType = UNSET
    tokens: Usage | UnsetType = UNSET  # by class, those that there were
    charge_nanocredits: int | UnsetType = UNSET
    absorbed_nanocredits: int | UnsetType = UNSET
    flags: tuple[str, ...] | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    failed: tuple[str, ...] | UnsetType = UNSET  # attempts: channel and error
    ttft_ms: int | UnsetType | None = UNSET


def words_of(lines: Iterable[Line]) -> set[tuple[object, ...]]:
    """What each of these says in words that somebody may have chosen: all else are figures, or
    words of ours.
    """
    return {
        (
            line.method,
            line.route,
            line.account,
            line.key,
            line.error,
            line.model,
            line.channel,
            line.flags,
            line.failed,
        )
        for line in lines
    }


def line_of(record: Record, route: str, status: int | None, duration_s: float) -> Line:
    """The line of a request that is over."""
    now = clock.rfc3339_ms(clock.now_ns() // 1_000_000)
    ms = math.floor(duration_s * 10_000.0 + 0.5) / 10  # as round(…, 1), ten times as quick
    call = record.call
    # By position, here and below: keywords took half of the time that a line takes to make.
    if call is None:
        return Line(
            now,
            "info",
            "request",
            record.method,
            route,
            status,
            ms,
            record.request_id,
            record.account,
            record.key,
            record.error,
        )
    settlement, settled = call
    attempts = settlement.attempts
    failed: tuple[str, ...] | UnsetType = UNSET
    for each in attempts:
        if each.error:
            failed = (*(failed or ()), f"{each.channel}: {each.error}")
    return Line(
        now,
        "info",
        "request",
        record.method,
        route,
        status,
        ms,
        record.request_id,
        record.account,
        record.key,
        record.error,
        settlement.model,
        settlement.channel,
        settlement.stream,
        settlement.outcome,
        settlement.usage,
        settled.charge_nanocredits,
        settled.absorbed_nanocredits,
        settlement.flags,
        len(attempts),
        failed,
        settlement.ttft_ms,
    )

"""Reading spans and moments as operators write them: `30d`, `12h`, `2026-12-31T00:00:00Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from farebox.errors import BadRequest

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SPAN = re.compile(r"([0-9]{1,9})([smhdw])")
_MAX_SPAN_S = 100 * 366 * 86_400  # a century: what is longer is a typing error
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_span_us(text: str, what: str) -> int:
    """A number and a unit (s, m, h, d, w) as microseconds; "0" is no time. Raises BadRequest."""
    if text == "0":
        return 0
    found = _SPAN.fullmatch(text)
    if not found:
        raise BadRequest(f"{what} {text!r} is not a span of time such as 90s, 15m, 12h or 30d.")
    span_s = int(found[1]) * _UNITS_S[found[2]]
    if span_s > _MAX_SPAN_S:
        raise BadRequest(f"{what} {text!r} is longer than a century.")
    return span_s * 1_000_000


def parse_moment_us(text: str, what: str, now_us: int, *, back: bool = False) -> int:
    """A span from now on (or back), or a moment in RFC 3339, as microseconds. Raises BadRequest."""
    if _SPAN.fullmatch(text):
        span_us = parse_span_us(text, what)
        return now_us - span_us if back else now_us + span_us
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadRequest(
            f"{what} {text!r} is neither a span such as 12h or 30d nor a time with its zone such "
            "as 2026-12-31T00:00:00Z."
        )
    return (moment - _EPOCH) // timedelta(microseconds=1)

"""The only place that reads a clock; everything else is given the time."""

import time
from datetime import UTC, datetime


def now_s() -> int:
    """Seconds since the Unix epoch."""
    return int(time.time())


def now_us() -> int:
    """Wall time in integer microseconds since the Unix epoch: for what is stored and shown."""
    return time.time_ns() // 1000


def monotonic_s() -> float:
    """Seconds of a clock that never jumps: for durations, limits and time-outs."""
    return time.monotonic()


def rfc3339(time_us: int) -> str:
    """A stored time as RFC 3339 in UTC, to the millisecond: `2026-11-23T20:15:00.123Z`."""
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_us % 1_000_000 // 1000:03d}Z"

"""The only place that reads a clock; everything else is given the time."""

import time
from datetime import UTC, datetime
from functools import lru_cache

_DAY_US = 86_400_000_000
_MILLIS = tuple(f".{millis:03d}Z" for millis in range(1000))  # what ends a time


def now_s() -> int:
    """Seconds since the Unix epoch."""
    return int(time.time())


def now_us() -> int:
    """Wall time in integer microseconds since the Unix epoch: for what is stored and shown."""
    return time.time_ns() // 1000


# Around these two there is no function, since they are read for every call: wall time in integer
# nanoseconds since the Unix epoch, and the seconds of a clock that never jumps, which is for
# durations, limits and time-outs.
now_ns = time.time_ns
monotonic_s = time.monotonic


def period_start_us(period: str, at_us: int) -> int:
    """When the day or month (UTC) began that a time is in; 0 for any other period, such as the
    total.
    """
    if period == "day":
        return at_us - at_us % _DAY_US
    if period == "month":
        moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
        return at_us - at_us % _DAY_US - (moment.day - 1) * _DAY_US
    return 0


def rfc3339(time_us: int) -> str:
    """A stored time as RFC 3339 in UTC, to the millisecond: `2026-11-23T20:15:00.123Z`."""
    return rfc3339_ms(time_us // 1000)


def now_rfc3339() -> str:
    """Wall time in the same way: for what is shown at once."""
    return rfc3339_ms(time.time_ns() // 1_000_000)


@lru_cache(maxsize=4)  # a busy worker writes ten lines of the log in one
def rfc3339_ms(time_ms: int) -> str:
    """The same of milliseconds."""
    return _second(time_ms // 1000) + _MILLIS[time_ms % 1000]


@lru_cache(maxsize=16)  # many lines of the log are of one second
def _second(time_s: int) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%S}"

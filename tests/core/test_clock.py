"""Times as they are shown, and when the day or month of one began."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from farebox.core import clock


def test_a_time_is_shown_as_rfc_3339() -> None:
    """In UTC, to the millisecond."""
    assert clock.rfc3339(1_795_464_900_123_456) == "2026-11-23T20:15:00.123Z"


@given(st.integers(0, 4 * 10**15))
def test_any_time_is_shown_to_its_millisecond(time_us: int) -> None:
    """As the standard library writes it, and never rounded into the next second."""
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    moment = moment.replace(microsecond=time_us % 1_000_000)
    expected = moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    assert clock.rfc3339(time_us) == expected


@given(st.integers(0, 4 * 10**15))
def test_a_period_begins_at_midnight(at_us: int) -> None:
    """Of the day, or of the first of the month, in UTC; a total has always been."""
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    day = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    begun = {period: clock.period_start_us(period, at_us) for period in ("day", "month", "total")}
    assert begun == {
        "day": int(day.timestamp()) * 1_000_000,
        "month": int(day.replace(day=1).timestamp()) * 1_000_000,
        "total": 0,
    }

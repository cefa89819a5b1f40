"""Sums a day of what was measured, by model, vocabulary and exactness."""

from dataclasses import replace

from farebox.core.measured import Measured
from farebox.store import Store
from farebox.store.calibration import Calibrated
from farebox.store.reports import DAY_US

CALL = Measured("m", "o200k_base", True, 100, 110, 90_909)
NOON_US = 20_000 * DAY_US + DAY_US // 2


def test_measurements_add_up(store: Store) -> None:
    """Calls, tokens and deviations are summed; of the deviations the largest is kept, too."""
    store.add_measured(CALL, NOON_US)
    store.add_measured(replace(CALL, counted=50, reported=50, deviation_ppm=0), NOON_US + 1)
    store.add_measured(replace(CALL, exact=False), NOON_US)
    store.add_measured(replace(CALL, model="a", vocabulary="deepseek_v4"), NOON_US)
    assert store.calibration(NOON_US) == [
        Calibrated("a", "deepseek_v4", True, 1, 100, 110, 90_909, 90_909),
        Calibrated("m", "o200k_base", False, 1, 100, 110, 90_909, 90_909),
        Calibrated("m", "o200k_base", True, 2, 150, 160, 90_909, 90_909),
    ]


def test_days_add_up_from_the_one_that_the_moment_is_in(store: Store) -> None:
    """Whole days: the moment's own counts, the one before does not."""
    for days in (2, 1, 0):
        store.add_measured(CALL, NOON_US - days * DAY_US)
    calls = [
        sum(row.calls for row in store.calibration(NOON_US - days * DAY_US)) for days in range(4)
    ]
    assert calls == [1, 2, 3, 3]
    assert store.calibration(NOON_US + DAY_US) == []

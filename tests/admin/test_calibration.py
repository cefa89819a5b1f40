"""The calibration report: factors and deviations as decimal shares."""

from dataclasses import replace

import pytest

from farebox.admin.calibration import calibration
from farebox.core import clock
from farebox.core.measured import Measured
from farebox.errors import BadRequest
from farebox.store import Store
from farebox.store.reports import DAY_US

CALL = Measured("m", "o200k_base", False, 1000, 1050, 20_000)


def test_a_model_is_reported_with_its_factor(store: Store) -> None:
    """Reported by counted, and how far off answers were, in the mean and at most."""
    now_us = clock.now_us()
    store.add_measured(CALL, now_us)
    store.add_measured(replace(CALL, reported=1150, deviation_ppm=60_000), now_us)
    report = calibration(store)
    assert report == {
        "since": clock.rfc3339((now_us - 7 * DAY_US) // DAY_US * DAY_US),
        "until": report["until"],
        "rows": [
            {
                "model": "m",
                "vocabulary": "o200k_base",
                "exact": False,
                "calls": 2,
                "counted": 2000,
                "reported": 2200,
                "factor": "1.1",
                "mean_deviation": "0.04",
                "largest_deviation": "0.06",
            }
        ],
    }


def test_nothing_counted_has_no_factor(store: Store) -> None:
    """Nothing is divided by zero."""
    store.add_measured(replace(CALL, counted=0), clock.now_us())
    (row,) = calibration(store)["rows"]
    assert row["factor"] is None


def test_a_report_has_no_rows_before_anything_was_measured(store: Store) -> None:
    """Nor for a time in which nothing was; the future is refused."""
    store.add_measured(CALL, clock.now_us() - 9 * DAY_US)
    assert calibration(store)["rows"] == []
    assert len(calibration(store, "10d")["rows"]) == 1
    with pytest.raises(BadRequest, match="is in the future"):
        calibration(store, "2999-01-01T00:00:00Z")

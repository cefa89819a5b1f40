"""What counting tokens is measured by: sums a day of calls whose usage was reported."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from farebox.core.measured import Measured
from farebox.store.engine import StoreBase
from farebox.store.reports import DAY_US
from farebox.store.schema import calibration

_ADD = """
INSERT INTO calibration
    (model, vocabulary, exact, day_us, calls, counted, reported, deviation_ppm_sum,
     deviation_ppm_max)
VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)
ON CONFLICT (model, vocabulary, exact, day_us) DO UPDATE SET
    calls = calls + 1,
    counted = counted + excluded.counted,
    reported = reported + excluded.reported,
    deviation_ppm_sum = deviation_ppm_sum + excluded.deviation_ppm_sum,
    deviation_ppm_max = max(deviation_ppm_max, excluded.deviation_ppm_max)
"""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Calls of one model that were counted in one way. Deviations are of the answers that clients
    would have got.
    """

    model: str
    vocabulary: str
    exact: bool
    calls: int
    counted: int  # tokens by the vocabulary
    reported: int
    deviation_ppm_sum: int
    deviation_ppm_max: int


class Calibrations(StoreBase):
    """Sums of what was measured."""

    def add_measured(self, measured: Measured, at_us: int) -> None:
        """Add one call to the sums of its day."""
        with self._driving() as driver:
            driver.execute(
                _ADD,
                (
                    measured.model,
                    measured.vocabulary,
                    int(measured.exact),
                    at_us // DAY_US * DAY_US,
                    measured.counted,
                    measured.reported,
                    measured.deviation_ppm,
                    measured.deviation_ppm,
                ),
            )

    def calibration(self, since_us: int) -> list[Calibrated]:
        """Sums of the days that end after that moment, by model."""
        days = calibration.c
        of = (days.model, days.vocabulary, days.exact)
        summed = ("calls", "counted", "reported", "deviation_ppm_sum")
        query = (
            sa.select(
                *of,
                *(sa.func.sum(days[name]).label(name) for name in summed),
                sa.func.max(days.deviation_ppm_max).label("deviation_ppm_max"),
            )
            .where(days.day_us > since_us - DAY_US)
            .group_by(*of)
            .order_by(*of)
        )
        with self._reading() as connection:
            return [_calibrated(row) for row in connection.execute(query).mappings()]


def _calibrated(row: sa.RowMapping) -> Calibrated:
    return Calibrated(
        row["model"],
        row["vocabulary"],
        bool(row["exact"]),
        row["calls"],
        row["counted"],
        row["reported"],
        row["deviation_ppm_sum"],
        row["deviation_ppm_max"],
    )

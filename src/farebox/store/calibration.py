"""What counting tokens is measured by: sums a day of calls whose usage was reported."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from farebox.core.measured import Measured
from farebox.store.engine import StoreBase
from farebox.store.reports import DAY_US
from farebox.store.schema import calibration

_ADD = sa.text("""
INSERT INTO calibration
    (model, vocabulary, exact, day_us, calls, counted, reported, deviation_ppm_sum,
     deviation_ppm_max)
VALUES (:model, :vocabulary, :exact, :day_us, 1, :counted, :reported, :deviation, :deviation)
ON CONFLICT (model, vocabulary, exact, day_us) DO UPDATE SET
    calls = calibration.calls + 1,
    counted = calibration.counted + excluded.counted,
    reported = calibration.reported + excluded.reported,
    deviation_ppm_sum = calibration.deviation_ppm_sum + excluded.deviation_ppm_sum,
    deviation_ppm_max = CASE WHEN calibration.deviation_ppm_max > excluded.deviation_ppm_max
        THEN calibration.deviation_ppm_max ELSE excluded.deviation_ppm_max END
""")


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
        names = {
            "model": measured.model,
            "vocabulary": measured.vocabulary,
            "exact": int(measured.exact),
            "day_us": at_us // DAY_US * DAY_US,
            "counted": measured.counted,
            "reported": measured.reported,
            "deviation": measured.deviation_ppm,
        }
        with self._writing_rows() as connection:
            connection.execute(_ADD, names)

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
        # PostgreSQL's sums are decimals.
        int(row["calls"]),
        int(row["counted"]),
        int(row["reported"]),
        int(row["deviation_ppm_sum"]),
        row["deviation_ppm_max"],
    )

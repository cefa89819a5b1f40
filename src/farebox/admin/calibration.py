"""How counted tokens compare with what upstreams reported, by model. Charges are usage's."""

from __future__ import annotations

from typing import Any

from farebox.admin.durations import parse_moment_us
from farebox.core import clock
from farebox.core.money import PPM, show_ppm
from farebox.errors import BadRequest
from farebox.store import Store
from farebox.store.calibration import Calibrated
from farebox.store.reports import DAY_US


def calibration(store: Store, since: str = "7d") -> dict[str, Any]:
    """Calls, tokens, the factor between them and deviations, since a span ago or a moment. Raises
    BadRequest.

    Sums are of whole days: `since` in the answer is the beginning of the day it falls into.
    """
    now_us = clock.now_us()
    since_us = parse_moment_us(since, "--since", now_us, back=True)
    if since_us > now_us:
        raise BadRequest(f"--since {since!r} is in the future.")
    since_us = max(since_us, 0) // DAY_US * DAY_US
    return {
        "since": clock.rfc3339(since_us),
        "until": clock.rfc3339(now_us),
        "rows": [_row(each) for each in store.calibration(since_us)],
    }


def _row(sums: Calibrated) -> dict[str, Any]:
    factor_ppm = sums.reported * PPM // sums.counted if sums.counted else None
    return {
        "model": sums.model,
        "vocabulary": sums.vocabulary,
        "exact": sums.exact,
        "calls": sums.calls,
        "counted": sums.counted,
        "reported": sums.reported,
        "factor": None if factor_ppm is None else show_ppm(factor_ppm),
        "mean_deviation": show_ppm(sums.deviation_ppm_sum // sums.calls),
        "largest_deviation": show_ppm(sums.deviation_ppm_max),
    }

"""By how much models count more than the vocabulary that stands in for theirs, as measured. Pure.

What was measured comes from calls whose usage an upstream reported; keeping it is the store's.
"""

from __future__ import annotations

from dataclasses import dataclass

ENOUGH_CALLS = 20  # fewer say more of those calls than of the model
_PPM = 1_000_000
# Beyond these bounds what was measured is not a vocabulary: an upstream adds pages of its own, say.
_LEAST_PPM, _MOST_PPM = _PPM // 4, _PPM * 4


@dataclass(slots=True)
class _Sums:
    calls: int = 0
    counted: int = 0
    reported: int = 0


class Factors:
    """What is known of each model, by its public id."""

    def __init__(self) -> None:
        self._models: dict[str, _Sums] = {}

    def add(self, model: str, calls: int, counted: int, reported: int) -> None:
        """Calls whose inputs had so many tokens by the vocabulary, and by the upstream."""
        sums = self._models.setdefault(model, _Sums())
        sums.calls += calls
        sums.counted += counted
        sums.reported += reported

    def ppm(self, model: str, default_ppm: int) -> int:
        """Parts per million to multiply a count with; the default while too little is known."""
        sums = self._models.get(model)
        if sums is None or sums.calls < ENOUGH_CALLS or not sums.counted:
            return default_ppm
        return min(_MOST_PPM, max(_LEAST_PPM, sums.reported * _PPM // sums.counted))

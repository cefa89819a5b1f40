"""Whether other programs of the machine take from the core of the server under test.

Cores of a shared machine are often halves of real ones, whose other halves work for somebody else:
for seconds at a time the same work then takes up to twice the CPU time, and that of an interpreter
suffers more than that of a small C program. So a piece of work that is always the same is timed
before and after a window; a window between two slow ones is no measurement of the server, and is
made again. What the server took in it has no say in that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from bench import proc

SLOW = 1.15  # × the least time of the run, for the same work
_LOOPS = 10_000  # half a millisecond or so
_LOOKS = 9  # of which the one in the middle counts
_LOOK_AGAIN_S = 0.1
_T = TypeVar("_T")


@dataclass(slots=True)
class Tally:
    """How calm a run was."""

    windows: int = 0
    again: int = 0  # of these, windows that were made because the one before was disturbed
    disturbed: int = 0  # samples for which no window was calm; the calmest was taken


class Calm:
    """Looks at one core, and has windows made again."""

    def __init__(
        self,
        core: int,
        patience_s: float,
        *,
        time_work: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`patience_s`: what may be spent on one sample besides its first window, on waiting for
        a calm moment and on more windows; 0: neither is done. The others are for tests.
        """
        self.tally = Tally()
        self._core = core
        self._patience_s = patience_s
        self._time_work = time_work or self._time_loops
        self._sleep = sleep
        self._least_s = self._time_work()

    def measure(self, window: Callable[[], _T], window_s: float) -> _T:
        """What a window of `window_s` gave with a calm moment before and after it; if there is
        none while patience lasts, what the calmest one gave.
        """
        left_s = self._patience_s
        found: list[tuple[float, _T]] = []
        while True:
            while (before := self._slowness()) > SLOW and left_s >= _LOOK_AGAIN_S:
                self._sleep(_LOOK_AGAIN_S)
                left_s -= _LOOK_AGAIN_S
            given = window()
            self.tally.windows += 1
            found.append((max(before, self._slowness()), given))
            if found[-1][0] <= SLOW:
                return given
            if left_s < window_s:
                self.tally.disturbed += 1
                return min(found, key=lambda each: each[0])[1]
            left_s -= window_s
            self.tally.again += 1

    def _slowness(self) -> float:
        """1: as fast as ever in this run; 2: the same work takes twice the time."""
        taken_s = self._time_work()
        self._least_s = min(self._least_s, taken_s)
        return taken_s / self._least_s

    def _time_loops(self) -> float:
        with proc.pinned(self._core):
            return median(_loops_s() for _ in range(_LOOKS))


def _loops_s() -> float:
    begun_s = time.thread_time()
    total = 0
    for i in range(_LOOPS):
        total += i * i % 7
    return time.thread_time() - begun_s

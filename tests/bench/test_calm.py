"""Windows beside slow moments of the core are made again, while patience lasts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import proc
from bench.calm import Calm, Tally

QUICK, SLOW = 1.0, 2.0


class Machine:
    """A core that is as slow as is said, look by look; then quick. Windows give 1, 2, 3, …"""

    def __init__(self, *looks: float) -> None:
        self.looks: Iterator[float] = iter(looks)
        self.windows = 0
        self.slept_s = 0.0

    def calm(self, patience_s: float) -> Calm:
        """What looks at it."""
        return Calm(0, patience_s, time_work=lambda: next(self.looks, QUICK), sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        """Nothing else happens meanwhile."""
        self.slept_s += seconds

    def window(self) -> int:
        """A measurement."""
        self.windows += 1
        return self.windows


def test_a_calm_window_is_the_only_one() -> None:
    machine = Machine(QUICK, QUICK, QUICK)
    calm = machine.calm(8)
    assert calm.measure(machine.window, 2) == 1
    assert calm.tally == Tally(windows=1)
    assert machine.slept_s == 0


def test_a_window_waits_for_a_calm_moment() -> None:
    machine = Machine(QUICK, SLOW, SLOW, QUICK, QUICK)
    calm = machine.calm(8)
    assert calm.measure(machine.window, 2) == 1
    assert calm.tally == Tally(windows=1)
    assert machine.slept_s == pytest.approx(0.2)


def test_a_window_before_a_slow_moment_is_made_again() -> None:
    machine = Machine(QUICK, QUICK, SLOW, QUICK, QUICK)
    calm = machine.calm(8)
    assert calm.measure(machine.window, 2) == 2
    assert calm.tally == Tally(windows=2, again=1)


@pytest.mark.parametrize(("patience_s", "windows"), [(0, 1), (1.9, 1), (2, 2), (5, 3)])
def test_windows_end_with_patience(patience_s: float, windows: int) -> None:
    machine = Machine(QUICK, *[QUICK, SLOW] * 10)
    calm = machine.calm(patience_s)
    calm.measure(machine.window, 2)
    assert calm.tally == Tally(windows=windows, again=windows - 1, disturbed=1)


def test_of_disturbed_windows_the_calmest_counts() -> None:
    machine = Machine(QUICK, *(QUICK, 2.0), *(QUICK, 1.5), *(QUICK, 1.8))
    assert machine.calm(4).measure(machine.window, 2) == 2


def test_waiting_uses_up_patience_too() -> None:
    machine = Machine(QUICK, *[SLOW] * 100)
    calm = machine.calm(1)
    assert calm.measure(machine.window, 2) == 1
    assert machine.slept_s == pytest.approx(1)
    assert calm.tally == Tally(windows=1, disturbed=1)


def test_what_is_slow_is_judged_by_the_quickest_moment_so_far() -> None:
    machine = Machine(SLOW, SLOW, QUICK, QUICK, QUICK)
    calm = machine.calm(8)
    assert calm.measure(machine.window, 2) == 1  # the quick moment after it is news
    assert calm.measure(machine.window, 2) == 2
    assert calm.tally == Tally(windows=2)


def test_the_real_work_is_timed_on_the_core() -> None:
    calm = Calm(proc.choose_cores().server, 0)
    assert calm.measure(lambda: "given", 1) == "given"
    assert calm.tally.windows == 1

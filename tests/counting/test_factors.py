"""What was measured of a model takes the place of a rule of thumb."""

from farebox.counting.factors import ENOUGH_CALLS, Factors


def test_enough_calls_make_a_factor() -> None:
    """Reported by counted, over all of them; fewer leave the default."""
    factors = Factors()
    assert factors.ppm("m", 7) == 7
    factors.add("m", ENOUGH_CALLS - 1, 1900, 2000)
    assert factors.ppm("m", 7) == 7
    factors.add("m", 1, 100, 300)
    assert factors.ppm("m", 7) == 1_150_000
    assert factors.ppm("other", 7) == 7


def test_an_absurd_measurement_has_bounds() -> None:
    """A vocabulary is neither four times as coarse nor as fine."""
    factors = Factors()
    factors.add("hidden prompt", 50, 100, 100_000)
    factors.add("broken", 50, 100_000, 1)
    factors.add("empty", 50, 0, 10)
    assert [factors.ppm(name, 7) for name in ("hidden prompt", "broken", "empty")] == [
        4_000_000,
        250_000,
        7,
    ]

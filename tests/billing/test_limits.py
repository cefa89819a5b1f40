"""Hang-ups before an answer's head cost nothing, so a key may make only a few a minute; and what is
written of its refusals is little.
"""

from hypothesis import example, given
from hypothesis import strategies as st

from farebox.billing.limits import Hangups, Seldom


def test_the_third_call_after_two_hang_ups_waits_for_the_first_to_be_a_minute_old() -> None:
    """Whole seconds, rounded up, at least one."""
    hangups = Hangups()
    waits = []
    for now_s in (0.0, 10.0):
        waits.append(hangups.wait_s("key_1", now_s))
        hangups.note("key_1", now_s)
    waits += [hangups.wait_s("key_1", now_s) for now_s in (10.0, 10.5, 59.0, 59.999, 60.0)]
    assert waits == [0, 0, 50, 50, 1, 1, 0]


def test_at_once_means_a_whole_minute() -> None:
    """Not a second more."""
    hangups = Hangups()
    hangups.note("key_1", 5.0)
    hangups.note("key_1", 5.0)
    assert hangups.wait_s("key_1", 5.0) == 60


def test_a_key_waits_for_its_own_hang_ups_only() -> None:
    """Others call on."""
    hangups = Hangups()
    hangups.note("key_1", 0.0)
    hangups.note("key_1", 0.0)
    assert (hangups.wait_s("key_1", 1.0), hangups.wait_s("key_2", 1.0)) == (59, 0)


def test_only_keys_that_hung_up_need_be_asked_about() -> None:
    """Until their time is over."""
    hangups = Hangups()
    hangups.note("key_1", 0.0)
    assert list(hangups.keys) == ["key_1"]
    hangups.wait_s("key_1", 60.0)
    assert not hangups.keys


def test_an_attack_of_many_keys_is_forgotten_rather_than_remembered() -> None:
    """Memory is bounded."""
    hangups = Hangups()
    hangups.note("key_1", 0.0)
    for n in range(100_000):
        hangups.note(f"other_{n}", 0.0)
    hangups.note("key_1", 0.0)
    assert hangups.wait_s("key_1", 0.0) == 0


@given(st.lists(st.floats(0, 300), max_size=20).map(sorted), st.floats(0, 120))
@example([196.29463219929258] * 2, 0.0)  # a minute more, less what it was, is less than a minute
@example([0.1] * 2, 0.0)
def test_who_waits_as_told_may_call(times_s: list[float], later_s: float) -> None:
    """Never longer than a minute, and never in vain."""
    hangups = Hangups()
    for now_s in times_s:
        hangups.note("key_1", now_s)
    now_s = (times_s[-1] if times_s else 0.0) + later_s
    wait_s = hangups.wait_s("key_1", now_s)
    assert 0 <= wait_s <= 60
    assert hangups.wait_s("key_1", now_s + wait_s) == 0


def test_what_happens_seldom_happens_once_a_minute_for_each_key() -> None:
    """The minute begins when it happened; keys do not know of each other."""
    seldom = Seldom()
    asked = [("key_1", 0.0), ("key_1", 59.9), ("key_2", 59.9), ("key_1", 60.0), ("key_1", 61.0)]
    assert [seldom.is_due(*each) for each in asked] == [True, False, True, True, False]


def test_keys_beyond_measure_are_forgotten_rather_than_remembered() -> None:
    """Then it may happen again."""
    seldom = Seldom()
    for n in range(100_001):
        assert seldom.is_due(f"key_{n}", 0.0)
    assert seldom.is_due("key_0", 1.0)

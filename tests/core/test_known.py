"""What is kept of values by key: from the second time, never more than there is room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farebox.core.known import Known

MOST, MOST_BYTES, LARGEST_BYTES = 4, 320, 20


def test_a_key_has_come_when_it_comes_again() -> None:
    """Not the first time; and one that came long ago, before many others, not either."""
    known = Known[int, str](MOST, MOST_BYTES)
    assert [known.has_come(key) for key in (1, 2, 1, 1, 2)] == [False, False, True, True, True]
    for key in range(10, 10 + MOST):
        known.has_come(key)
    assert not known.has_come(1)


def test_what_is_kept_is_found_and_nothing_else() -> None:
    """By a key that is equal; the last value of it."""
    known = Known[tuple[int, bytes], str](MOST, MOST_BYTES)
    assert known.find((1, b"k")) is None
    assert known.keep((1, b"k"), "old", 1)
    assert known.keep((1, b"k"), "v", 1)
    assert (known.find((1, b"k")), known.find((2, b"k"))) == ("v", None)


def test_a_value_that_is_too_large_is_not_kept() -> None:
    """One may not push out all others."""
    known = Known[int, str](MOST, MOST_BYTES)
    assert known.keep(1, "fits", LARGEST_BYTES)
    assert not known.keep(2, "too large", LARGEST_BYTES + 1)
    assert (known.find(1), known.find(2)) == ("fits", None)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, LARGEST_BYTES)), max_size=60))
def test_there_is_never_more_than_there_is_room_for(kept: list[tuple[int, int]]) -> None:
    """The newest is there; of all, at most so many, and so many bytes."""
    known = Known[int, int](MOST, MOST_BYTES // 8)
    for key, size_bytes in kept:
        if not known.keep(key, size_bytes, size_bytes):
            continue
        assert known.find(key) == size_bytes
        found = [size for each in range(10) if (size := known.find(each)) is not None]
        assert len(found) <= MOST
        assert sum(found) <= MOST_BYTES // 8

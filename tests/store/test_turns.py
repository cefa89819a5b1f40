"""Chores that are done once for all hosts of a store."""

from contextlib import suppress

from farebox.store import Store
from tests.store.bookkeeping import write


def test_a_chore_is_done_by_one_host_at_a_time(either: Store) -> None:
    """With PostgreSQL another host's turn is not now; a SQLite store has one host."""
    with either.turn("audit", 60) as first, either.turn("audit", 60) as second:
        assert (first, second) == (True, not either.is_postgresql)
    with either.turn("audit", 60) as first, either.turn("sweep", 60) as second:
        assert (first, second) == (not either.is_postgresql, True)


def test_a_chore_is_due_again_after_its_time(either: Store) -> None:
    """Whoever asks before that, on whatever host, is told that it is done."""
    with either.turn("audit", 60) as ours:
        assert ours
    with either.turn("audit", 60) as ours:
        assert ours is not either.is_postgresql
    write(either, "UPDATE facts SET value = '1' WHERE name = 'chore_audit_us'")
    with either.turn("audit", 60) as ours:
        assert ours


def test_a_chore_that_failed_is_due_at_once(either: Store) -> None:
    """It was not done."""
    for _ in range(2):
        with suppress(ZeroDivisionError), either.turn("audit", 60) as ours:
            assert ours
            raise ZeroDivisionError

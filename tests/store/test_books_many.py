"""Many calls in one batch, which PostgreSQL is given in another way than few."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from farebox.billing.entry import ENTRY_FIELDS, Entry
from farebox.billing.jobs import Post, Posted, Rejected
from farebox.store import Store
from farebox.store.books import OwnedBooks
from tests.store.bookkeeping import broken_invariants, entry, granted, post, read

PLAIN = (
    "",
    "null",
    "None",
    "a,b",
    '"',
    '","',
    "'",
    "''",
    "],[",
    "]",
    "{}",
    " a ",
    "a\x7fb",
    "価",
    "🪙",
)
ODD = (r"\None", r"\N", r"\.", "a\tb", "a\nb", "]\n[", "a\r\nb", "\\", '\\"', "\x01")


@pytest.mark.parametrize("texts", [PLAIN, ODD, PLAIN + ODD], ids=["plain", "odd", "both"])
def test_many_calls_at_once_are_written_whole(
    store: Store, books: OwnedBooks, texts: tuple[str, ...]
) -> None:
    """However many go together, and whatever their texts are; null is not the word for it."""
    lease = granted(books, 1000)
    calls = [
        entry(f"req_{n:03}", 1, 1, model=str(text), channel=text, service_tier=text)
        for n, text in enumerate([*texts, None] * 8)
    ]
    for some in (calls[:40], calls[40:]):
        outcomes = books.do([Post(call, lease, 1, 0) for call in some])
        assert outcomes == [Posted(1, 0, inserted=True)] * len(some)
    rows = read(store, "SELECT * FROM usage ORDER BY request_id")
    assert [Entry(*row[: len(ENTRY_FIELDS)]) for row in rows] == calls
    assert broken_invariants(store) == {}


def test_many_calls_of_which_some_were_written_before(store: Store, books: OwnedBooks) -> None:
    """Those change nothing and get their first answer; the others are charged."""
    lease = granted(books, 1000)
    before, after = range(0, 100, 7), range(100)
    books.do([post(f"req_{n}", lease, 5) for n in before])
    outcomes = books.do([post(f"req_{n}", lease, 3) for n in after])
    assert outcomes == [
        Posted(5, 0, inserted=False) if n in before else Posted(3, 0, inserted=True) for n in after
    ]
    spent = 5 * len(before) + 3 * (100 - len(before))
    assert read(store, "SELECT granted, spent, returned FROM leases") == [(1000, spent, 0)]
    assert broken_invariants(store) == {}


def test_a_bad_call_among_many_is_rejected_alone(store: Store, books: OwnedBooks) -> None:
    """As among few."""
    lease = granted(books, 1000)
    calls = [post(f"req_{n}", lease, 1) for n in range(100)]
    calls[50] = replace(calls[50], entry=entry("req_50", 1, 1, ms=2**70))
    outcomes = books.do(calls)
    assert isinstance(outcomes[50], Rejected)
    assert outcomes[:50] + outcomes[51:] == [Posted(1, 0, inserted=True)] * 99
    assert broken_invariants(store) == {}


def test_many_large_calls(store: Store, books: OwnedBooks) -> None:
    """More at once than a socket takes."""
    lease = granted(books, 1000)
    flag = 100_000 * "x"
    calls = [entry(f"req_{n:03}", 1, 1, flags=[flag]) for n in range(40)]
    outcomes = books.do([Post(call, lease, 1, 0) for call in calls])
    assert outcomes == [Posted(1, 0, inserted=True)] * len(calls)
    assert read(store, "SELECT count(*), min(flags) FROM usage") == [(40, f'["{flag}"]')]

"""What the store tells of calls: one as it was written, and sums that are those of the rows."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.billing.jobs import Undelivered
from farebox.core.call import Attempt
from farebox.core.usage import CLASSES, Usage
from farebox.store import Store
from farebox.store.reports import DAY_US, HOUR_US, UndeliveredCall
from tests.charging import books_of, settle
from tests.settlements import NOON_US, settlement
from tests.store.bookkeeping import read

SUMS = ("calls", *CLASSES, "charge", "absorbed")


def test_a_call_is_read_as_it_was_written(either: Store) -> None:
    """Every field, its attempts from its own row, and what became of it."""
    either.create_account("ann", credits_nanocredits=1000)
    call = settlement(
        due_nanocredits=1100,
        hold_nanocredits=1200,
        service_tier="flex",
        tool_calls=(("web_search", 2),),
        flags=("estimated",),
        attempts=(Attempt(1, "first", 500, "status_500", 12), Attempt(2, "main", 200, None, 9, 5)),
        ms=352,
        ttft_ms=55,
    )
    settled = settle(either, call)
    stored = either.call("req_1")
    assert stored is not None
    assert (stored.account, stored.settlement, stored.settled) == ("ann", call, settled)
    assert (settled.charge_nanocredits, settled.absorbed_nanocredits) == (1000, 100)
    assert read(either, "SELECT id, spent FROM leases") == [(stored.lease_id, 1000)]
    assert read(either, "SELECT settled_us FROM usage") == [(stored.settled_us,)]
    assert either.call("req_2") is None


@pytest.fixture
def shared(either: Store) -> Store:
    """A store that all examples write into."""
    for name in ("ann", "bob"):
        either.create_account(name, credits_nanocredits=10_000)
    return either


CALLS = st.lists(
    st.builds(
        dict[str, Any],
        account_id=st.integers(1, 2),
        key_id=st.sampled_from(("key_1", "key_2")),
        model=st.sampled_from(("a", "B", "ä")),
        hours=st.integers(-30, 30),
        usage=st.builds(Usage, **{name: st.integers(0, 10**12) for name in CLASSES}),
        due=st.integers(0, 3000),
    ),
    max_size=6,
)
NUMBERS = iter(range(1, 1_000_000))


def test_sums_are_those_of_the_rows(shared: Store) -> None:
    """By model, key and day, whatever was called and whatever was absorbed."""

    @settings(max_examples=30)
    @given(CALLS)
    def holds(calls: list[dict[str, Any]]) -> None:
        for call in calls:
            settle(
                shared,
                settlement(
                    request_id=f"req_{next(NUMBERS)}",
                    created_us=NOON_US + call.pop("hours") * HOUR_US + 7,
                    due_nanocredits=call.pop("due"),
                    **call,
                ),
            )
        for by in ("model", "key", "day"):
            told = {
                total.of: (
                    total.calls,
                    *(total.tokens[name] for name in CLASSES),
                    total.charge_nanocredits,
                    total.absorbed_nanocredits,
                )
                for total in shared.usage_totals(by, 0, NOON_US * 2)
            }
            assert told == _raw(shared, by)

    holds()


def _raw(store: Store, by: str) -> dict[object, tuple[int, ...]]:
    names = ("model", "key_id", "created_us", *SUMS[1:])
    sums: dict[object, Counter[str]] = {}
    for values in read(store, f"SELECT {', '.join(names)} FROM usage"):
        row = dict(zip(names, values, strict=True))
        of = {
            "model": row["model"],
            "key": row["key_id"],
            "day": row["created_us"] // DAY_US * DAY_US,
        }[by]
        found = sums.setdefault(of, Counter())
        found.update({name: row[name] for name in SUMS[1:]})
        found["calls"] += 1
    return {of: tuple(found[name] for name in SUMS) for of, found in sums.items()}


def test_calls_that_were_not_delivered_are_found(either: Store) -> None:
    """Those in the span, oldest first, with what they were charged."""
    either.create_account("ann", credits_nanocredits=1000)
    for n in (2, 1, 0):
        created_us = NOON_US + n * HOUR_US
        call = settlement(request_id=f"req_{n}", created_us=created_us, due_nanocredits=n + 5)
        settle(either, call)
    books_of(either).do([Undelivered(("req_0", "req_1", "req_2"))])
    assert either.undelivered(NOON_US, NOON_US + 2 * HOUR_US) == [
        UndeliveredCall(f"req_{n}", "ann", "key_1", "m-1", NOON_US + n * HOUR_US, n + 5)
        for n in (0, 1)
    ]

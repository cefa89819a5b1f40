"""Holding and settling: what one call does to the money, exactly once."""

import sqlite3
from contextlib import closing
from functools import partial

import pytest

from farebox.core.ports import Settled
from farebox.core.usage import CLASSES, Usage
from farebox.errors import OutOfCredit, Unauthorized
from farebox.store import Store
from farebox.store.accounts import StoredAccount
from farebox.store.calls import release_in
from farebox.store.reports import StoredCall, Total
from tests.settlements import NOON_US
from tests.store.bookkeeping import HOUR_US, broken_invariants, hold_request, settlement


def money(store: Store) -> tuple[int, int, int]:
    """Available, held and spent of the account of these tests."""
    account = store.account_by_id(1)
    assert account is not None
    return account.available_nanocredits, account.held_nanocredits, account.spent_nanocredits


def transfers(store: Store) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(store.path)) as database:
        return database.execute(
            "SELECT kind, amount, request_id FROM transfers WHERE request_id IS NOT NULL"
            " ORDER BY id"
        ).fetchall()


@pytest.mark.parametrize(
    ("least", "most", "held"),
    [(1, 400, 400), (400, 400, 400), (1, 5000, 1000), (1000, 1000, 1000), (0, 0, 0)],
)
def test_a_hold_takes_what_is_asked_or_what_there_is(
    store: Store, account: StoredAccount, least: int, most: int, held: int
) -> None:
    """Between least and most, as much as the balance of 1000 gives."""
    assert store.hold(hold_request(least=least, most=most), "w1") == held
    assert money(store) == (1000 - held, held, 0)
    assert broken_invariants(store.path) == {}


def test_a_hold_may_use_the_credit_limit(store: Store, account: StoredAccount) -> None:
    """The limit is as good as balance."""
    store.set_account(1, {"credit_limit": 500})
    assert store.hold(hold_request(least=1200, most=9000), "w1") == 1500
    assert money(store) == (-500, 1500, 0)


def test_a_call_that_costs_nothing_needs_no_balance(store: Store) -> None:
    """At rate 0 an empty account holds and settles zero."""
    store.create_account("poor")
    assert store.hold(hold_request(least=0, most=0), "w1") == 0
    assert store.settle(settlement(due=0)) == Settled(0, 0)
    assert transfers(store) == []
    assert broken_invariants(store.path) == {}


def test_a_hold_beyond_the_balance_names_the_shortfall(
    store: Store, account: StoredAccount
) -> None:
    """The refusal says what is needed, what there is and what is missing; nothing is held."""
    with pytest.raises(OutOfCredit) as caught:
        store.hold(hold_request(least=1500, most=2000), "w1")
    assert caught.value.message == (
        "This call needs at least 0.0000015 credits and the balance is 0.000001: 0.0000005 more"
        " are needed. Add credits, or ask for a shorter answer."
    )
    assert (caught.value.status, caught.value.should_retry) == (429, False)
    assert money(store) == (1000, 0, 0)


def test_a_refusal_says_when_calls_in_flight_are_the_reason(
    store: Store, account: StoredAccount
) -> None:
    """Where the balance would do but for other holds, the sentence says so."""
    store.hold(hold_request("req_1", most=900), "w1")
    with pytest.raises(OutOfCredit) as caught:
        store.hold(hold_request("req_2", least=150, most=200), "w1")
    assert "but 0.0000009 of it are held by calls in flight" in caught.value.message
    assert "0.00000005 more are needed now" in caught.value.message


def test_a_disabled_or_unknown_account_holds_nothing(store: Store, account: StoredAccount) -> None:
    """A key that was let in a moment ago spends nothing of an account closed since."""
    store.set_account(1, {"disabled": 1})
    for account_id in (1, 99):
        with pytest.raises(Unauthorized):
            store.hold(hold_request(account_id=account_id), "w1")
    assert money(store) == (1000, 0, 0)


def test_asking_twice_for_one_hold_holds_once(store: Store, account: StoredAccount) -> None:
    """The same request id gets the same answer and takes nothing more."""
    assert [store.hold(hold_request(most=400), "w1") for _ in range(2)] == [400, 400]
    assert money(store) == (600, 400, 0)


@pytest.mark.parametrize(
    ("held", "due", "charge", "after"),
    [
        (400, 150, 150, (850, 0, 150)),  # the rest comes back
        (400, 400, 400, (600, 0, 400)),
        (400, 0, 0, (1000, 0, 0)),
        (400, 700, 700, (300, 0, 700)),  # more than held, still there
        (400, 1001, 1000, (0, 0, 1000)),  # more than there is
        (None, 150, 150, (850, 0, 150)),  # its hold was lost
    ],
)
@pytest.mark.usefixtures("account")
def test_settling_charges_what_is_due_as_far_as_it_goes(
    store: Store, held: int | None, due: int, charge: int, after: tuple[int, int, int]
) -> None:
    """The hold comes back, the charge goes, and what the account lacks is absorbed."""
    if held is not None:
        store.hold(hold_request(most=held), "w1")
    assert store.settle(settlement(due=due, hold=held or 0)) == Settled(charge, due - charge)
    assert money(store) == after
    posted = [("charge", charge), ("absorbed", due - charge)]
    assert transfers(store) == [(kind, amount, "req_1") for kind, amount in posted if amount]
    assert broken_invariants(store.path) == {}


def test_settling_stops_at_the_credit_limit(store: Store, account: StoredAccount) -> None:
    """What is due goes below zero down to the limit; the rest is the operator's."""
    store.set_account(1, {"credit_limit": 200})
    assert store.settle(settlement(due=1500)) == Settled(1200, 300)
    assert money(store) == (-200, 0, 1200)
    assert broken_invariants(store.path) == {}


def test_a_second_settlement_changes_nothing(store: Store, account: StoredAccount) -> None:
    """Whatever it says, the first one counts and its answer is given again."""
    first = settlement(due=300)
    store.settle(first)
    before = money(store)
    assert store.settle(settlement(due=900, model="other")) == Settled(300, 0)
    assert money(store) == before
    call = store.call("req_1")
    assert call is not None
    assert call.settlement == first
    assert broken_invariants(store.path) == {}


def test_a_settled_call_is_read_back_whole(store: Store, account: StoredAccount) -> None:
    """Every field of a settlement is kept, with its attempts in their order."""
    every = Usage(**{name: number for number, name in enumerate(CLASSES, 1)})
    call = settlement(due=1100, hold=7, usage=every)
    store.settle(call)
    assert store.call("req_1") == StoredCall("ann", call, Settled(1000, 100))


def test_a_settlement_may_leave_out_what_it_does_not_know(
    store: Store, account: StoredAccount
) -> None:
    """A call that never reached a channel has no channel, tier, tools, flags or attempts."""
    bare = settlement(
        channel=None, service_tier=None, tool_calls=(), flags=(), attempts=(), ttft_ms=None
    )
    store.settle(bare)
    assert store.call("req_1") == StoredCall("ann", bare, Settled(0, 0))
    assert store.call("req_2") is None


def test_holds_of_an_owner_are_given_back(store: Store, account: StoredAccount) -> None:
    """When a process ends, what its calls held is available again; other owners keep theirs."""
    for number, owner in enumerate(("w1", "w2", "w1")):
        store.hold(hold_request(f"req_{number}", most=100), owner)
    assert store.release_holds("w1") == 2
    assert money(store) == (900, 100, 0)
    assert store.release_all_holds() == 1
    assert money(store) == (1000, 0, 0)
    assert store.release_all_holds() == 0
    assert broken_invariants(store.path) == {}


def test_one_hold_is_given_back(store: Store, account: StoredAccount) -> None:
    """A call that will not be settled gives its hold back, once."""
    store.hold(hold_request(most=100), "w1")
    release = partial(release_in, request_id="req_1")
    store.together([release, release], patience_ms=1000)
    assert money(store) == (1000, 0, 0)
    assert broken_invariants(store.path) == {}


def test_one_piece_of_work_that_fails_spoils_no_other(store: Store, account: StoredAccount) -> None:
    """Of several in one transaction, a bad one is undone alone and its exception is its result."""

    def bad(driver: sqlite3.Connection) -> None:
        driver.execute("UPDATE accounts SET group_name = 'spoilt'")
        driver.execute("UPDATE accounts SET spent = spent + 1")

    def good(driver: sqlite3.Connection) -> int:
        return driver.execute("UPDATE accounts SET rate_ppm = 7").rowcount

    results = store.together([good, bad, good], 1000)
    assert [type(result) for result in results] == [int, sqlite3.IntegrityError, int]
    changed = store.account_by_id(1)
    assert changed is not None
    assert (changed.group, changed.rate_ppm) == ("default", 7)


def test_usage_is_summed_by_hour(store: Store, account: StoredAccount) -> None:
    """Totals by model, key and day are sums of the calls of the hours asked for."""
    calls = [
        ("req_1", "m-1", "key_1", NOON_US, 100),
        ("req_2", "m-1", "key_2", NOON_US + HOUR_US - 1, 50),
        ("req_3", "m-2", "key_1", NOON_US + 12 * HOUR_US, 7),
        ("req_4", "m-2", "key_1", NOON_US - 1, 900),  # an hour too early
    ]
    for request_id, model, key_id, created_us, due in calls:
        store.settle(
            settlement(request_id, due=due, model=model, key_id=key_id, created_us=created_us)
        )
    one = dict.fromkeys(CLASSES, 0) | {"uncached_input": 10, "cache_read": 4, "output": 5}
    two = {name: 2 * tokens for name, tokens in one.items()}
    span = (NOON_US, NOON_US + 13 * HOUR_US)
    assert store.usage_totals("model", *span) == [
        Total("m-1", 2, two, 150),
        Total("m-2", 1, one, 7),
    ]
    assert store.usage_totals("key", *span) == [
        Total("key_1", 2, two, 107),
        Total("key_2", 1, one, 50),
    ]
    midnight_us = NOON_US - 12 * HOUR_US
    assert store.usage_totals("day", *span) == [
        Total(midnight_us, 2, two, 150),
        Total(midnight_us + 24 * HOUR_US, 1, one, 7),
    ]
    assert broken_invariants(store.path) == {}

"""A ledger's batches: what each job comes to, what is written, and that nothing counts twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.billing.jobs import (
    Done,
    Grant,
    Granted,
    Job,
    LeaseGone,
    OpenLease,
    Post,
    Posted,
    Rejected,
    Return,
    Spending,
    Spent,
    Undelivered,
)
from farebox.core import clock
from farebox.core.account import Key
from farebox.store import Store
from farebox.store.books import OwnedBooks
from farebox.store.posting import grant_amount
from tests.settlements import NOON_US
from tests.store.bookkeeping import (
    HOUR_US,
    broken_invariants,
    entry,
    granted,
    post,
    read,
    silence,
    write,
)

LEASES = "SELECT id, state, granted, spent, returned FROM leases ORDER BY id"
TRANSFERS = "SELECT kind, debit, credit, amount, calls FROM transfers ORDER BY id"
AVAILABLE = "SELECT available FROM accounts ORDER BY id"


def test_a_call_is_charged_to_its_lease(store: Store, books: OwnedBooks) -> None:
    """Granted, posted, returned: each step is a transfer, and the rest is available again."""
    lease = granted(books, 400)
    assert read(store, AVAILABLE) == [(600,)]
    assert books.do([post("req_1", lease, 150), post("req_2", lease, 30)]) == [
        Posted(150, 0, inserted=True),
        Posted(30, 0, inserted=True),
    ]
    assert books.unspent() == [OpenLease(lease, 1, 220)]
    assert books.do([Return(lease, 1, 220, close=True)]) == [Done()]
    assert books.unspent() == []
    assert read(store, LEASES) == [(lease, "closed", 400, 180, 220)]
    assert read(store, AVAILABLE) == [(820,)]
    assert read(store, TRANSFERS) == [
        ("top_up", "operator:credits", "account:1", 1000, 0),
        ("lease_grant", "account:1", f"lease:{lease}", 400, 0),
        ("charge", f"lease:{lease}", "operator:revenue", 180, 2),
        ("lease_return", f"lease:{lease}", "account:1", 220, 0),
    ]
    assert broken_invariants(store) == {}


def test_a_call_is_written_whole(store: Store, books: OwnedBooks) -> None:
    """Every field of an entry is a column, beside it what it was charged to and when."""
    lease = granted(books, 100)
    # Quotes, backslashes and other scripts are text as any other.
    call = entry("req_1", 1, 70, model='m"\\\n{"価": 1}', key_id="key_'x", channel=None)
    before_us = clock.now_us()
    assert books.do([replace(post("req_1", lease, 60), entry=call, absorbed=10)]) == [
        Posted(60, 10, inserted=True)
    ]
    ((*columns, lease_id, charge, absorbed, settled_us),) = read(store, "SELECT * FROM usage")
    assert type(call)(*columns) == call
    assert (lease_id, charge, absorbed) == (lease, 60, 10)
    assert before_us <= settled_us <= clock.now_us()
    assert broken_invariants(store) == {}


def test_a_call_without_a_charge_needs_no_lease(store: Store, books: OwnedBooks) -> None:
    """It is written and counted, and moves nothing."""
    assert books.do([post("req_1", None, 0)]) == [Posted(0, 0, inserted=True)]
    assert read(store, "SELECT lease_id, charge FROM usage") == [(None, 0)]
    assert len(read(store, TRANSFERS)) == 1
    assert broken_invariants(store) == {}


def test_what_is_absorbed_is_one_transfer_a_batch(store: Store, books: OwnedBooks) -> None:
    """What an account could not pay goes from one of the operator's sides to the other."""
    calls = [replace(post(f"req_{n}", None, 0), entry=entry(f"req_{n}", 1, 7)) for n in range(3)]
    outcomes = books.do([replace(call, absorbed=7) for call in calls])
    assert outcomes == [Posted(0, 7, inserted=True)] * 3
    assert read(store, TRANSFERS)[1:] == [
        ("absorbed", "operator:absorbed", "operator:unpaid", 21, 3)
    ]
    assert broken_invariants(store) == {}


def test_the_same_call_again_changes_nothing(store: Store, books: OwnedBooks) -> None:
    """In the same batch or a later one, with other amounts or a lease that is gone since: the first
    one counts, and its amounts are the answer.
    """
    lease = granted(books, 400)
    first, other = post("req_1", lease, 150), post("req_1", lease, 200)
    again = Posted(150, 0, inserted=False)
    assert books.do([first, other]) == [Posted(150, 0, inserted=True), again]
    assert books.do([post("req_2", lease, 5), other]) == [Posted(5, 0, inserted=True), again]
    books.do([Return(lease, 1, 245, close=True)])
    assert books.do([first, first]) == [again, again]
    assert read(store, "SELECT request_id, charge FROM usage ORDER BY request_id") == [
        ("req_1", 150),
        ("req_2", 5),
    ]
    assert broken_invariants(store) == {}


def test_a_lease_is_not_charged_beyond_what_it_is(store: Store, books: OwnedBooks) -> None:
    """A call that does not fit is not written; those that do are, in their order."""
    lease = granted(books, 100)
    calls = [post("req_1", lease, 60), post("req_2", lease, 60), post("req_3", lease, 40)]
    written = [Posted(60, 0, inserted=True), LeaseGone(), Posted(40, 0, inserted=True)]
    assert books.do(calls) == written
    assert read(store, LEASES) == [(lease, "open", 100, 100, 0)]
    assert broken_invariants(store) == {}


@pytest.mark.parametrize("state", ["closed", "lost"])
def test_a_lease_that_has_ended_is_gone(store: Store, books: OwnedBooks, state: str) -> None:
    """Nothing is charged to it, nothing returned, and a grant makes another."""
    lease = granted(books, 100)
    if state == "closed":
        books.do([Return(lease, 1, 100, close=True)])
    else:
        silence(store, "own_1")
        store.lose("own_1", lambda _: True)
    before = read(store, LEASES)
    assert books.do([post("req_1", lease, 5), Return(lease, 1, 5, close=False)]) == [
        LeaseGone(),
        Done(),
    ]
    assert read(store, LEASES) == before
    (outcome,) = books.do([Grant(1, lease, 1, 10, 10, 1)])
    assert isinstance(outcome, Granted)
    assert outcome.lease_id not in (None, lease)
    assert broken_invariants(store) == {}


def test_a_lease_of_another_owner_is_not_charged(store: Store, books: OwnedBooks) -> None:
    """What one host was granted no other spends."""
    lease = granted(books, 100)
    other = OwnedBooks(store, "own_2")
    assert other.do([post("req_1", lease, 5)]) == [LeaseGone()]
    assert other.unspent() == []
    assert broken_invariants(store) == {}


def test_a_lease_that_drains_ends_with_its_last_charge(store: Store, books: OwnedBooks) -> None:
    """Closed with something unspent, for calls in the spool, it waits for them and then closes."""
    lease = granted(books, 100)
    books.do([Return(lease, 1, 70, close=True)])
    assert read(store, LEASES) == [(lease, "draining", 100, 0, 70)]
    assert books.do([post("req_1", lease, 30)]) == [Posted(30, 0, inserted=True)]
    assert read(store, LEASES) == [(lease, "closed", 100, 30, 70)]
    assert broken_invariants(store) == {}


def test_a_grant_adds_to_a_lease(store: Store, books: OwnedBooks) -> None:
    """To an open one, and to one that drains, which is open then; all is done in order."""
    lease = granted(books, 100)
    jobs: list[Job] = [
        Return(lease, 1, 40, close=True),
        Grant(1, lease, 1, 500, 500, 1),
        Grant(1, lease, 1, 900, 900, 1),
        Grant(1, lease, 1, 1, 1, 1),
    ]
    assert books.do(jobs) == [
        Done(),
        Granted(lease, 500, 440, 0, 560),
        Granted(lease, 440, 0, 0, 1000),
        Granted(lease, 0, 0, 0, 1000),
    ]
    assert read(store, LEASES) == [(lease, "open", 1040, 0, 40)]
    assert broken_invariants(store) == {}


def test_a_grant_is_told_what_others_hold(store: Store, books: OwnedBooks) -> None:
    """Held is the sum of all hosts' leases, so that a refusal can say why there is no more."""
    lease = granted(books, 300)
    other = OwnedBooks(store, "own_2")
    theirs = granted(other, 600)
    (mine,) = books.do([Grant(1, lease, 200, 200, 200, 2)])
    assert mine == Granted(lease, 0, 100, 0, 900)
    # What is posted in the same batch is held no more.
    _, outcome = other.do([post("req_1", theirs, 50), Grant(1, None, 1, 20, 20, 2)])
    assert isinstance(outcome, Granted)
    assert (outcome.amount, outcome.available, outcome.held) == (20, 80, 870)
    assert broken_invariants(store) == {}


def test_a_closed_or_unknown_account_grants_nothing(store: Store, books: OwnedBooks) -> None:
    """The answer says that it is not open; what is leased of it already stays."""
    granted(books, 100)
    store.set_account(1, {"disabled": 1})
    jobs: list[Job] = [Grant(number, None, 1, 5, 5, 1) for number in (1, 99)]
    assert books.do(jobs) == [
        Granted(None, 0, 900, 0, 100, is_open=False),
        Granted(None, 0, 0, 0, 0, is_open=False),
    ]
    assert broken_invariants(store) == {}


@given(
    available=st.integers(-50, 200),
    limit=st.integers(0, 100),
    least=st.integers(0, 120),
    more=st.integers(0, 120),
    spare=st.integers(-50, 200),
    hosts=st.integers(1, 4),
)
def test_a_grant_is_arithmetic(
    *, available: int, limit: int, least: int, more: int, spare: int, hosts: int
) -> None:
    """Never beyond the floor; nothing below the least; what is needed as far as it goes; and of
    what is not needed no more than is wanted, nor than a quarter of each host's share.
    """
    room, need = available + limit, least + more
    amount = grant_amount(Grant(1, None, least, need, need + spare, hosts), room)
    assert 0 <= amount <= max(0, room)
    assert (amount == 0) == (room <= 0 or room < least or (need == 0 and amount == 0))
    if amount and room <= need:
        assert amount == room
    elif amount:
        assert amount >= need
        assert amount - need <= max(0, spare)
        assert (amount - need) * 4 * hosts <= room - need
    if room >= need and room >= least and room > 0:
        share = (room - need) // (4 * hosts)
        assert amount == need + max(0, min(spare, share))


def test_a_grant_may_use_the_credit_limit(store: Store, books: OwnedBooks) -> None:
    """The limit is as good as balance, and not a nano-credit more."""
    store.set_account(1, {"credit_limit": 200})
    (outcome,) = books.do([Grant(1, None, 1, 5000, 5000, 1)])
    assert isinstance(outcome, Granted)
    assert (outcome.amount, outcome.available, outcome.credit_limit) == (1200, -200, 200)
    assert broken_invariants(store) == {}


@pytest.mark.parametrize("bad", ["charge", "sum", "lease", "text", "account"])
def test_a_bad_call_is_rejected_alone(store: Store, books: OwnedBooks, bad: str) -> None:
    """One that cannot be written is noted, with why; those beside it are done, and done once."""
    lease = granted(books, 400)
    call = {
        "charge": post("req_2", lease, -5),
        "sum": replace(post("req_2", lease, 5), absorbed=1),
        "lease": post("req_2", None, 5),
        "text": post("req_2", lease, 2**63),
        "account": Post(entry("req_2", 99, 5), None, 0, 5),
    }[bad]
    jobs = [post("req_1", lease, 10), call, Grant(1, lease, 1, 9, 9, 1), post("req_3", lease, 20)]
    first, second, third, fourth = books.do(jobs)
    assert (first, fourth) == (Posted(10, 0, inserted=True), Posted(20, 0, inserted=True))
    assert third == Granted(lease, 9, 591, 0, 399)
    assert isinstance(second, Rejected)
    assert second.reason
    ((request_id, error, noted),) = read(
        store, "SELECT request_id, error, entry FROM settle_rejected"
    )
    assert (request_id, error) == ("req_2", second.reason)
    assert '"model":"m-1"' in noted
    assert read(store, "SELECT request_id FROM usage ORDER BY request_id") == [
        ("req_1",),
        ("req_3",),
    ]
    assert broken_invariants(store) == {}


def test_an_undelivered_call_says_so(store: Store, books: OwnedBooks) -> None:
    """Only one that was complete: of the others, it is known already that the client lacks it."""
    jobs: list[Job] = [
        post("req_1", None, 0),
        post("req_2", None, 0, outcome="client_gone"),
        post("req_3", None, 0),
        Undelivered(("req_1", "req_2", "req_9")),
    ]
    assert books.do(jobs)[3] == Done()
    assert read(store, "SELECT outcome FROM usage ORDER BY request_id") == [
        ("undelivered",),
        ("client_gone",),
        ("complete",),
    ]


def test_a_key_is_told_what_it_spent(store: Store, books: OwnedBooks) -> None:
    """Since a time, with what came earlier in the batch and without what comes later."""
    key = Key("key_2", 1, b"digest")
    store.create_key(key, "hint")
    lease = granted(books, 400)

    def call(request_id: str, charge: int, created_us: int) -> Job:
        return post(request_id, lease, charge, key_id=key.id, created_us=created_us)

    books.do([call("req_1", 1, NOON_US), call("req_2", 2, NOON_US - 1)])
    jobs = [
        call("req_3", 4, NOON_US + HOUR_US),
        post("req_4", lease, 8),  # another key's
        Spending(key.id, NOON_US),
        call("req_5", 16, NOON_US),
        call("req_1", 1, NOON_US),
        Spending(key.id, 0),
        Spending("key_unknown", 0),
    ]
    outcomes = books.do(jobs)
    assert (outcomes[2], *outcomes[5:]) == (Spent(5), Spent(23), Spent(0))
    assert broken_invariants(store) == {}


def test_a_call_takes_the_seal_of_its_hour_away(store: Store, books: OwnedBooks) -> None:
    """An hour that was found right is looked at again when a call comes to it. Others are not, nor
    one whose calls were dropped: there is nothing to look at.
    """
    hours = [NOON_US - 2 * HOUR_US, NOON_US - HOUR_US, NOON_US]
    for hour_us, dropped_us in zip(hours, (9, "NULL", "NULL"), strict=True):
        write(
            store,
            "INSERT INTO sealed_hours (hour_us, calls, charge, checksum, sealed_us, dropped_us)"
            f" VALUES ({hour_us}, 0, 0, '', 1, {dropped_us})",
        )
    books.do([post(f"req_{hour_us}", None, 0, created_us=hour_us + 5) for hour_us in hours[::2]])
    assert read(store, "SELECT hour_us FROM sealed_hours ORDER BY hour_us") == [
        (hour_us,) for hour_us in hours[:2]
    ]


def test_an_owner_finds_what_an_earlier_life_left(store: Store, books: OwnedBooks) -> None:
    """Leases with what is not spent of them; those that have ended are not there."""
    first, second = granted(books, 100), granted(books, 50)
    books.do([post("req_1", first, 30), Return(second, 1, 50, close=True)])
    third = granted(books, 10)
    assert OwnedBooks(store, "own_1").begin(lambda _: True) == [
        OpenLease(first, 1, 70),
        OpenLease(third, 1, 10),
    ]


def test_credit_of_owners_that_died_on_this_host_comes_back(
    store: Store, books: OwnedBooks
) -> None:
    """With SQLite, if they are dead. With PostgreSQL they may live on other hosts."""
    granted(books, 100)
    alive = OwnedBooks(store, "own_2")
    kept = granted(alive, 30)
    assert OwnedBooks(store, "own_3").begin(lambda owner: owner == "own_1") == []
    assert alive.unspent() == [OpenLease(kept, 1, 30)]
    assert read(store, AVAILABLE) == [(870 if store.is_postgresql else 970,)]
    assert broken_invariants(store) == {}


def test_a_call_whose_lease_is_gone_is_settled_apart(store: Store, books: OwnedBooks) -> None:
    """By what its account has, through a lease of its own; the rest is absorbed; and once."""
    lease = granted(books, 900)
    call = post("req_1", 77, 150)
    assert books.settle_apart(call) == Posted(100, 50, inserted=True)
    assert books.settle_apart(call) == Posted(100, 50, inserted=False)
    books.do([Return(lease, 1, 500, close=False)])
    assert books.settle_apart(call) == Posted(100, 50, inserted=False)
    assert books.settle_apart(post("req_2", 77, 20)) == Posted(20, 0, inserted=True)
    assert books.settle_apart(post("req_3", None, 0)) == Posted(0, 0, inserted=True)
    assert books.unspent() == [OpenLease(lease, 1, 400)]
    assert broken_invariants(store) == {}

"""A ledger's batches where accounts and leases are not what the ledger takes them for."""

from farebox.billing.jobs import Done, Grant, Granted, LeaseGone, OpenLease, Posted, Return
from farebox.store import Store
from farebox.store.books import OwnedBooks
from tests.store.bookkeeping import broken_invariants, post, read

AVAILABLE = "SELECT available FROM accounts ORDER BY id"


def test_a_disabled_account_gives_what_its_calls_cost(store: Store, books: OwnedBooks) -> None:
    """Those that are over, and no more."""
    store.set_account(1, {"disabled": 1})
    grant = Grant(1, None, 1, 300, 900, 1, owed=200)
    (given,) = books.do([grant])
    assert given == Granted(1, 200, 800, 0, 200, is_open=False)
    assert books.settle_apart(post("req_1", 77, 500)) == Posted(500, 0, inserted=True)
    assert books.settle_apart(post("req_2", 77, 500)) == Posted(300, 200, inserted=True)
    assert read(store, AVAILABLE) == [(0,)]
    assert broken_invariants(store) == {}


def test_a_lease_whose_id_became_another_accounts_is_gone(store: Store, books: OwnedBooks) -> None:
    """The database came back without its last commits, and has given the id once more."""
    store.create_account("bob", credits_nanocredits=1000)
    (given,) = books.do([Grant(2, None, 100, 100, 100, 1)])
    assert isinstance(given, Granted)
    lease = given.lease_id
    assert lease is not None
    gone, new, back = books.do(
        [post("req_1", lease, 50), Grant(1, lease, 10, 10, 10, 1), Return(lease, 1, 5, close=True)]
    )
    assert (gone, back) == (LeaseGone(), Done())
    assert isinstance(new, Granted)
    assert (new.lease_id, new.amount) == (lease + 1, 10)
    assert books.unspent() == [OpenLease(lease, 2, 100), OpenLease(lease + 1, 1, 10)]
    assert broken_invariants(store) == {}

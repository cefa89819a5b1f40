"""Leases as everybody may know them; owners that live, fall silent, come back, end or are lost."""

import socket
from pathlib import Path
from threading import Event, Thread

import pytest

from farebox.billing.jobs import Grant, Granted, OpenLease, Posted
from farebox.store import Store
from farebox.store.accounts import StoredAccount
from farebox.store.books import OwnedBooks
from farebox.store.errors import StoreConflict
from farebox.store.leases import StoredLease
from farebox.store.owner import hold_lock, is_dead, lock_path, owner_id
from tests.store.bookkeeping import broken_invariants, granted, post, read, silence

STATES = "SELECT id, state FROM owners ORDER BY id"


def nobody_is_dead(_: str) -> bool:
    return False


def all_are_dead(_: str) -> bool:
    return True


def begun(store: Store, owner: str) -> OwnedBooks:
    books = OwnedBooks(store, owner)
    books.begin(nobody_is_dead)
    return books


def test_leases_are_listed_with_their_owners(store: Store, account: StoredAccount) -> None:
    """Those that may be charged; the others too when they are asked for."""
    books = begun(store, "own_1")
    lease = granted(books, 400)
    books.do([post("req_1", lease, 150)])
    books.settle_apart(post("req_2", 99, 10))
    (found,) = store.leases()
    assert found.heartbeat_us
    assert found == StoredLease(
        id=lease,
        account="ann",
        owner="own_1",
        host=socket.gethostname(),
        owner_state="live",
        heartbeat_us=found.heartbeat_us,
        state="open",
        granted_nanocredits=400,
        spent_nanocredits=150,
        returned_nanocredits=0,
        opened_us=found.opened_us,
        closed_us=None,
    )
    assert (found.unspent_nanocredits, found.is_usable) == (250, True)
    first, second = store.leases(ended=True)
    assert (first, second.state, second.is_usable) == (found, "closed", False)
    assert second.closed_us


def test_a_lease_of_an_unknown_owner_is_listed(store: Store, account: StoredAccount) -> None:
    """Whoever made it, its credit is not forgotten."""
    granted(OwnedBooks(store, "own_1"), 400)
    (found,) = store.leases()
    assert (found.owner, found.owner_state, found.host) == ("own_1", None, None)
    assert store.has_owner("own_1")
    assert not store.has_owner("own_2")


def test_owners_that_live_are_counted(store: Store) -> None:
    """With SQLite there is one host, with PostgreSQL as many as have a heartbeat."""
    counts = [store.beat(owner, "host") for owner in ("own_1", "own_2", "own_1")]
    assert counts == ([1, 2, 2] if store.is_postgresql else [1, 1, 1])
    store.farewell("own_1")
    store.farewell("own_1")
    assert store.beat("own_2", "host") == 1


def test_an_owner_with_leases_is_not_forgotten(store: Store, account: StoredAccount) -> None:
    """What it could not give back at its end, it finds at its next start."""
    books = begun(store, "own_1")
    granted(books, 400)
    store.farewell("own_1")
    assert read(store, STATES) == [("own_1", "live")]


def test_a_silent_owner_expires_and_its_leases_drain(postgres_store: Store) -> None:
    """Its credit stays reserved: it cannot be told whether it was spent. Others go on."""
    store = postgres_store
    store.create_account("ann", credits_nanocredits=1000)
    silent, other = begun(store, "own_1"), begun(store, "own_2")
    lease, theirs = granted(silent, 400), granted(other, 100)
    silence(store, "own_1")
    assert store.beat("own_2", "host") == 1
    assert read(store, STATES) == [("own_1", "expired"), ("own_2", "live")]
    assert {each.id: (each.state, each.unspent_nanocredits) for each in store.leases()} == {
        lease: ("draining", 400),
        theirs: ("open", 100),
    }
    assert broken_invariants(store) == {}


def test_an_owner_that_comes_back_has_its_leases_again(postgres_store: Store) -> None:
    """What it spent meanwhile is charged to them; a grant opens one again."""
    store = postgres_store
    store.create_account("ann", credits_nanocredits=1000)
    silent = begun(store, "own_1")
    lease = granted(silent, 400)
    silence(store, "own_1")
    store.beat("own_2", "host")
    assert store.beat("own_1", "host") == 2
    assert OwnedBooks(store, "own_1").begin(all_are_dead) == [OpenLease(lease, 1, 400)]
    outcomes = silent.do([post("req_1", lease, 30), Grant(1, lease, 1, 50, 50, 2)])
    assert outcomes == [Posted(30, 0, inserted=True), Granted(lease, 50, 550, 0, 420)]
    assert [each.state for each in store.leases()] == ["open"]
    assert broken_invariants(store) == {}


def test_an_owner_that_is_lost_takes_its_credit_along(store: Store, account: StoredAccount) -> None:
    """The operator says so: what was not spent is booked as lost, and nothing is charged to its
    leases any more.
    """
    books = begun(store, "own_1")
    first, second = granted(books, 400), granted(books, 100)
    books.do([post("req_1", first, 150), post("req_2", second, 100)])
    silence(store, "own_1")
    lost = store.lose("own_1", all_are_dead)
    assert [(each.id, each.unspent_nanocredits) for each in lost] == [(first, 250), (second, 0)]
    assert store.leases() == []
    assert [each.state for each in store.leases(ended=True)] == ["lost", "closed"]
    assert read(
        store, "SELECT debit, credit, amount, lease_id, reason FROM transfers WHERE kind = 'lost'"
    ) == [(f"lease:{first}", "operator:lost", 250, first, "owner own_1 is lost")]
    assert read(store, STATES) == [("own_1", "lost")]
    assert broken_invariants(store) == {}
    assert store.lose("own_1", all_are_dead) == []


def test_an_owner_that_lives_is_not_lost(store: Store, account: StoredAccount) -> None:
    """By its heartbeat, or with SQLite by its lock; nothing is changed."""
    lease = granted(begun(store, "own_1"), 400)
    if not store.is_postgresql:
        silence(store, "own_1")  # wall time is never asked
    with pytest.raises(StoreConflict, match="own_1 is alive"):
        store.lose("own_1", nobody_is_dead)
    assert [each.id for each in store.leases()] == [lease]
    assert read(store, STATES) == [("own_1", "live")]


def test_a_data_folder_keeps_the_name_of_its_owner(tmp_path: Path) -> None:
    """Made once, in a folder that need not be there; another folder has another."""
    first = owner_id(tmp_path / "a")
    assert first.startswith("own_")
    assert owner_id(tmp_path / "a") == first
    assert owner_id(tmp_path / "b") != first
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["owner"]


def test_an_owner_has_a_name(tmp_path: Path) -> None:
    """A file that lost its contents is no name: others that did would be the same owner."""
    (tmp_path / "owner").touch()
    with pytest.raises(OSError, match=r"owner is empty\. Delete it"):
        owner_id(tmp_path)


def test_an_owner_is_dead_when_nobody_holds_its_lock(tmp_path: Path) -> None:
    """Before it ever lived, and after it ended, however; asking takes nothing from anybody."""
    path = lock_path(tmp_path, "own_1")
    assert is_dead(tmp_path, "own_1")
    with hold_lock(path):
        assert [is_dead(tmp_path, "own_1") for _ in range(2)] == [False, False]
        assert is_dead(tmp_path, "own_2")
    assert [is_dead(tmp_path, "own_1") for _ in range(2)] == [True, True]
    with hold_lock(path):
        assert not is_dead(tmp_path, "own_1")


def test_the_next_life_waits_for_the_one_before(tmp_path: Path) -> None:
    """Two processes of one owner never write at once."""
    path, lives = lock_path(tmp_path, "own_1"), Event()

    def live() -> None:
        with hold_lock(path):
            lives.set()

    thread = Thread(target=live)
    with hold_lock(path):
        thread.start()
        assert not lives.wait(0.1)
    assert lives.wait(10)
    thread.join()

"""Calls that wait for the store: kept safely, once each, and shipped as often as it takes."""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from farebox.billing.jobs import OpenLease, Post, Posted, Return, Spooled
from farebox.store import Store
from farebox.store.accounts import StoredAccount
from farebox.store.books import OwnedBooks
from farebox.store.errors import StoreConflict, StoreError
from farebox.store.spool import Spool
from tests.store.bookkeeping import broken_invariants, granted, post


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """One whose file is not there yet."""
    spool = Spool(tmp_path / "run" / "spool.db")
    yield spool
    spool.close()


def bare(request_id: str) -> Post:
    """A call that knows little of itself."""
    return post(
        request_id,
        None,
        0,
        channel=None,
        service_tier=None,
        tool_calls=(),
        attempts=(),
        ttft_ms=None,
    )


def test_a_spool_that_was_never_needed_is_no_file(spool: Spool, tmp_path: Path) -> None:
    """Looking into it, and dropping what is not there, makes none."""
    spool.drop(["req_1"])
    assert (len(spool), spool.oldest(5), spool.waiting()) == (0, [], [])
    assert list(tmp_path.rglob("*")) == []


def test_calls_are_kept_whole_and_in_order(spool: Spool, tmp_path: Path) -> None:
    """Also by the next process; what was shipped is dropped, the rest stays."""
    calls = [post("req_2", 7, 30), bare("req_1"), replace(post("req_3", 7, 5), absorbed=4)]
    assert spool.add(calls) == [
        Posted(30, 0, inserted=True),
        Posted(0, 0, inserted=True),
        Posted(5, 4, inserted=True),
    ]
    spool.close()
    again = Spool(tmp_path / "run" / "spool.db")
    assert len(again) == 3
    assert again.oldest(2) == calls[:2]
    assert again.waiting() == [
        Spooled("req_2", 7, 30, 0),
        Spooled("req_1", None, 0, 0),
        Spooled("req_3", 7, 5, 4),
    ]
    again.drop(["req_1", "req_2", "req_9"])
    assert (len(again), again.oldest(5)) == (1, calls[2:])
    again.close()


def test_a_call_that_waits_already_stays_as_it_was(spool: Spool) -> None:
    """What was answered counts, and is answered again."""
    spool.add([post("req_1", 7, 30)])
    again, new = spool.add([post("req_1", 8, 99), post("req_2", 8, 1)])
    assert again == Posted(30, 0, inserted=False)
    assert new == Posted(1, 0, inserted=True)
    assert spool.oldest(5) == [post("req_1", 7, 30), post("req_2", 8, 1)]


def test_what_is_added_is_on_the_disk(spool: Spool, tmp_path: Path) -> None:
    """A commit is synchronised, and nobody else may read who called what."""
    spool.add([post("req_1", 7, 30)])
    path = tmp_path / "run" / "spool.db"
    assert path.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT request_id FROM usage").fetchall() == [("req_1",)]


def test_a_spool_that_cannot_be_written_keeps_nothing(spool: Spool, tmp_path: Path) -> None:
    """On a full disk, whoever asked is told; what was there stays; with room it goes on."""
    spool.add([post("req_1", 7, 30)])
    written = (tmp_path / "run" / "spool.db-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, hard))  # no file may grow beyond that
    try:
        with pytest.raises(StoreError, match=r"spool\.db cannot be used"):
            spool.add([post("req_2", 7, 5)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert spool.oldest(5) == [post("req_1", 7, 30)]
    spool.add([post("req_3", 7, 5)])
    assert len(spool) == 2


def test_a_file_that_is_no_spool_is_left_alone(tmp_path: Path) -> None:
    """It is not overwritten."""
    path = tmp_path / "spool.db"
    path.write_text("something else, long enough to be looked at by whoever wants a database")
    spool = Spool(path)
    with pytest.raises(StoreError):
        spool.add([post("req_1", 7, 30)])
    assert path.read_text().startswith("something else")


def test_a_spool_that_was_deleted_begins_anew(spool: Spool, tmp_path: Path) -> None:
    """What is written to a file that was deleted would be lost without an error."""
    spool.add([post("req_1", 7, 30)])
    for path in (tmp_path / "run").glob("spool.db*"):
        path.unlink()
    spool.add([post("req_2", 7, 5)])
    spool.close()
    again = Spool(tmp_path / "run" / "spool.db")
    assert again.oldest(5) == [post("req_2", 7, 5)]
    again.close()


def test_shipping_twice_charges_once(store: Store, account: StoredAccount, spool: Spool) -> None:
    """A crash between the store's commit and the drop ships the same again."""
    books = OwnedBooks(store, "own_1")
    lease = granted(books, 100)
    spool.add([post("req_1", lease, 30), post("req_2", lease, 20), bare("req_3")])
    # The ledger gave back what it knew to be free, meanwhile: the lease drains.
    books.do([Return(lease, 1, 50, close=True)])
    shipped = books.do(spool.oldest(10))
    assert [isinstance(each, Posted) and each.inserted for each in shipped] == [True] * 3
    again = books.do(spool.oldest(10))
    assert [isinstance(each, Posted) and each.inserted for each in again] == [False] * 3
    spool.drop(["req_1", "req_2", "req_3"])
    assert (len(spool), books.unspent()) == (0, [])
    assert broken_invariants(store) == {}


def test_what_waits_for_a_lease_keeps_it(
    store: Store, account: StoredAccount, spool: Spool
) -> None:
    """A lease that was closed with charges in the spool waits for them, whichever life ships."""
    books = OwnedBooks(store, "own_1")
    lease = granted(books, 100)
    spool.add([post("req_1", lease, 30)])
    books.do([Return(lease, 1, 70, close=True)])
    later = OwnedBooks(store, "own_1")
    assert later.begin(lambda _: True) == [OpenLease(lease, 1, 30)]
    assert later.do(spool.oldest(5)) == [Posted(30, 0, inserted=True)]
    assert later.unspent() == []
    assert broken_invariants(store) == {}


def test_calls_of_another_store_are_not_touched(tmp_path: Path) -> None:
    """There, the same numbers are other accounts: nothing is shipped to it, nor added. Once they
    have been shipped to their own store, the file is anybody's.
    """
    path = tmp_path / "spool.db"
    mine, other = Spool(path, "fb_1"), Spool(path, "fb_2")
    mine.add([post("req_1", 7, 30)])
    for use in (other.waiting, other.__len__, lambda: other.add([post("req_2", 7, 1)])):
        with pytest.raises(StoreConflict, match=r"1 calls of another store \(fb_1\)"):
            use()
    assert mine.oldest(5) == [post("req_1", 7, 30)]
    mine.drop(["req_1"])
    mine.close()
    assert other.add([post("req_2", 7, 1)]) == [Posted(1, 0, inserted=True)]
    other.close()

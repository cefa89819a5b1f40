"""Batches whose answers are lost, and owners that want the same credit at the same time."""

import socket
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from farebox.billing.jobs import Done, Grant, Granted, Job, OpenLease, Posted, Return
from farebox.store import Store, open_store
from farebox.store.books import OwnedBooks
from farebox.store.connections import Driver
from farebox.store.errors import StoreError
from farebox.store.sqlite import SqliteConnections
from tests.store.bookkeeping import broken_invariants, granted, post, read

COMMIT = b"COMMIT"


class Proxy:
    """A way to the PostgreSQL server of the tests that can lose the answer to a COMMIT: when it is
    armed, it passes the next one on, waits for the answer, and cuts the connection instead.
    """

    def __init__(self, folder: Path, behind: str) -> None:
        self.armed = False
        self._behind = behind
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(self._behind)
        cut = threading.Event()
        back = threading.Thread(target=self._answer, args=(upstream, client, cut))
        back.start()
        with suppress(OSError):
            while data := client.recv(65536):
                if self.armed and COMMIT in data:
                    self.armed = False
                    cut.set()
                upstream.sendall(data)
        _end(upstream)
        back.join()
        client.close()
        upstream.close()

    def _answer(self, upstream: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := upstream.recv(65536):
                if cut.is_set():
                    break
                client.sendall(data)
        _end(client)


def _end(side: socket.socket) -> None:
    with suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)


class Forgetful(SqliteConnections):
    """Connections to a file of which the next transaction, when they are armed, fails after it was
    committed, as if its answer was lost.
    """

    armed = False

    @contextmanager
    def driving(self, patience_ms: int) -> Generator[Driver]:
        with super().driving(patience_ms) as driver:
            yield driver
        if self.armed:
            self.armed = False
            raise OSError("the answer was lost")


@dataclass
class Unsure:
    """A store that loses the answer to the next COMMIT when it is told to, and the same store as it
    is.
    """

    store: Store
    plain: Store
    lose_the_next: Callable[[], None]


@contextmanager
def unsure_sqlite(plain: Store) -> Generator[Unsure]:
    connections = Forgetful(plain.path)
    connections.prepare()
    store = Store(connections)
    yield Unsure(store, plain, lambda: setattr(connections, "armed", True))
    store.close()


@contextmanager
def unsure_postgresql(plain: Store) -> Generator[Unsure]:
    url = make_url(plain.shown)
    sockets = str(url.query["host"])
    # Not a test's own folder: the path of a socket has some hundred bytes at most.
    with tempfile.TemporaryDirectory(prefix="fb-proxy-") as folder:
        proxy = Proxy(Path(folder), f"{sockets}/.s.PGSQL.5432")
        through = url.update_query_dict({"host": folder}).render_as_string(hide_password=False)
        store = open_store(through, Path(folder))
        yield Unsure(store, plain, lambda: setattr(proxy, "armed", True))
        store.close()
        proxy.close()


@pytest.fixture
def unsure(store: Store) -> Iterator[Unsure]:
    """On both engines, with an account of 1000 nano-credits."""
    store.create_account("ann", credits_nanocredits=1000)
    with unsure_postgresql(store) if store.is_postgresql else unsure_sqlite(store) as made:
        yield made


def test_calls_whose_answer_was_lost_are_not_charged_again(unsure: Unsure) -> None:
    """The connection is cut between COMMIT and its answer: nobody knows, and doing the same again
    is right, alone or with others.
    """
    books = OwnedBooks(unsure.store, "own_1")
    lease = granted(books, 400)
    calls: list[Job] = [post(f"req_{number}", lease, 10) for number in range(8)]
    unsure.lose_the_next()
    with pytest.raises(StoreError):
        books.do(calls)
    written = read(unsure.plain, "SELECT count(*), sum(charge) FROM usage")
    assert written == [(8, 80)]  # it was done
    outcomes = books.do([*calls, post("req_8", lease, 5)])
    assert outcomes[:8] == [Posted(10, 0, inserted=False)] * 8
    assert outcomes[8] == Posted(5, 0, inserted=True)
    assert books.unspent() == [OpenLease(lease, 1, 315)]
    assert broken_invariants(unsure.plain) == {}


def test_credit_whose_grant_was_not_heard_of_comes_back(unsure: Unsure) -> None:
    """Into a lease that is known, or by a new one: the next batch returns what nobody uses."""
    books = OwnedBooks(unsure.store, "own_1")
    lease = granted(books, 100)
    for job in (Grant(1, lease, 1, 50, 50, 1), Grant(1, None, 1, 70, 70, 1)):
        unsure.lose_the_next()
        with pytest.raises(StoreError):
            books.do([post(f"req_{job.need}", lease, 20), job])
        assert sum(each.unspent for each in books.unspent()) > 80
        books.do([])
        assert [each.lease_id for each in books.unspent()] == [lease]
        assert broken_invariants(unsure.plain) == {}
    assert books.unspent() == [OpenLease(lease, 1, 60)]


def test_credit_that_was_returned_unheard_is_not_returned_twice(unsure: Unsure) -> None:
    """The ledger asks again for what was done: the rest of the lease is for calls in flight."""
    books = OwnedBooks(unsure.store, "own_1")
    lease = granted(books, 100)
    job = Return(lease, 1, 30, close=False)
    for _ in range(2):
        unsure.lose_the_next()
        with pytest.raises(StoreError):
            books.do([job])
    books.do([post("req_1", lease, 5)])  # others are done before it is tried again
    assert books.do([job]) == [Done()]
    assert books.unspent() == [OpenLease(lease, 1, 65)]
    assert books.do([job]) == [Done()]  # and this one is another
    assert books.unspent() == [OpenLease(lease, 1, 35)]
    assert broken_invariants(unsure.plain) == {}


def test_a_lease_that_was_closed_unheard_stays_closed(unsure: Unsure) -> None:
    """Closing it again does nothing."""
    books = OwnedBooks(unsure.store, "own_1")
    lease = granted(books, 100)
    job = Return(lease, 1, 100, close=True)
    unsure.lose_the_next()
    with pytest.raises(StoreError):
        books.do([job])
    assert books.do([job]) == [Done()]
    assert books.unspent() == []
    assert read(unsure.plain, "SELECT available FROM accounts") == [(1000,)]
    assert broken_invariants(unsure.plain) == {}


def test_a_bad_call_in_a_batch_whose_answer_was_lost(unsure: Unsure) -> None:
    """Done one by one, and not heard of: what was granted on the way comes back too."""
    books = OwnedBooks(unsure.store, "own_1")
    lease = granted(books, 100)
    jobs = [post("req_1", lease, 10), post("req_2", None, 5), Grant(1, lease, 1, 50, 50, 1)]
    unsure.lose_the_next()
    with pytest.raises(StoreError):
        books.do(jobs)
    assert books.do(jobs[:1]) == [Posted(10, 0, inserted=False)]
    assert books.unspent() == [OpenLease(lease, 1, 90)]
    assert broken_invariants(unsure.plain) == {}


def race(store: Store, owners: int, spend: Callable[[OwnedBooks, int], int]) -> list[int]:
    """What each of the owners came to, all at once in threads of their own."""
    start = threading.Barrier(owners)

    def run(number: int) -> int:
        books = OwnedBooks(store, f"own_{number}")
        start.wait()
        return spend(books, number)

    with ThreadPoolExecutor(owners) as threads:
        return list(threads.map(run, range(owners)))


def test_owners_race_for_one_account_and_stay_above_its_floor(store: Store) -> None:
    """Four owners take and spend 7 at a time of 1000 with a limit of 50: 150 times, not once more.
    What they take and do not use is returned in between.
    """
    store.create_account("ann", credits_nanocredits=1000, credit_limit_nanocredits=50)

    def spend(books: OwnedBooks, number: int) -> int:
        paid = 0
        while True:
            (outcome,) = books.do([Grant(1, None, 7, 7, 20, 1)], 30_000)
            assert isinstance(outcome, Granted)
            if not outcome.amount:
                return paid
            assert outcome.lease_id is not None
            rest = Return(outcome.lease_id, 1, outcome.amount - 7, close=True)
            call = post(f"req_{number}_{paid}", outcome.lease_id, 7)
            assert books.do([call, rest], 30_000) == [Posted(7, 0, inserted=True), Done()]
            paid += 1

    assert sum(race(store, 4, spend)) == 150
    assert read(store, "SELECT available FROM accounts") == [(-50,)]
    assert broken_invariants(store) == {}


def test_owners_that_share_accounts_keys_and_hours_do_not_block_each_other(store: Store) -> None:
    """Each posts calls of four accounts in an order of its own; grants and returns between them.
    All batches are done, and all sums are right.
    """
    for number in range(4):
        store.create_account(f"a{number}", credits_nanocredits=10_000)

    def spend(books: OwnedBooks, number: int) -> int:
        accounts = [1 + (number + step) % 4 for step in range(4)]
        leases = {account: granted(books, 500, account) for account in accounts}
        for turn in range(10):
            jobs: list[Job] = []
            for account in accounts if turn % 2 else reversed(accounts):
                request_id = f"req_{number}_{turn}_{account}"
                jobs += [
                    post(request_id, leases[account], 3, account),
                    Return(leases[account], account, 1, close=False),
                    Grant(account, leases[account], 1, 2, 2, 2),
                ]
            books.do(jobs, 30_000)
        return 0

    race(store, 4, spend)
    assert read(store, "SELECT count(*), sum(charge) FROM usage") == [(160, 480)]
    assert read(store, "SELECT sum(calls), sum(charge) FROM usage_hours") == [(160, 480)]
    assert broken_invariants(store) == {}


def test_one_call_posted_by_many_at_once_is_charged_once(store: Store) -> None:
    """All but one are told that it was there already, with the amounts of that one."""
    store.create_account("ann", credits_nanocredits=1000)

    def spend(books: OwnedBooks, number: int) -> int:
        lease = granted(books, 100)
        (outcome,) = books.do([post("req_1", lease, 10 + number)], 30_000)
        assert isinstance(outcome, Posted)
        return -outcome.charge if outcome.inserted else outcome.charge

    first, *others = sorted(race(store, 6, spend))
    assert others == [-first] * 5
    assert broken_invariants(store) == {}

"""Hosts that ask each other to give credit back, over one real PostgreSQL server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import pytest

from farebox.billing.jobs import Return
from farebox.core import clock
from farebox.store import Store, open_store
from farebox.store.books import OwnedBooks
from farebox.store.recalls import Recalls, recall_now
from tests.postgres import Server
from tests.store.bookkeeping import granted, silence

PATIENCE_S = 20.0


class Host:
    """One host: its recalls and what came of them."""

    def __init__(self, url: str, owner: str) -> None:
        self.asked: Queue[tuple[int, str]] = Queue()
        self.answered: Queue[int] = Queue()
        self.recalls = Recalls(
            url,
            owner,
            lambda account_id, token: self.asked.put((account_id, token)),
            self.answered.put,
        )

    @contextmanager
    def listening(self) -> Iterator["Host"]:
        self.recalls.start()
        try:
            assert self.recalls.wait_until_ready(PATIENCE_S)
            yield self
        finally:
            self.recalls.close()


Hosts = Callable[[str], Host]


@pytest.fixture
def hosts(postgres_url: str) -> Iterator[Hosts]:
    """Makes hosts that listen."""
    with ExitStack() as all_of_them:
        yield lambda owner: all_of_them.enter_context(Host(postgres_url, owner).listening())


@pytest.fixture
def store(postgres_store: Store) -> Store:
    """A store with an account of 1000 nano-credits."""
    postgres_store.create_account("ann", credits_nanocredits=1000)
    return postgres_store


def holder(store: Store, owner: str, amount: int) -> tuple[OwnedBooks, int]:
    """An owner that lives, with a lease."""
    books = OwnedBooks(store, owner)
    books.begin(lambda _: False)
    return books, granted(books, amount)


def nothing_in(queue: Queue[int]) -> bool:
    try:
        queue.get_nowait()
    except Empty:
        return True
    return False


def test_an_answer_comes_when_all_have_given_back(store: Store, hosts: Hosts) -> None:
    """Two others hold something: who asks hears after both, and is not asked itself."""
    holder(store, "own_1", 100)
    first, second = holder(store, "own_2", 200), holder(store, "own_3", 300)
    me, two, three = hosts("own_1"), hosts("own_2"), hosts("own_3")
    me.recalls.ask(1)
    for host, (books, lease) in ((two, first), (three, second)):
        account_id, token = host.asked.get(timeout=PATIENCE_S)
        assert account_id == 1
        assert nothing_in(me.answered)
        books.do([Return(lease, 1, books.unspent()[0].unspent, close=True)])
        host.recalls.answer(token)
    assert me.answered.get(timeout=PATIENCE_S) == 1
    assert me.asked.empty()


def test_nobody_is_waited_for_who_has_nothing(store: Store, hosts: Hosts) -> None:
    """Neither for who has no lease, nor for who is silent: the answer comes at once."""
    holder(store, "own_1", 100)
    books, lease = holder(store, "own_2", 200)
    books.do([Return(lease, 1, 200, close=True)])
    holder(store, "own_3", 300)
    silence(store, "own_3")
    me, two = hosts("own_1"), hosts("own_2")
    me.recalls.ask(1)
    assert me.answered.get(timeout=PATIENCE_S) == 1
    me.recalls.ask(7)
    assert me.answered.get(timeout=PATIENCE_S) == 7
    assert two.asked.empty()


def test_who_does_not_answer_is_not_waited_for_long(store: Store, hosts: Hosts) -> None:
    """A host that lives and hangs costs half a second, not the call."""
    holder(store, "own_2", 200)
    me = hosts("own_1")
    began_s = clock.monotonic_s()
    me.recalls.ask(1)
    assert me.answered.get(timeout=PATIENCE_S) == 1
    assert clock.monotonic_s() - began_s >= 0.5
    me.recalls.answer("ask_unknown")  # nor does a late answer do anything
    me.recalls.ask(2)
    assert me.answered.get(timeout=PATIENCE_S) == 2


def test_an_operator_asks_everybody(store: Store, postgres_url: str, hosts: Hosts) -> None:
    """From a process without a ledger: it waits until all gave back, or says that they did not."""
    holder(store, "own_1", 100)
    one = hosts("own_1")

    def give_back() -> None:
        account_id, token = one.asked.get(timeout=PATIENCE_S)
        assert account_id == 1
        one.recalls.answer(token)

    thread = Thread(target=give_back)
    thread.start()
    assert recall_now(postgres_url, 1, PATIENCE_S)
    thread.join()
    assert recall_now(postgres_url, 2, PATIENCE_S)  # nobody has anything of that one
    assert not recall_now(postgres_url, 1, 0.1)


def test_listening_survives_a_restart_of_the_database(tmp_path: Path) -> None:
    """While it is away, whoever asks goes on at once; afterwards, all is as before."""
    with closing(Server()) as server:
        url = server.fresh_database()
        with closing(open_store(url, tmp_path)) as store, ExitStack() as all_of_them:
            store.create_account("ann", credits_nanocredits=1000)
            holder(store, "own_2", 200)
            me, two = (
                all_of_them.enter_context(Host(url, owner).listening())
                for owner in ("own_1", "own_2")
            )
            server.stop()
            me.recalls.ask(1)
            assert me.answered.get(timeout=PATIENCE_S) == 1
            server.start()
            until_s = clock.monotonic_s() + PATIENCE_S
            heard: tuple[int, str] | None = None
            while heard is None and clock.monotonic_s() < until_s:
                me.recalls.ask(1)
                assert me.answered.get(timeout=PATIENCE_S) == 1
                with suppress(Empty):
                    heard = two.asked.get(timeout=0.2)
            assert heard
            assert heard[0] == 1

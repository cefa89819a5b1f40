"""The books of a worker: many calls at once, a store that fails, callers that give up."""

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from farebox.core.ports import Books, Settled
from farebox.errors import BillingUnavailable, OutOfCredit
from farebox.store import Store
from farebox.store.accounts import StoredAccount
from farebox.store.books import StoreBooks
from farebox.store.engine import connect
from tests.store.bookkeeping import broken_invariants, hold_request, settlement

pytestmark = pytest.mark.anyio


@pytest.fixture
async def books(store: Store) -> AsyncIterator[StoreBooks]:
    """Books that lose patience soon."""
    books = StoreBooks(store, "w1", patience_s=0.5)
    yield books
    await books.close()


@contextmanager
def locked(store: Store) -> Iterator[sqlite3.Connection]:
    """Somebody else writes, and does not end."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


class FaultyStore(Store):
    """A store with a defect, until it is mended."""

    def __init__(self, path: Path) -> None:
        super().__init__(connect(path), path)
        self.mended = False

    def together(
        self, works: Sequence[Callable[[sqlite3.Connection], Any]], patience_ms: int
    ) -> list[Any]:
        if not self.mended:
            raise ZeroDivisionError
        return super().together(works, patience_ms)


def held(store: Store) -> int:
    account = store.account_by_id(1)
    assert account is not None
    return account.held_nanocredits


async def until(condition: object) -> None:
    """Wait for what the writer does after its caller has gone."""
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def test_books_hold_and_settle(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """They are the relay's Books: an answer comes after its commit."""
    seam: Books = books
    assert await seam.hold(hold_request(most=400)) == 400
    assert held(store) == 400
    assert await seam.settle(settlement(due=150, hold=400)) == Settled(150, 0)
    assert store.call("req_1") is not None
    assert broken_invariants(store.path) == {}


async def test_many_calls_at_once_each_get_their_own_answer(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """Of 250 that want 10 of 1000, a hundred are served and the others refused, none in between."""

    async def call(number: int) -> bool:
        try:
            amount = await books.hold(hold_request(f"req_{number}", 1, 10, 10))
        except OutOfCredit:
            return False
        await asyncio.sleep(0.2)
        return await books.settle(settlement(f"req_{number}", 1, 9, amount)) == Settled(9, 0)

    done = await asyncio.gather(*(call(number) for number in range(250)))
    assert sum(done) == 100
    after = store.account_by_id(1)
    assert after is not None
    assert (after.available_nanocredits, after.spent_nanocredits) == (100, 900)
    assert broken_invariants(store.path) == {}


async def test_a_bad_settlement_fails_alone(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """One that cannot be written gets its error; those committed together with it are written."""
    due = (5, -1, 7)
    results = await asyncio.gather(
        *(books.settle(settlement(f"req_{n}", 1, amount)) for n, amount in enumerate(due)),
        return_exceptions=True,
    )
    assert results[0] == Settled(5, 0)
    assert isinstance(results[1], AssertionError)
    assert results[2] == Settled(7, 0)
    assert store.call("req_1") is None
    assert broken_invariants(store.path) == {}


async def test_books_that_cannot_be_written_refuse(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """While another process keeps the store, a hold and a settlement end as 503, not for ever."""
    with locked(store):
        results = await asyncio.gather(
            books.hold(hold_request("req_1")),
            books.settle(settlement("req_2")),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [BillingUnavailable, BillingUnavailable]
    assert (store.call("req_2"), held(store)) == (None, 0)


async def test_a_full_disk_refuses_calls_until_there_is_room(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """Without room for the write nothing is charged; as soon as there is room, calls go on."""
    written = store.path.with_name(f"{store.path.name}-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, hard))  # no file may grow beyond that
    try:
        with pytest.raises(BillingUnavailable):
            await books.settle(settlement("req_1", due=5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await books.settle(settlement("req_2", due=7)) == Settled(7, 0)
    assert store.call("req_1") is None
    assert broken_invariants(store.path) == {}


async def test_a_settlement_is_tried_until_the_store_is_free(
    store: Store, account: StoredAccount
) -> None:
    """A store that is busy for a while costs time and nothing else."""
    books = StoreBooks(store, "w1")
    with locked(store) as other:
        settling = asyncio.create_task(books.settle(settlement(due=5)))
        await asyncio.sleep(1.3)  # longer than one try
        assert not settling.done()
        other.execute("ROLLBACK")
        assert await settling == Settled(5, 0)
    await books.close()


async def test_the_hold_of_a_refused_settlement_is_given_back(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """A call that could not be charged does not keep credits, though nobody calls any more."""
    await books.hold(hold_request("req_1", most=400))
    with locked(store), pytest.raises(BillingUnavailable):
        await books.settle(settlement("req_1", due=10, hold=400))
    await until(lambda: held(store) == 0)
    assert store.call("req_1") is None
    assert broken_invariants(store.path) == {}


async def test_a_settlement_with_a_fault_of_its_own_gives_its_hold_back(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """What no table takes is nobody's charge, and keeps nobody's credits either."""
    await books.hold(hold_request("req_1", most=400))
    with pytest.raises(AssertionError):
        await books.settle(settlement("req_1", due=-1, hold=400))
    await until(lambda: held(store) == 0)
    assert broken_invariants(store.path) == {}


async def test_books_outlive_a_defect_of_their_store(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """Whatever a transaction ends with: who waits gets an answer, and later calls are served."""
    faulty = FaultyStore(store.path)
    broken = StoreBooks(faulty, "w1", patience_s=0.2)
    with pytest.raises(BillingUnavailable):
        await broken.hold(hold_request("req_1"))
    faulty.mended = True
    assert await broken.hold(hold_request("req_2", most=400)) == 400
    await broken.close()
    faulty.close()


async def test_closing_does_not_wait_for_a_store_that_stays_locked(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """What is owed then is released by the supervisor, as it does after every worker."""
    await books.hold(hold_request("req_1", most=400))
    with locked(store):
        with pytest.raises(BillingUnavailable):
            await books.settle(settlement("req_1", due=10, hold=400))
        async with asyncio.timeout(5):
            await books.close()


async def test_a_caller_that_gives_up_leaves_no_hold(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """A hold that was asked for and cancelled is given back, even if it was made meanwhile."""
    holding = asyncio.create_task(books.hold(hold_request(most=400)))
    await asyncio.sleep(0)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    assert await books.hold(hold_request("req_2", least=1000, most=1000)) == 1000
    await until(lambda: held(store) == 1000)


async def test_a_settlement_is_written_though_its_caller_gives_up(
    store: Store, account: StoredAccount, books: StoreBooks
) -> None:
    """What was used is charged, whoever still waits for the answer."""
    settling = asyncio.create_task(books.settle(settlement(due=10)))
    await asyncio.sleep(0)
    settling.cancel()
    await until(lambda: store.call("req_1") is not None)


async def test_closing_writes_what_waits(store: Store, account: StoredAccount) -> None:
    """Settlements that were asked for before the end are in the store after it."""
    books = StoreBooks(store, "w1")
    settling = [
        asyncio.create_task(books.settle(settlement(f"req_{number}"))) for number in range(150)
    ]
    await asyncio.sleep(0)
    await books.close()
    assert await asyncio.gather(*settling) == [Settled(0, 0)] * 150
    assert broken_invariants(store.path) == {}

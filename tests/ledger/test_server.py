"""Workers, ledger, committer and a real store in one process: many calls at once, and the books."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from farebox.billing import messages as m
from farebox.billing.entry import entry_of
from farebox.billing.jobs import Grant, Granted, Job, Post, Posted
from farebox.billing.ledger import Ledger
from farebox.core.money import NANO
from farebox.core.ports import Budget, HoldRequest, Settled
from farebox.errors import BillingUnavailable, BudgetExceeded, OutOfCredit, Unauthorized
from farebox.ledger.client import LedgerBooks, recall_now
from farebox.ledger.server import Server
from farebox.store import Store, open_store
from tests.booking import Host, booked
from tests.settlements import settlement

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """With account 1, that has a credit."""
    store = open_store("sqlite:///farebox.db", tmp_path)
    store.create_account("alice", credits_nanocredits=NANO)
    yield store
    store.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for a socket."""
    with tempfile.TemporaryDirectory(prefix="farebox-") as name:
        yield Path(name)


def request(number: int, most: int = 1000, least: int = 10) -> HoldRequest:
    return HoldRequest(f"req_{number}", 1, "key_1", least, most)


async def _until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def _money(store: Store) -> tuple[int, int, int]:
    """Balance, held, spent."""
    account = store.account_by_id(1)
    assert account is not None
    return account.balance_nanocredits, account.held_nanocredits, account.spent_nanocredits


async def _is_at_rest(store: Store, spent: int) -> None:
    """All that was leased is back, and so much spent."""
    await _until(lambda: _money(store)[1] == 0)
    assert _money(store) == (NANO - spent, 0, spent)


async def _call(books: LedgerBooks, number: int, due: int) -> None:
    assert await books.hold(request(number)) == 1000
    await asyncio.sleep(0)
    done = settlement(request_id=f"req_{number}", due_nanocredits=due)
    assert await books.settle(done) == Settled(due, 0)
    books.delivered(f"req_{number}")


async def test_many_calls_at_once_are_charged_once_each(store: Store, folder: Path) -> None:
    """Over two workers' connections; the account has paid exactly what was due."""
    async with Host(store, folder) as host:
        workers = [LedgerBooks(host.path) for _ in range(2)]
        await asyncio.gather(*(_call(workers[n % 2], n, n) for n in range(400)))
        await _is_at_rest(store, sum(range(400)))
        for books in workers:
            await books.close()


class Batches:
    """A committer that writes down what it is given, and says when it is done."""

    def __init__(self) -> None:
        self.given: list[Sequence[Job]] = []
        self.server: Server

    def submit(self, jobs: Sequence[Job]) -> None:
        self.given.append(jobs)

    def done(self) -> None:
        """All was done, also what was given then: whoever asked got a lease."""
        done = 0
        while done != len(self.given):
            done = len(self.given)
            outcomes = [
                Granted(job.account_id, 1000, NANO, 0, 0, is_open=True)
                if isinstance(job, Grant)
                else Posted(job.charge, 0, inserted=True)
                for job in self.given[-1]
                if isinstance(job, Grant | Post)
            ]
            self.server.done(self.given[-1], outcomes)


async def test_the_ends_of_calls_gather_for_a_moment_where_they_are_many() -> None:
    """Not where they are few, nor for those that nobody is left to join, nor once one wants to
    begin.
    """
    batches, ledger = Batches(), Ledger()
    server = batches.server = Server(
        ledger, batches, tick_s=60, is_halted=lambda: False, watch=lambda _: None
    )
    worker = cast(Any, server.connection())

    async def say(*messages: m.Request) -> None:
        server.received(worker, messages)
        await asyncio.sleep(0)  # one turn of the loop

    def hold(n: int) -> m.Hold:
        return m.Hold(f"req_{n}", n, "key_1", 9, 9, None, 0)

    def settle(n: int) -> m.Settle:
        return m.Settle(entry_of(settlement(request_id=f"req_{n}", account_id=n)))

    async def gathers(*messages: m.Request) -> bool:
        """Whether what ends now waits for what comes next."""
        before = len(batches.given)
        await say(*messages)
        is_gathering = len(batches.given) == before
        await _until(lambda: len(batches.given) > before)
        batches.done()
        return is_gathering

    assert not await gathers(hold(1), hold(2))
    for n in range(500, 1000, 100):
        await say(*map(hold, range(n, n + 100)))
        batches.done()
    assert await gathers(*map(settle, range(500, 600)))
    assert await gathers(*map(settle, range(600, 700)))
    assert not await gathers(settle(700), hold(3))  # who asks for credit wants to begin
    assert not await gathers(*map(settle, (1, 3, *range(701, 1000))), m.Release("req_2"))
    assert ledger.in_flight == 0  # there is nobody to join them
    await gathers(*map(hold, range(10, 20)))
    for n in range(10, 19):
        await asyncio.sleep(0.05)
        is_gathering = await gathers(settle(n))
    assert not is_gathering  # twenty a second


async def test_more_than_the_account_has_is_refused_to_the_nano_credit(store: Store) -> None:
    """Holds that fit are given; the one that does not learns what is missing."""
    async with booked(store) as books:
        half = NANO // 2
        assert await books.hold(request(1, half, half)) == half
        assert await books.hold(request(2, half, half)) == half
        with pytest.raises(OutOfCredit, match=r"held by calls in flight: 0\.00000001 more"):
            await books.hold(request(3))
        await books.settle(settlement(request_id="req_1", due_nanocredits=5))
        assert await books.hold(request(3)) == 1000
        await books.settle(settlement(request_id="req_2", due_nanocredits=5))
        await books.settle(settlement(request_id="req_3", due_nanocredits=5))
        await _is_at_rest(store, 15)


async def test_an_account_that_is_closed_gets_nothing(store: Store) -> None:
    """Nor does one that is missing."""
    async with booked(store) as books:
        with pytest.raises(Unauthorized):
            await books.hold(HoldRequest("req_1", 99, "key_1", 1, 1))


async def test_a_budget_holds_however_many_calls_come_at_once(store: Store) -> None:
    """Ten that would be in it one by one; four are, and what one leaves over the next may use."""
    budget = Budget(4000, "total", 0)
    async with booked(store) as books:

        async def one(number: int) -> int:
            try:
                return await books.hold(
                    HoldRequest(f"req_{number}", 1, "key_1", 1000, 1000, budget)
                )
            except BudgetExceeded:
                return 0

        assert sorted(await asyncio.gather(*map(one, range(10)))) == [0] * 6 + [1000] * 4
        held = [number for number in range(10) if f"req_{number}" in books._held]
        await books.settle(settlement(request_id=f"req_{held[0]}", due_nanocredits=0))
        assert await one(11) == 1000


async def test_an_extension_is_held_too(store: Store) -> None:
    """And given back with the rest."""
    async with booked(store) as books:
        await books.hold(request(1))
        assert await books.extend("req_1", 500) == 1500
        with pytest.raises(OutOfCredit):
            await books.extend("req_1", 2 * NANO)
        done = settlement(request_id="req_1", due_nanocredits=1400)
        assert await books.settle(done) == Settled(1400, 0)
        await _is_at_rest(store, 1400)


async def test_settling_again_gives_the_first_answer(store: Store) -> None:
    """However often, and whatever is said of it: it is charged once."""
    async with booked(store) as books:
        await books.hold(request(1))
        for due in (9, 9, 7):
            done = settlement(request_id="req_1", due_nanocredits=due)
            assert await books.settle(done) == Settled(9, 0)
        await _is_at_rest(store, 9)


async def test_a_hold_that_was_given_up_is_given_back(store: Store) -> None:
    """Its caller has gone before the answer."""
    async with booked(store) as books:
        holding = asyncio.ensure_future(books.hold(request(1)))
        await asyncio.sleep(0)
        holding.cancel()
        books.release("req_1")
        await _is_at_rest(store, 0)


async def test_a_worker_that_dies_leaves_nothing_held(store: Store, folder: Path) -> None:
    """Its connection ends without a word."""
    async with Host(store, folder) as host:
        books = LedgerBooks(host.path)
        await books.hold(request(1))
        assert _money(store)[1] >= 1000
        await books.close()
        await _is_at_rest(store, 0)


async def test_the_next_ledger_holds_what_was_held(store: Store, folder: Path) -> None:
    """A worker that lives on says so: its call is charged from what was set apart, and nobody else
    got it.
    """
    async with Host(store, folder, drain_timeout_s=0.0) as host:
        books = LedgerBooks(host.path)
        await books.hold(request(1, NANO, NANO))
        host.hang_up()
        await _until(lambda: books._transport is not None)
        with pytest.raises(OutOfCredit):
            await books.hold(request(2))
        done = settlement(request_id="req_1", due_nanocredits=NANO)
        assert await books.settle(done) == Settled(NANO, 0)
        await books.close()
    await _is_at_rest(store, NANO)


async def test_an_operator_gets_back_what_nobody_needs(store: Store, folder: Path) -> None:
    """At once, though it would not be idle yet. What a call needs stays."""
    async with Host(store, folder, lease_idle_s=60.0) as host:
        books = LedgerBooks(host.path)
        await books.hold(request(1))
        await books.settle(settlement(request_id="req_1", due_nanocredits=9))
        assert _money(store)[1] > 0
        assert await asyncio.to_thread(recall_now, host.path, 1, 10.0)
        assert _money(store) == (NANO - 9, 0, 9)
        await books.hold(request(2))
        assert await asyncio.to_thread(recall_now, host.path, 1, 10.0)
        assert _money(store)[1] == 1000
        await books.close()


async def test_nobody_to_recall_from_is_no_error(folder: Path) -> None:
    """A command goes on without."""
    assert not await asyncio.to_thread(recall_now, str(folder / "nobody"), 1, 0.1)


async def test_an_answer_whose_end_was_not_delivered_is_marked(store: Store, folder: Path) -> None:
    """When its worker dies before it said so; one that said so is complete."""
    async with Host(store, folder) as host:
        books = LedgerBooks(host.path)
        for number in (1, 2):
            await books.hold(request(number))
            await books.settle(settlement(request_id=f"req_{number}", due_nanocredits=9))
        books.delivered("req_1")
        await books.close()
        await _until(lambda: [call.request_id for call in store.undelivered(0, 2**62)] == ["req_2"])


async def test_while_the_store_is_away_calls_go_on_within_what_is_leased(
    store: Store, tmp_path: Path
) -> None:
    """Held from memory, charged in the spool; who wants more hears 503. Then all is shipped."""
    path = tmp_path / "farebox.db"
    async with booked(store, lease_idle_s=60.0) as books:
        await _call(books, 1, 9)
        path.rename(tmp_path / "elsewhere")
        await _call(books, 2, 9)
        with pytest.raises(BillingUnavailable):
            await books.hold(request(3, NANO, NANO))
        (tmp_path / "elsewhere").rename(path)
        await _until(lambda: _money(store)[2] == 18)
    assert _money(store) == (NANO - 18, 0, 18)

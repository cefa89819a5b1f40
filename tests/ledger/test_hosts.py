"""Ledger processes of several hosts over one PostgreSQL store, each in its own folder."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psycopg
import pytest

from farebox.billing.ledger import Ledger
from farebox.core.money import NANO
from farebox.core.ports import HoldRequest, Settled
from farebox.errors import OutOfCredit
from farebox.ledger.client import LedgerBooks
from farebox.ledger_process import Heart
from farebox.store import Store, open_store
from tests import postgres
from tests.booking import Host
from tests.settlements import settlement

pytestmark = pytest.mark.anyio


@pytest.fixture
def url() -> Iterator[str]:
    """Of a store in which account 1 has a credit."""
    url = postgres.fresh_database()
    store = open_store(url, Path())
    store.create_account("alice", credits_nanocredits=NANO)
    store.close()
    yield url
    postgres.server().drop(url)


class Fleet:
    """Hosts, and the books of a worker on each."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack
        self.store = self._open()

    def _open(self) -> Store:
        store = open_store(self._url, Path())
        self._stack.callback(store.close)
        return store

    async def host(self, owner: str) -> tuple[Host, LedgerBooks]:
        """Another one. It leases for long, so that nothing comes back by itself."""
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="farebox-"))
        host = Host(self._open(), Path(folder), owner, database=self._url, lease_idle_s=60.0)
        await self._stack.enter_async_context(host)
        books = LedgerBooks(host.path)
        self._stack.push_async_callback(books.close)
        return host, books

    def held(self) -> int:
        account = self.store.account_by_id(1)
        assert account is not None
        return account.held_nanocredits


def request(number: int, amount: int) -> HoldRequest:
    return HoldRequest(f"req_{number}", 1, "key_1", amount, amount)


async def _held_by(books: LedgerBooks, amount: int) -> str:
    """Hold so much; the request id. The other hosts are asked for half a second: where a machine is
    busier than that, the caller asks again.
    """
    for number in range(100, 103):
        with suppress(OutOfCredit):
            assert await books.hold(request(number, amount)) == amount
            return f"req_{number}"
    raise AssertionError("it was refused again and again")


async def test_nobody_is_refused_what_another_host_does_not_need(url: str) -> None:
    """The account's credit is with a host where no call needs it: it is called back."""
    async with AsyncExitStack() as stack:
        fleet = Fleet(url, stack)
        _, first = await fleet.host("own_a")
        await first.hold(request(1, NANO))
        await first.settle(settlement(request_id="req_1", due_nanocredits=10))
        assert fleet.held() == NANO - 10
        _, second = await fleet.host("own_b")
        held = await _held_by(second, NANO - 10)
        done = settlement(request_id=held, due_nanocredits=NANO - 10)
        assert await second.settle(done) == Settled(NANO - 10, 0)


async def test_a_host_that_serves_hears_the_others(url: str) -> None:
    """Or its first call would be refused what others don't need, and others what it doesn't."""
    async with AsyncExitStack() as stack:
        with psycopg.connect(url, autocommit=True) as watching:
            await Fleet(url, stack).host("own_a")
            hearing = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            hearing += " AND query = 'LISTEN farebox_recalled'"
            assert watching.execute(hearing).fetchone() == (1,)


async def test_what_another_host_needs_is_not_to_be_had(url: str) -> None:
    """The refusal comes after the others were asked, and says what calls in flight hold."""
    async with AsyncExitStack() as stack:
        fleet = Fleet(url, stack)
        _, first = await fleet.host("own_a")
        await first.hold(request(1, NANO - 5))
        _, second = await fleet.host("own_b")
        with pytest.raises(OutOfCredit, match=r"0\.999999995 of it are held by calls in flight"):
            await second.hold(request(2, 100))


async def test_an_owner_that_ends_is_not_counted_any_more(url: str) -> None:
    """It gave back what it had, so nobody waits for it."""
    async with AsyncExitStack() as stack:
        fleet = Fleet(url, stack)
        async with AsyncExitStack() as short:
            _, books = await Fleet(url, short).host("own_a")
            await books.hold(request(1, 100))
        assert fleet.held() == 0
        assert fleet.store.beat("own_b", "b") == 1


async def test_a_heart_that_misses_its_beats_is_late_until_it_beats_again() -> None:
    """Then this host holds for nothing new: others may soon take it for dead."""
    is_away = asyncio.Event()
    ledger = Ledger()

    def beat() -> int:
        if is_away.is_set():
            raise OSError("the store is away")
        return 3

    heart = Heart(beat, ledger, beat_s=0.01, halt_s=0.2)
    beating = asyncio.create_task(heart.run())
    try:
        async with asyncio.timeout(10):
            while ledger.hosts != 3:
                await asyncio.sleep(0.01)
            assert not heart.is_late
            is_away.set()
            while not heart.is_late:
                await asyncio.sleep(0.01)
            is_away.clear()
            while heart.is_late:
                await asyncio.sleep(0.01)
    finally:
        beating.cancel()

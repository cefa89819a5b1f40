"""The ledger process as a real child: killed in the middle of everything, told to end, orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from farebox.core.bus import plain_settings
from farebox.core.money import NANO
from farebox.core.ports import HoldRequest, Settled
from farebox.core.settings import Settings
from farebox.ledger.client import LedgerBooks
from farebox.standby import LEDGER_COMMAND, SPARE_AFTER_S, LedgerPlace, order
from farebox.store import Store, open_store
from farebox.store.owner import is_dead, owner_id
from tests.settlements import settlement
from tests.test_supervisor import alive, until

pytestmark = pytest.mark.anyio

LIMIT_S = 30.0
CREDITS = 100 * NANO
PARENT = """
import asyncio, os, sys
from pathlib import Path
from farebox.core.bus import plain_settings
from farebox.core.settings import Settings
from farebox.standby import LedgerPlace, order

async def main():
    folder = Path(sys.argv[1])
    settings = plain_settings(Settings(folder, "sqlite:///farebox.db", drain_timeout_s=0.1))
    place = LedgerPlace(lambda: order(settings, 0), print, print, env=dict(os.environ))
    running = asyncio.create_task(place.run())
    await place.ready.wait()
    print(place._process.pid, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@dataclass
class Running:
    """A ledger process in its place, and a worker's books. `settings` and `workers` are what the
    next one is told.
    """

    settings: Settings
    place: LedgerPlace
    books: LedgerBooks
    store: Store
    said: list[str]
    deaths: list[int]
    workers: int = 0

    @property
    def pid(self) -> int:
        assert self.place._process is not None
        return self.place._process.pid

    async def dies(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill it, and wait until its successor is ready."""
        pid = self.pid
        os.kill(pid, number)
        async with asyncio.timeout(LIMIT_S):
            while pid not in self.deaths:
                await asyncio.sleep(0.01)
            await self.place.ready.wait()

    def money(self) -> tuple[int, int, int]:
        """Balance, held, spent."""
        account = self.store.account_by_id(1)
        assert account is not None
        held, spent = account.held_nanocredits, account.spent_nanocredits
        return account.balance_nanocredits, held, spent

    async def is_at_rest(self, spent: int) -> None:
        """All that was leased is back, and so much spent."""
        async with asyncio.timeout(LIMIT_S):
            while self.money()[1]:
                await asyncio.sleep(0.02)
        assert self.money() == (CREDITS - spent, 0, spent)


@asynccontextmanager
async def running(
    folder: Path,
    database: str = "sqlite:///farebox.db",
    spare_after_s: tuple[float, float] = SPARE_AFTER_S,
    **settings: float,
) -> AsyncIterator[Running]:
    """A ledger process over a store whose first account has 100 credits."""
    chosen = Settings(folder, database, **{"lease_idle_s": 0.2, **settings})  # type: ignore[arg-type]
    store = open_store(chosen.database, folder)
    if store.account("alice") is None:
        store.create_account("alice", credits_nanocredits=CREDITS)
    said: list[str] = []
    deaths: list[int] = []
    place = LedgerPlace(
        lambda: order(plain_settings(parts.settings), parts.workers),
        deaths.append,
        said.append,
        env={name: value for name, value in os.environ.items() if "PROMETHEUS" not in name},
        spare_after_s=spare_after_s,
    )
    parts = Running(chosen, place, LedgerBooks(place.path), store, said, deaths)
    task = asyncio.create_task(place.run())
    try:
        await asyncio.wait_for(place.ready.wait(), LIMIT_S)
        parts.workers = 1
        yield parts
    finally:
        await parts.books.close()
        place.stop()
        await asyncio.wait_for(task, LIMIT_S)
        place.close()
        store.close()


def request(number: int, amount: int = 1000) -> HoldRequest:
    return HoldRequest(f"req_{number}", 1, "key_1", amount, amount)


async def _calls(books: LedgerBooks, first: int, done: Callable[[], bool]) -> tuple[int, int]:
    """One call after the other, until it is enough; how many, and what was due for them."""
    number, due = first, 0
    while not done():
        assert await books.hold(request(number)) == 1000
        await asyncio.sleep(0.001)
        settled = await books.settle(
            settlement(request_id=f"req_{number}", due_nanocredits=number % 1000)
        )
        assert settled == Settled(number % 1000, 0)
        due += number % 1000
        number += 1
    return number - first, due


async def test_killed_in_the_middle_of_load_it_only_delays_calls(tmp_path: Path) -> None:
    """Three times kill -9, under thirty clients: no call fails, each is charged exactly once, and
    all that was leased comes back.
    """
    async with running(tmp_path) as parts:
        is_over = asyncio.Event()
        clients = [
            asyncio.create_task(_calls(parts.books, n * 1_000_000, is_over.is_set))
            for n in range(30)
        ]
        for _ in range(3):
            await asyncio.sleep(0.1)
            await parts.dies()
        await asyncio.sleep(0.1)
        is_over.set()
        results = await asyncio.gather(*clients)
        await parts.is_at_rest(sum(due for _, due in results))
        totals = parts.store.usage_totals("model", 0, 2**62)
        assert [total.calls for total in totals] == [sum(calls for calls, _ in results)]
        assert len(set(parts.deaths)) == 3
        assert [line.split(". ")[0] for line in parts.said] == [
            "The ledger process was ended by SIGKILL"
        ] * 3


async def test_what_was_held_when_it_was_killed_is_held_by_the_next(tmp_path: Path) -> None:
    """Nobody gets it meanwhile, and the call is charged from it."""
    async with running(tmp_path) as parts:
        await parts.books.hold(request(1, CREDITS))
        await parts.dies()
        assert await parts.books.settle(
            settlement(request_id="req_1", due_nanocredits=CREDITS)
        ) == Settled(CREDITS, 0)
        await parts.is_at_rest(CREDITS)


async def test_without_workers_what_was_leased_is_given_back_by_the_next(tmp_path: Path) -> None:
    """The worker died together with it: nobody says that anything is held."""
    async with running(tmp_path, lease_idle_s=60.0) as parts:
        await parts.books.hold(request(1))
        assert parts.money()[1] > 0
        parts.workers = 0
        await asyncio.gather(parts.dies(), parts.books.close())
    # Ended in order, the successor has given back what it found.
    assert parts.money() == (CREDITS, 0, 0)


@pytest.mark.skipif(
    not hasattr(os, "SCHED_BATCH"), reason="this system has no SCHED_BATCH: it is Linux's"
)
async def test_it_does_not_break_into_the_turns_of_workers(tmp_path: Path) -> None:
    """None of its threads do, the one that writes the store included."""
    async with running(tmp_path) as parts:
        await parts.books.hold(request(1))
        threads = [int(thread) for thread in os.listdir(f"/proc/{parts.pid}/task")]  # noqa: PTH208
        assert len(threads) > 1
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_BATCH}


async def test_told_to_end_it_sees_its_workers_off(tmp_path: Path) -> None:
    """It serves who is connected; when all have gone it gives back what it had and ends well."""
    async with running(tmp_path, lease_idle_s=60.0) as parts:
        pid = parts.pid
        await parts.books.hold(request(1))
        os.kill(pid, signal.SIGTERM)
        done = settlement(request_id="req_1", due_nanocredits=9)
        assert await parts.books.settle(done) == Settled(9, 0)
        assert alive(pid)
        await parts.books.close()
        await asyncio.to_thread(until, lambda: not alive(pid), "it ends")
        assert parts.money() == (CREDITS - 9, 0, 9)
    assert is_dead(tmp_path, owner_id(tmp_path))
    assert [line for line in parts.said if "exit code 0" not in line] == []


async def test_it_ends_when_its_parent_has_died(tmp_path: Path) -> None:
    """The end of its standard input is the sign. Its lock is free then."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), LIMIT_S))
    await parent.wait()
    await asyncio.to_thread(until, lambda: not alive(pid), "it ends")
    assert is_dead(tmp_path, owner_id(tmp_path))


def test_without_an_order_it_ends_without_a_word(tmp_path: Path) -> None:
    """A spare that was not needed, or whose parent died: exit code 0, and it said but that it was
    there.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        done = subprocess.run(
            [*LEDGER_COMMAND, "--listen-fd", str(listener.fileno()), "--postgresql"],
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"here\n", b"")

"""The counting process's place: started by need, replaced, and gone when it is not needed. And the
ledger process's, where a spare waits beside it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farebox.counting import wire
from farebox.counting.client import ProcessCounter
from farebox.standby import COUNTING_COMMAND, Counting
from farebox.store import open_store
from farebox.store.owner import is_dead, owner_id
from tests import postgres as postgresql
from tests.test_ledger_process import Running, request, running
from tests.test_supervisor import alive, until

pytestmark = pytest.mark.anyio

HELLO = wire.pack("o200k_base", ["hello world"])
HEAVY = wire.pack("o200k_base", [" " * 500_000] * 8)  # seconds of work
QUICK = (*COUNTING_COMMAND, "--idle-s", "1")
LIMIT_S = 30.0
PARENT = """
import asyncio, os
from farebox.counting import wire
from farebox.counting.client import ProcessCounter
from farebox.standby import Counting

async def main():
    counting = Counting(print)
    running = asyncio.create_task(counting.run())
    counter = ProcessCounter(counting.path)
    assert await counter.count(wire.pack("o200k_base", ["hello world"])) == 2
    heavy = asyncio.create_task(counter.count(wire.pack("o200k_base", [" " * 500_000] * 8)))
    await asyncio.sleep(0.2)
    print(counting._process.pid, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""
LEDGER_PARENT = """
import asyncio, os, sys
from pathlib import Path
from farebox.core.bus import plain_settings
from farebox.core.settings import Settings
from farebox.standby import LedgerPlace, order

async def main():
    of = Settings(Path(sys.argv[1]), "sqlite:///farebox.db", drain_timeout_s=0.1)
    settings = plain_settings(of)
    env = dict(os.environ)
    place = LedgerPlace(lambda: order(settings, 0), print, print, env=env, spare_after_s=(0, 0))
    running = asyncio.create_task(place.run())
    await place.ready.wait()
    while not place._spare.lives:
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@asynccontextmanager
async def place(
    said: list[str], command: Sequence[str] = COUNTING_COMMAND
) -> AsyncIterator[tuple[Counting, ProcessCounter]]:
    """The place, and a worker's way to it."""
    counting = Counting(said.append, command)
    running = asyncio.create_task(counting.run())
    counter = ProcessCounter(counting.path, LIMIT_S)
    try:
        yield counting, counter
    finally:
        await counter.aclose()
        counting.stop()
        await asyncio.wait_for(running, LIMIT_S)
        counting.close()


async def _children(module: str = "farebox.counting.process") -> list[int]:
    await asyncio.sleep(0)
    found = await asyncio.to_thread(
        subprocess.run,
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split(None, 1) for line in found.stdout.splitlines()]
    return [int(pid) for pid, args in lines if module in args]


async def _gone(pid: int) -> None:
    await asyncio.to_thread(until, lambda: not alive(pid), "the process ends")
    await asyncio.sleep(0.05)  # that its connections have gone is noticed


async def test_it_is_started_when_somebody_counts(tmp_path: Path) -> None:
    """Not before; its folder is private, and nothing is left at the end."""
    said: list[str] = []
    async with place(said) as (counting, counter):
        folder = Path(counting.path).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        await asyncio.sleep(0.2)
        assert await _children() == []
        assert await counter.count(HELLO) == 2
        (pid,) = await _children()
        assert await counter.count(HELLO) == 2
        assert await _children() == [pid]
    assert not alive(pid)
    assert not folder.exists()
    assert said == []


async def test_it_ends_when_nobody_counts_and_comes_back(tmp_path: Path) -> None:
    """Without a word, however often."""
    said: list[str] = []
    async with place(said, QUICK) as (_, counter):
        pids: set[int] = set()
        for _ in range(2):
            assert await counter.count(HELLO) == 2
            (pid,) = await _children()
            await _gone(pid)
            pids.add(pid)
        assert len(pids) == 2
    assert said == []


async def test_when_it_is_killed_the_next_question_is_answered(tmp_path: Path) -> None:
    """Who waits has no count; its successor is started by the next who connects."""
    said: list[str] = []
    async with place(said) as (_, counter):
        assert await counter.count(HELLO) == 2
        (pid,) = await _children()
        waiting = asyncio.create_task(counter.count(HEAVY))
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        assert await waiting is None
        assert await counter.count(HELLO) == 2
    assert said == ["The counting process was ended by SIGKILL. Starting it again in 0.1 s.\n"]


async def test_one_that_cannot_live_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Whoever connects is hung up on as soon as a second life was short, and may try again."""
    said: list[str] = []
    async with place(said, (sys.executable, "-c", "raise SystemExit(3)")) as (_, counter):
        assert await asyncio.wait_for(counter.count(HELLO), 10) is None
        assert await asyncio.wait_for(counter.count(HELLO), 10) is None
    assert said[0] == "The counting process ended with exit code 3. Starting it again in 0.1 s.\n"


async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """Also while it counts: the end of its standard input is the sign."""
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT), stdout=subprocess.PIPE, env=environ
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), LIMIT_S))
    await parent.wait()
    await _gone(pid)


@asynccontextmanager
async def spared(folder: Path, **settings: Any) -> AsyncIterator[tuple[Running, int]]:
    """A ledger process, and the pid of its spare."""
    async with running(folder, spare_after_s=(0.05, 0.05), **settings) as parts:
        yield parts, await _spare(parts)


async def _spare(parts: Running) -> int:
    """The pid of the spare, which is waited for."""
    async with asyncio.timeout(LIMIT_S):
        while not (spares := set(await _children("farebox.ledger_process")) - {parts.pid}):
            await asyncio.sleep(0.02)
    (pid,) = spares
    return pid


def _has_driver(pid: int) -> bool:
    """Whether a process has loaded that of PostgreSQL."""
    return "psycopg" in Path(f"/proc/{pid}/maps").read_text()


async def test_a_killed_ledger_process_is_replaced_by_its_spare(tmp_path: Path) -> None:
    """Who takes over was there before; calls go on, and there is another spare for the next time.
    None loads what its store does not need.
    """
    async with spared(tmp_path) as (parts, _):
        for number in range(2):
            pid, spare = parts.pid, await _spare(parts)
            await parts.dies()
            assert parts.pid == spare
            assert await parts.books.hold(request(number)) == 1000
            assert not _has_driver(spare)
            assert parts.deaths[number:] == [pid]
    line = "The ledger process was ended by SIGKILL. Its spare takes over.\n"
    assert parts.said == [line, line]


async def test_when_both_are_killed_there_is_a_new_one(tmp_path: Path) -> None:
    """It takes longer, and calls go on all the same."""
    async with spared(tmp_path) as (parts, spare):
        pid = parts.pid
        os.kill(spare, signal.SIGKILL)
        await parts.dies()
        assert await parts.books.hold(request(1)) == 1000
        assert parts.pid not in (pid, spare)
        assert await _spare(parts) not in (pid, spare)


async def test_a_spare_that_dies_is_replaced_in_silence(tmp_path: Path) -> None:
    """The one that lives notices nothing, and there is nothing to be told of."""
    async with spared(tmp_path) as (parts, spare):
        pid = parts.pid
        os.kill(spare, signal.SIGKILL)
        await _gone(spare)
        assert await parts.books.hold(request(1)) == 1000
        assert await _spare(parts) != spare
        assert parts.pid == pid
    assert (parts.said, parts.deaths) == ([], [pid])


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_spare_ends_with_its_place(tmp_path: Path, end: str) -> None:
    """When that is stopped, the spare does not wait for the last workers; nothing is left."""
    async with spared(tmp_path) as (parts, spare):
        pid = parts.pid
        await parts.books.hold(request(1))
        getattr(parts.place, end)()
        await asyncio.to_thread(until, lambda: not alive(spare), "the spare ends")
        if end == "stop":
            assert alive(pid), "it sees its worker off"
        else:
            await asyncio.to_thread(until, lambda: not alive(pid), "the ledger process ends")
    assert await _children("farebox.ledger_process") == []
    assert parts.said == []


async def test_a_spare_is_given_the_settings_of_the_moment(tmp_path: Path) -> None:
    """They may have changed since it was started: its order is made when it takes over."""
    async with spared(tmp_path / "old") as (parts, spare):
        store = f"sqlite:///{tmp_path / 'old' / 'farebox.db'}"
        parts.settings = replace(parts.settings, data_dir=tmp_path / "new", database=store)
        await parts.dies()
        assert parts.pid == spare
        assert is_dead(tmp_path / "old", owner_id(tmp_path / "old"))
        assert not is_dead(tmp_path / "new", owner_id(tmp_path / "new"))


async def test_a_ledger_process_that_is_renewed_is_followed_by_a_new_spare(tmp_path: Path) -> None:
    """Not by the one that waits, which is of older code; what is held stays held, and there is
    nothing to be told of.
    """
    async with spared(tmp_path) as (parts, spare):
        pid = parts.pid
        assert await parts.books.hold(request(1)) == 1000
        assert await parts.place.renew()
        assert parts.pid not in (pid, spare)
        assert (alive(pid), alive(spare)) == (False, False)
        assert await parts.books.extend(request(1).request_id, 500) == 1500
        await _spare(parts)
    assert parts.said == []
    assert parts.deaths[0] == pid


async def test_without_a_spare_the_ledger_process_is_not_renewed(tmp_path: Path) -> None:
    """If the code as it is now does not even start, who serves goes on."""
    async with spared(tmp_path) as (parts, _):
        pid = parts.pid
        parts.place._command = (sys.executable, "-c", "raise SystemExit(3)")
        assert not await parts.place.renew(limit_s=1.0)
        assert parts.pid == pid
        assert await parts.books.hold(request(1)) == 1000
    assert parts.said == []


async def test_the_spare_of_a_postgresql_store_has_its_driver(
    postgres: postgresql.Server, tmp_path: Path
) -> None:
    """It is an extra, and is loaded before there is an order."""
    database = postgres.fresh_database()
    async with spared(tmp_path, database=database) as (parts, spare):
        await asyncio.to_thread(until, lambda: _has_driver(spare), "the driver is loaded")
        await parts.dies()
        assert parts.pid == spare
        assert await parts.books.hold(request(1)) == 1000
    postgres.drop(database)


async def test_a_spare_dies_with_its_parent(tmp_path: Path) -> None:
    """Without a word, as does the one that it waits beside: their standard input ends."""
    open_store("sqlite:///farebox.db", tmp_path).close()  # who makes it tells of it
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LEDGER_PARENT, str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert parent.stdout is not None
    # The errors of all three, which end when the last of them has ended.
    assert await asyncio.wait_for(parent.stdout.read(), LIMIT_S) == b""
    await parent.wait()

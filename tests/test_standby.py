"""The counting process's place: started by need, replaced, and gone when it is not needed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from farebox.counting import wire
from farebox.counting.client import ProcessCounter
from farebox.standby import COUNTING_COMMAND, Counting
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


async def _children() -> list[int]:
    await asyncio.sleep(0)
    found = await asyncio.to_thread(
        subprocess.run,
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split(None, 1) for line in found.stdout.splitlines()]
    return [int(pid) for pid, args in lines if "farebox.counting.process" in args]


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

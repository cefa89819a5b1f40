"""The places of the processes that workers talk to over a Unix socket: counting, and the ledger.

The sockets are made here and stay for as long as the supervisor lives, so that who connects while
there is no process waits for the next. What the processes do is counting/'s and ledger/'s.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from farebox.children import LAUNCH, Backoff, Child, Say

LEDGER_COMMAND: Sequence[str] = (*LAUNCH, "farebox.ledger_process")
COUNTING_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "farebox.counting.process")
_BACKLOG = 64  # a connection a worker
_LONG_LIFE_S = 30.0
_LEDGER_BACKOFF = Backoff(most_s=0.5, long_life_s=5.0)  # calls wait for it, but for seconds only
# Nobody waits for a spare, and one that cannot live may have a word to say each time.
_SPARE_BACKOFF = Backoff(first_s=1.0, most_s=60.0)
# After the ledger is ready for the first time, and again. To import takes half a second of a core,
# which the gateway's start needs itself; and then, for a moment, the calls that waited.
SPARE_AFTER_S = (3.0, 0.1)
RENEWAL_LIMIT_S = 20.0  # for a spare to import, and for one that takes over to open its store
_HERE, _READY = b"here\n", b"ready\n"  # what it says when it has imported, and when it serves


class _Way:
    """A socket to connect to. Raises OSError if there is no place for one."""

    def __init__(self, name: str) -> None:
        # Private, and short: a socket's path may have about a hundred bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="farebox-"))
        self.path = str(self._folder / name)
        self.listener = socket.socket(socket.AF_UNIX)
        try:
            self.listener.bind(self.path)
            self.listener.listen(_BACKLOG)
            self.listener.setblocking(False)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Give the socket back. May be repeated."""
        self.listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Counting(Child):
    """The counting process: started when somebody connects, it may end by itself when nobody does
    any more. `path` is the socket that workers connect to.
    """

    def __init__(self, say: Say, command: Sequence[str] = COUNTING_COMMAND) -> None:
        """Raises OSError if there is no place for a socket."""
        super().__init__("The counting process", say)
        self._command = command
        self._short_lives = 0  # in a row
        self._way = _Way("counting")
        self.path = self._way.path
        self._listener = self._way.listener

    def close(self) -> None:
        """Give the socket back. May be repeated."""
        self._way.close()

    def _ask_to_end(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    async def _live(self) -> str:
        """All lives that end well, and one that does not."""
        self.ready.set()  # whoever connects is served, after a moment
        while True:
            await self._called()
            if self._ending.is_set():
                return "was not needed"
            listen_fd = self._listener.fileno()
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *("--listen-fd", str(listen_fd)),
                pass_fds=(listen_fd,),
                stdin=PIPE,  # open until we die, which is how it learns of that
                start_new_session=True,
            )
            self._adopt(process)
            if self._ending.is_set():  # while it was being started
                self._ask_to_end()
            born_s = asyncio.get_running_loop().time()
            end = await self._end_of(process)
            self._process = None
            if process.returncode == 0:
                self._short_lives = 0
            else:
                self._mourn(asyncio.get_running_loop().time() - born_s)
                return end

    async def _called(self) -> None:
        """Wait until somebody connects, or until it is to end."""
        loop, fd = asyncio.get_running_loop(), self._listener.fileno()
        called = asyncio.Event()
        loop.add_reader(fd, called.set)
        waits = [asyncio.create_task(event.wait()) for event in (called, self._ending)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(fd)
            for wait in waits:
                wait.cancel()

    def _mourn(self, life_s: float) -> None:
        """Whoever waits gets the next process; after a second short life they estimate at once,
        for there may be no process to be had.
        """
        self._short_lives = 0 if life_s >= _LONG_LIFE_S else self._short_lives + 1
        if self._short_lives >= 2:
            with suppress(BlockingIOError):
                while True:
                    self._listener.accept()[0].close()


def order(settings: Mapping[str, Any], workers: int) -> bytes:
    """What the ledger process reads first. `settings`: as core.bus.plain_settings has them;
    `workers`: how many live, perhaps with calls in flight.
    """
    return json.dumps({"settings": settings, "workers": workers}).encode() + b"\n"


def _is_of_postgresql(order: bytes) -> bool:
    """Whether the store of an order is PostgreSQL, for which there is more to import."""
    return json.loads(order)["settings"]["database"].startswith("postgres")


class _Spare:
    """A ledger process more: it has imported what it needs, and waits for its first line. That is
    nearly all of what a new process takes. Without an order it does nothing, so it may be killed.
    """

    def __init__(self, start: Callable[[], Awaitable[Process]]) -> None:
        self._start = start
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._is_here = asyncio.Event()  # it has imported what it needs

    @property
    def lives(self) -> bool:
        """Whether there is one, as far as is known."""
        return self._process is not None and self._process.returncode is None

    def keep(self, after_s: float) -> None:
        """Have one from then on, and another when it dies, until it is taken or killed."""
        self._keeping = asyncio.create_task(self._keep(after_s))

    async def _keep(self, wait_s: float) -> None:
        loop, backoff = asyncio.get_running_loop(), replace(_SPARE_BACKOFF)
        while True:
            await asyncio.sleep(wait_s)
            born_s = loop.time()
            with suppress(OSError):  # no process to be had: perhaps later
                self._process = await self._start()
                assert self._process.stdout is not None
                if await self._process.stdout.readline() == _HERE:
                    self._is_here.set()
                await self._process.wait()
            self._is_here.clear()
            wait_s = backoff.after(loop.time() - born_s)

    async def take(self) -> Process | None:
        """The spare, which is not ours any more, or None. No other is kept until `keep`."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        process = self._process if self.lives else None
        self._keeping = self._process = None
        self._is_here.clear()
        return process

    async def renew(self, limit_s: float) -> bool:
        """Have another in its place, of the code as it is now; whether it was there in time."""
        await self.gone()
        self.keep(0)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_here.wait(), limit_s)
        return self._is_here.is_set()

    def kill(self) -> None:
        """End it at once; no other is kept."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._process is not None and self.lives:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def gone(self) -> None:
        """Kill it, and wait until there is none."""
        self.kill()
        process = await self.take()
        if process is not None:
            await process.wait()


class LedgerPlace(Child):
    """The ledger process, which always runs. `path` is the socket that workers connect to.

    A spare waits beside it and takes over when it dies. An order is made when it is given.
    """

    def __init__(
        self,
        order: Callable[[], bytes],
        on_death: Callable[[int], None],
        say: Say,
        *,
        env: Mapping[str, str],
        command: Sequence[str] = LEDGER_COMMAND,
        spare_after_s: tuple[float, float] = SPARE_AFTER_S,
    ) -> None:
        """`order()` is its first line, `on_death(pid)` is told of an end. A spare is started so
        long after it was ready for the first time, and after it was ready again. Raises OSError if
        there is no place for a socket.
        """
        super().__init__("The ledger process", say)
        self._order = order
        self._on_death = on_death
        self._env = env
        self._command = command
        self._backoff = replace(_LEDGER_BACKOFF)
        self._spare_after_s = spare_after_s
        self._spare = _Spare(self._start)
        self._renewing = False
        self._way = _Way("ledger")
        self.path = self._way.path

    def close(self) -> None:
        """Give the socket back. May be repeated."""
        self._way.close()

    async def run(self) -> None:
        """Live again and again, until stopped."""
        try:
            await super().run()
        finally:
            await self._spare.gone()

    def stop(self) -> None:
        """Ask it to end, and don't replace it."""
        super().stop()
        self._spare.kill()

    def kill(self) -> None:
        """End it at once, and don't replace it."""
        super().kill()
        self._spare.kill()

    async def renew(self, limit_s: float = RENEWAL_LIMIT_S) -> bool:
        """Have another process in its place, of the code and the order as they are now; whether it
        serves within the limit. If none is there to take over, the old one goes on.

        That one is killed, as it may be at any moment: it has no end that is safer for calls in
        flight, which the next one is told of by the workers.
        """
        former = self._process
        if not await self._spare.renew(limit_s) or former is None or self._ending.is_set():
            return False
        if self._process is former:  # else it has died meanwhile, and was replaced for that
            self._renewing = True
            self.ready.clear()
            self._end(former)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ready.wait(), limit_s)
        return self.ready.is_set()

    def _after(self, life_s: float) -> tuple[float, str]:
        if self._renewing:
            self._renewing = False
            return 0.0, ""
        if self._spare.lives:
            return 0.0, "Its spare takes over."
        return super()._after(life_s)

    def _ask_to_end(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    async def _live(self) -> str:
        spare = await self._spare.take()
        order = self._order()  # of now: workers that start while it starts have nothing in flight
        process = spare or await self._start()
        self._adopt(process)
        if self._ending.is_set():  # while it was being started
            self._ask_to_end()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order)
        while (said := await process.stdout.readline()) not in (_READY, b""):
            pass
        if said:
            self.ready.set()
            if not self._ending.is_set():
                first_s, again_s = self._spare_after_s
                self._spare.keep(again_s if self.died.is_set() else first_s)
        end = await self._end_of(process)
        self._on_death(process.pid)
        return end

    async def _start(self) -> Process:
        listen_fd = self._way.listener.fileno()
        return await asyncio.create_subprocess_exec(
            *self._command,
            *("--listen-fd", str(listen_fd)),
            *(["--postgresql"] if _is_of_postgresql(self._order()) else []),
            pass_fds=(listen_fd,),
            env=self._env,
            stdin=PIPE,  # open until we die, which is how it learns of that
            stdout=PIPE,
            start_new_session=True,
        )

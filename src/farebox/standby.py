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
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from farebox.children import Backoff, Child, Say
from farebox.core.bus import plain_settings
from farebox.core.settings import Settings

LEDGER_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "farebox.ledger_process")
COUNTING_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "farebox.counting.process")
_BACKLOG = 64  # a connection a worker
_LONG_LIFE_S = 30.0
_LEDGER_BACKOFF = Backoff(most_s=0.5, long_life_s=5.0)  # calls wait for it, but for seconds only


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


def order(settings: Settings, workers: int) -> bytes:
    """What the ledger process reads first. `workers`: how many live, perhaps with calls in
    flight.
    """
    return json.dumps({"settings": plain_settings(settings), "workers": workers}).encode() + b"\n"


class LedgerPlace(Child):
    """The ledger process, which always runs. `path` is the socket that workers connect to."""

    def __init__(
        self,
        order: Callable[[], bytes],
        on_death: Callable[[int], None],
        say: Say,
        *,
        env: Mapping[str, str],
        command: Sequence[str] = LEDGER_COMMAND,
    ) -> None:
        """`order()` is its first line, `on_death(pid)` is told of an end. Raises OSError if there
        is no place for a socket.
        """
        super().__init__("The ledger process", say)
        self._order = order
        self._on_death = on_death
        self._env = env
        self._command = command
        self._backoff = replace(_LEDGER_BACKOFF)
        self._way = _Way("ledger")
        self.path = self._way.path

    def close(self) -> None:
        """Give the socket back. May be repeated."""
        self._way.close()

    def _ask_to_end(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    async def _live(self) -> str:
        order, listen_fd = self._order(), self._way.listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *("--listen-fd", str(listen_fd)),
            pass_fds=(listen_fd,),
            env=self._env,
            stdin=PIPE,  # open until we die, which is how it learns of that
            stdout=PIPE,
            start_new_session=True,
        )
        self._adopt(process)
        if self._ending.is_set():  # while it was being started
            self._ask_to_end()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order)
        if await process.stdout.readline():
            self.ready.set()
        end = await self._end_of(process)
        self._on_death(process.pid)
        return end

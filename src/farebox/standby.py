"""The counting process's place: the process is started when somebody connects, and may end by
itself when nobody does any more.

Its socket is made here and stays for as long as the supervisor lives. What it does is counting/'s.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from farebox.children import Child, Say

COUNTING_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "farebox.counting.process")
_BACKLOG = 64  # a connection a worker
_LONG_LIFE_S = 30.0


class Counting(Child):
    """The counting process. `path` is the socket that workers connect to."""

    def __init__(self, say: Say, command: Sequence[str] = COUNTING_COMMAND) -> None:
        """Raises OSError if there is no place for a socket."""
        super().__init__("The counting process", say)
        self._command = command
        self._short_lives = 0  # in a row
        # Private, and short: a socket's path may have about a hundred bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="farebox-"))
        self.path = str(self._folder / "counting")
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(self.path)
            self._listener.listen(_BACKLOG)
            self._listener.setblocking(False)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Give the socket back. May be repeated."""
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

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

"""A child process and its place: started, found ready, replaced when it dies, stopped.

A worker and the embedded model are the two kinds. Which of them there are, and when they stop, is
supervisor.py's and crew.py's business.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from farebox.core.bus import Bus, BusError, Changed, Drain, LocalEndpoint, Ready, Start

START_LIMIT_S = 30.0  # a worker's first load of keys and catalogue
EXIT_LIMIT_S = 10.0  # from the end of a worker's drain, or bus, to its own: its charges are written
GRACE_S = 2.0  # for the model, which has nothing to write

# -P: a folder called farebox where `serve` was typed must not be taken for ours.
LAUNCH: Sequence[str] = (sys.executable, "-P", "-m", "farebox.launch")
WORKER_COMMAND: Sequence[str] = (*LAUNCH, "farebox.app")
MODEL_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "farebox.local.server")

# Memory that bodies of some 100 KB each had is kept for the next ones. glibc by itself gives much
# of it back after each call, and to get it again costs as much as to parse them. See mallopt(3).
WORKER_MEMORY: Mapping[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(32 * 1024 * 1024),
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Health:
    """How often the model is asked for its health, and when it has none."""

    load_limit_s: float = 60.0  # to load takes a second or two on an idle machine
    while_loading_s: float = 0.1
    every_s: float = 5.0
    answer_limit_s: float = 10.0
    failures: int = 3  # in a row; one alone may be a busy machine


@dataclass
class Backoff:
    """How long a place stays empty: doubling from 0.1 s to 5 s, anew after a life of 30 s."""

    first_s: float = 0.1
    most_s: float = 5.0
    long_life_s: float = 30.0
    _next_s: float = 0.0

    def after(self, life_s: float) -> float:
        """Seconds to wait, given how long the child that died had lived."""
        if life_s >= self.long_life_s or not self._next_s:
            self._next_s = self.first_s
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self.most_s)
        return wait_s


class Child(ABC):
    """One place that a process fills. `run` keeps it filled until `stop` or `kill`."""

    def __init__(self, name: str, say: Say) -> None:
        self.name = name
        self.ready = asyncio.Event()  # as of now: cleared when the process dies
        self.died = asyncio.Event()  # at least once; `last_end` says how
        self.last_end = ""
        self._say = say
        self._ending = asyncio.Event()
        self._killed = False
        self._process: Process | None = None
        self._backoff = Backoff()
        self._exit_code = 0

    @property
    def failed(self) -> bool:
        """Whether its last process ended by itself, and not well."""
        return bool(self._exit_code) and not self._killed

    @property
    def lives(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None

    @abstractmethod
    async def _live(self) -> str:
        """Start the process, see it through, say how it ended. Raises OSError if it cannot."""

    @abstractmethod
    def _ask_to_end(self) -> None:
        """Tell the process that lives, if one does, to end."""

    async def run(self) -> None:
        """Live again and again, until stopped."""
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            born_s = loop.time()
            try:
                self.last_end = await self._live()
            except OSError as error:
                self.last_end = f"could not be started: {error}"
            self._process = None
            # Who waits for the first life to be ready tells of its end, and decides what follows.
            told = not self.ready.is_set() and not self.died.is_set()
            self.ready.clear()
            self.died.set()
            if self._ending.is_set():
                return
            wait_s, what_follows = self._after(loop.time() - born_s)
            if not told and what_follows:
                self._say(f"{self.name} {self.last_end}. {what_follows}\n")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), wait_s)

    def _after(self, life_s: float) -> tuple[float, str]:
        """What follows a life of so many seconds: how long until the next, and a sentence of it;
        without one, nothing need be said of its end.
        """
        wait_s = self._backoff.after(life_s)
        return wait_s, f"Starting it again in {wait_s:g} s."

    async def first_ready(self) -> str | None:
        """Wait until it is ready or has died; None, or how it died."""
        waits = [asyncio.create_task(event.wait()) for event in (self.ready, self.died)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return None if self.ready.is_set() else self.last_end

    def stop(self) -> None:
        """Ask it to end, and don't replace it."""
        self._ending.set()
        self._ask_to_end()

    def kill(self) -> None:
        """End it at once, and don't replace it."""
        self._killed = True
        self._ending.set()
        if self._process is not None:
            self._end(self._process)

    def _adopt(self, process: Process) -> None:
        self._process = process
        if self._killed:  # while it was being started
            self._end(process)

    @staticmethod
    def _end(process: Process) -> None:
        with suppress(ProcessLookupError):
            process.kill()

    async def _end_of(self, process: Process) -> str:
        code = self._exit_code = await process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        return f"was ended by {signal.Signals(-code).name}"


class Worker(Child):
    """A process that serves one listening socket and is told of changes over its bus."""

    def __init__(
        self,
        *,
        slot: int,
        listener: socket.socket,
        command: Sequence[str],
        env: Mapping[str, str],
        hello: Callable[[int, str], Start],
        on_death: Callable[[str, int], None],
        say: Say,
    ) -> None:
        """`hello(slot, owner)` is the first message, `on_death(owner, pid)` is told of an end."""
        super().__init__(f"Worker {slot}", say)
        self.slot = slot
        self._listen_fd = listener.fileno()
        self._command = command
        self._env = env
        self._hello = hello
        self._on_death = on_death
        self._bus: Bus | None = None
        self._drain: Drain | None = None

    def tell(self, message: Changed) -> None:
        """Pass it on to the process that lives; one that starts later loads what is then."""
        if self._bus is not None:
            self._bus.send(message)

    def drain(self, timeout_s: float, *, hand_over: bool = False) -> None:
        """Ask it to end what is in flight within the limit and then to exit; don't replace it.
        May be repeated; the last counts. `hand_over`: see core.bus.Drain.
        """
        self._drain = Drain(timeout_s, hand_over)
        self.stop()

    def _ask_to_end(self) -> None:
        if self._bus is not None and self._drain is not None:
            self._bus.send(self._drain)

    async def _live(self) -> str:
        owner = f"w{self.slot}-{secrets.token_hex(8)}"
        ours, theirs = socket.socketpair()
        try:
            process = await self._spawn(theirs.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._adopt(process)
        async with await Bus.connect(ours) as self._bus:
            self._bus.send(self._hello(self.slot, owner))
            self._ask_to_end()  # if that was asked while it was being started
            await self._attend(process, self._bus)
        self._bus = None
        end = await self._end_of(process)
        self._on_death(owner, process.pid)
        return end

    async def _spawn(self, bus_fd: int) -> Process:
        ends = ["--bus-fd", str(bus_fd), "--listen-fd", str(self._listen_fd)]
        # A session of its own: Ctrl-C in a terminal is for the supervisor, which then drains.
        return await asyncio.create_subprocess_exec(
            *self._command,
            *ends,
            pass_fds=(bus_fd, self._listen_fd),
            env={**WORKER_MEMORY, **self._env},
            stdin=DEVNULL,
            start_new_session=True,
        )

    async def _attend(self, process: Process, bus: Bus) -> None:
        """Read its messages until its end; a process that breaks the rules is killed."""
        try:
            async with asyncio.timeout(START_LIMIT_S) as limit:
                while (message := await bus.receive()) is not None:
                    if isinstance(message, Ready):
                        limit.reschedule(None)
                        self.ready.set()
                # Without its bus it hears of no change any more, so it must be about to end.
                limit.reschedule(asyncio.get_running_loop().time() + EXIT_LIMIT_S)
                await process.wait()
        except TimeoutError:
            what = "closed its bus and went on" if self.ready.is_set() else "was not ready in time"
            self._say(f"{self.name} {what}.\n")
            self._end(process)
        except BusError as error:
            self._say(f"{self.name}: {error}\n")
            self._end(process)


class Model(Child):
    """The embedded model's process. Its port and its key stay the same for every life."""

    def __init__(
        self,
        log: Path,
        say: Say,
        command: Sequence[str] = MODEL_COMMAND,
        health: Health = Health(),
    ) -> None:
        super().__init__("The local model", say)
        self._command = command
        self._health = health
        # Bound, not listening: nobody else is given this port while the model is being replaced.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self._port: int = self._reserved.getsockname()[1]
        self.endpoint = LocalEndpoint(
            f"http://127.0.0.1:{self._port}/v1", secrets.token_urlsafe(32)
        )
        # Emptied here and not at each life, so that it tells what the last one died of.
        self._log = log
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))

    def close(self) -> None:
        """Give the port back."""
        self._reserved.close()

    def _ask_to_end(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    async def _live(self) -> str:
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=log, stderr=log, start_new_session=True
            )
        finally:
            os.close(log)
        self._adopt(process)
        if self._ending.is_set():  # while it was being started
            self._ask_to_end()
        assert process.stdin is not None
        # Its standard input stays open: that it ends is how the model learns of our death.
        wanted = {"port": self._port, "api_key": self.endpoint.api_key}
        process.stdin.write(json.dumps(wanted).encode() + b"\n")
        ended = asyncio.create_task(self._end_of(process))
        await self._watch(process, ended)
        return await ended

    async def _watch(self, process: Process, ended: asyncio.Task[str]) -> None:
        """Ask for its health until it ends; one that does not load or answer is killed."""
        loop, health = asyncio.get_running_loop(), self._health
        load_until_s = loop.time() + health.load_limit_s
        failures = 0
        while not ended.done():
            if await _is_healthy(self._port, health.answer_limit_s):
                failures = 0
                self.ready.set()
            else:
                failures += 1
            if self.ready.is_set() and failures >= health.failures:
                self._say("The local model does not answer.\n")
                self._end(process)
            elif not self.ready.is_set() and loop.time() > load_until_s:
                self._say(f"The local model did not load in {health.load_limit_s:g} s.\n")
                self._end(process)
            pause_s = health.every_s if self.ready.is_set() else health.while_loading_s
            await asyncio.wait({ended}, timeout=pause_s)


async def _is_healthy(port: int, limit_s: float) -> bool:
    """Whether GET /health of llama.cpp's server says 200; it says 503 while the model loads."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            return b" 200 " in await reader.readline()
    except (OSError, ValueError):  # TimeoutError is an OSError; ValueError: an endless line
        return False
    finally:
        if writer is not None:
            writer.close()

"""The counting process: loads vocabularies when they are asked for, and counts in threads.

`python -m farebox.counting.process --listen-fd N` serves the Unix socket that it inherits, and ends
when nobody has asked for some minutes, so that its memory goes back, or when its standard input
ends, which is when its parent has died. The parent keeps the socket: who connects after that waits
there until the process is started again. What is said on a connection is wire.py's business.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from farebox.core import clock
from farebox.counting import vocabularies, wire
from farebox.counting.vocabularies import Codec, TooLong, VocabularyError

IDLE_S = 300.0
_NICENESS = 5  # the gateway's own work goes first
_THREADS = 4
_LARGE_BYTES = 256 * 1024  # such requests wait for each other, so that small ones need not
_MOST_WAITING_BYTES = 8 * wire.MAX_TEXT_BYTES  # what waits is in memory; more is answered null


class Codecs:
    """Vocabularies by name, each loaded once, when it is first wanted. Safe to share by threads."""

    def __init__(self) -> None:
        self._loaded: dict[str, Codec | None] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Codec | None:
        """The vocabulary, or None if it cannot be used; why is said once on standard error."""
        with self._lock:
            if name not in self._loaded:
                try:
                    self._loaded[name] = vocabularies.load(name)
                except (VocabularyError, LookupError, ImportError) as error:
                    self._loaded[name] = None
                    sys.stderr.write(f"Tokens are estimated: {error}\n")
            return self._loaded[name]


class Server:
    """What serves the workers' connections. Made inside the loop."""

    def __init__(self, codecs: Codecs) -> None:
        self._codecs = codecs
        self._pool = ThreadPoolExecutor(_THREADS, "counting")
        self._large = asyncio.Semaphore(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_bytes = 0
        self.asked_s = clock.monotonic_s()  # when somebody last did, or got an answer

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._tasks)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One worker's connection, until it ends or breaks the rules."""
        try:
            while True:
                size_bytes, number = wire.read_head(await reader.readexactly(wire.HEAD_BYTES))
                payload = await reader.readexactly(size_bytes)
                task = asyncio.create_task(self._answer(number, payload, writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (OSError, EOFError, wire.WireError):
            pass
        finally:
            writer.close()

    async def _answer(self, number: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        self.asked_s = clock.monotonic_s()
        tokens = None
        if self._waiting_bytes + len(payload) <= _MOST_WAITING_BYTES:
            self._waiting_bytes += len(payload)
            try:
                tokens = await self._count(payload, until_s=self.asked_s + wire.ANSWER_LIMIT_S)
            finally:
                self._waiting_bytes -= len(payload)
        self.asked_s = clock.monotonic_s()
        writer.write(wire.frame(number, wire.answer(tokens)))

    async def _count(self, payload: bytes, *, until_s: float) -> int | None:
        work = partial(_count, self._codecs, payload, lambda: clock.monotonic_s() < until_s)
        loop = asyncio.get_running_loop()
        if len(payload) < _LARGE_BYTES:
            return await loop.run_in_executor(self._pool, work)
        async with self._large:
            return await loop.run_in_executor(self._pool, work)


def _count(codecs: Codecs, payload: bytes, has_time: Callable[[], bool]) -> int | None:
    if not has_time():
        return None  # nobody waits for it any more
    try:
        name, texts = wire.unpack(payload)
        codec = codecs.get(name)
        return None if codec is None else vocabularies.count(codec, texts, has_time)
    except (TooLong, wire.WireError):
        return None
    except BaseException as error:  # noqa: BLE001 (a panic in Rust is no Exception)
        sys.stderr.write(f"A text could not be counted: {type(error).__name__}\n")
        return None


async def serve(listener: socket.socket, idle_s: float, parent_fd: int) -> None:
    """Serve until nobody has asked for that long, or the parent has died."""
    server = Server(Codecs())
    orphaned = asyncio.Event()
    asyncio.get_running_loop().add_reader(parent_fd, _note_end, parent_fd, orphaned)
    async with await asyncio.start_server(server.converse, sock=listener):
        while not orphaned.is_set():
            left_s = server.asked_s + idle_s - clock.monotonic_s()
            if left_s <= 0 and not server.busy:
                return
            try:
                await asyncio.wait_for(orphaned.wait(), max(left_s, 0.05))
            except TimeoutError:
                continue


def _note_end(fd: int, ended: asyncio.Event) -> None:
    if not os.read(fd, 4096):
        asyncio.get_running_loop().remove_reader(fd)
        ended.set()


def main() -> None:
    """The process, from its first connection to its end."""
    parser = argparse.ArgumentParser(prog="python -m farebox.counting.process", description=__doc__)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--idle-s", type=float, default=IDLE_S)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a thread a text is enough
    os.nice(_NICENESS)
    listener = socket.socket(fileno=options.listen_fd)
    asyncio.run(_live(listener, options.idle_s))


async def _live(listener: socket.socket, idle_s: float) -> None:
    await serve(listener, idle_s, sys.stdin.fileno())
    # A thread that counts for nobody would be waited for.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

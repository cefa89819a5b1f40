"""A worker's way to the counting process: one connection, many questions at a time.

Whatever goes wrong there is no error here: the answer is then None, and the caller estimates.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

import structlog

from farebox.counting import wire

_log = structlog.get_logger(__name__)


class Counter(Protocol):
    """Counts texts. The server's tests have one that counts in a thread."""

    async def count(self, payload: bytes) -> int | None:
        """The tokens of what wire.pack made; None if they cannot be had in time."""
        ...


class ProcessCounter:
    """Asks the process that listens at `path`. It is started when the first connection waits."""

    def __init__(self, path: str | None, limit_s: float = wire.ANSWER_LIMIT_S) -> None:
        """`path` None: there is no such process, so nothing is ever counted."""
        self._path = path
        self._limit_s = limit_s
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def count(self, payload: bytes) -> int | None:
        """The tokens of what wire.pack made."""
        if self._path is None:
            return None
        try:
            async with asyncio.timeout(self._limit_s):
                connection = await self._connected(self._path)
                return await connection.ask(payload)
        except OSError as error:  # TimeoutError is one
            _log.warning("tokens_not_counted", reason=str(error) or "no answer in time")
            return None

    async def _connected(self, path: str) -> _Connection:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = _Connection(*await asyncio.open_unix_connection(path))
            return self._connection

    async def aclose(self) -> None:
        """Close the connection; questions that wait get None."""
        if self._connection is not None:
            await self._connection.aclose()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._writing = asyncio.Lock()  # so that one who is in a hurry buffers one frame at most
        self._waiting: dict[int, asyncio.Future[int | None]] = {}
        self._number = 0
        self.closed = False
        self._listening = asyncio.create_task(self._listen())

    async def ask(self, payload: bytes) -> int | None:
        """The answer. Raises ConnectionError if the process goes away before it."""
        self._number += 1
        number = self._number
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with self._writing:
                self._writer.write(wire.frame(number, payload))
                await self._writer.drain()
            return await answer
        finally:
            self._waiting.pop(number, None)

    async def _listen(self) -> None:
        try:
            while True:
                size_bytes, number = wire.read_head(await self._reader.readexactly(wire.HEAD_BYTES))
                tokens = wire.read_answer(await self._reader.readexactly(size_bytes))
                answer = self._waiting.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(tokens)
        except (OSError, EOFError, wire.WireError):
            pass
        finally:
            self.closed = True
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the counting process has gone"))

    async def aclose(self) -> None:
        self._listening.cancel()
        await asyncio.wait({self._listening})
        with suppress(OSError):
            await self._writer.wait_closed()

"""A ledger process for tests of the worker's side: it says what the test tells it to."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from farebox.billing import messages as m
from farebox.ledger import wire


class Connection:
    """One of the worker's connections."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._bytes = reader
        self._writer = writer
        self._reader = wire.request_reader()
        self._read: list[m.Request] = []

    async def hears(self, count: int = 1) -> list[m.Request]:
        """The next so many messages."""
        async with asyncio.timeout(10):
            while len(self._read) < count:
                data = await self._bytes.read(65536)
                assert data, f"hung up after {self._read}"
                self._read += self._reader.feed(data)
        heard, self._read = self._read[:count], self._read[count:]
        return heard

    async def is_hung_up(self) -> bool:
        """Wait until the worker hangs up; whether it said nothing more."""
        async with asyncio.timeout(10):
            return await self._bytes.read(65536) == b"" and not self._read

    def says(self, *answers: m.Answer) -> None:
        self._writer.write(wire.frames(answers))

    def writes(self, data: bytes) -> None:
        self._writer.write(data)

    def hangs_up(self) -> None:
        self._writer.close()


class Ledgers:
    """The socket of ledger processes. Each connection is taken from `comes`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._came: asyncio.Queue[Connection] = asyncio.Queue()
        self._all: list[Connection] = []

    async def comes(self) -> Connection:
        """The next connection."""
        async with asyncio.timeout(10):
            return await self._came.get()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self._all.append(connection)
        self._came.put_nowait(connection)

    def close(self) -> None:
        for connection in self._all:
            connection.hangs_up()


@asynccontextmanager
async def ledgers() -> AsyncIterator[Ledgers]:
    """Somewhere to connect to."""
    with tempfile.TemporaryDirectory(prefix="farebox-") as folder:
        place = Ledgers(str(Path(folder) / "ledger"))
        server = await asyncio.start_unix_server(place.accept, place.path)
        try:
            yield place
        finally:
            place.close()
            server.close()
            await server.wait_closed()

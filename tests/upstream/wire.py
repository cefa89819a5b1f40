"""The wire between the client and a real server: counts connections, and fails where a test says.

It passes bytes on with back-pressure, so that neither side can tell it from a slow network.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from tests.upstream.certificates import server_tls
from tests.upstream.raw_server import LINGER_ZERO

_STEP_BYTES = 64 * 1024


class Wire:
    """What came over it, and what shall happen to it."""

    def __init__(self, to_port: int, *, is_tls: bool = False) -> None:
        self.to_port = to_port
        self.is_tls = is_tls  # towards the client
        self.port = 0
        self.accepted = 0
        self.to_server_bytes = 0  # over all connections
        self.to_client_bytes = 0
        self.cut_after: int | None = None  # bytes to the client, of all; then `goodbye`
        self.cut_requests_from: int | None = None  # bytes to the server, of all; then `goodbye`
        self.cuts = 1  # how often that happens
        self.stall_after: int | None = None  # bytes to the client, of all; then silence
        self.goodbye: Callable[[asyncio.StreamWriter], None] = hang_up
        self.may_pass_up = asyncio.Event()  # cleared: nothing is taken from the client
        self.may_pass_up.set()
        self._open: set[asyncio.StreamWriter] = set()  # towards the client
        self._tasks: set[asyncio.Task[None]] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._is_over = False

    @property
    def base(self) -> str:
        return f"https://localhost:{self.port}" if self.is_tls else f"http://127.0.0.1:{self.port}"

    def cut_all(self) -> None:
        """Say goodbye on every connection now."""
        for writer in list(self._open):
            self.goodbye(writer)

    async def wait_until_closed(self) -> None:
        """Wait until no connection is open."""
        async with asyncio.timeout(10):
            while self._open:
                await asyncio.sleep(0.005)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self.accepted += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        pumps = {
            asyncio.create_task(self._pass_up(reader, far_writer, writer)),
            asyncio.create_task(self._pass_down(far_reader, writer)),
        }
        self._pumps |= pumps
        if self._is_over:
            self._end_pumps()
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._pumps -= pumps
        far_writer.close()
        writer.close()
        self._open.discard(writer)
        self._tasks.discard(task)

    async def _pass_up(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        await self.may_pass_up.wait()
        while data := await source.read(_STEP_BYTES):
            self.to_server_bytes += len(data)
            limit = self.cut_requests_from
            if limit is not None and self.to_server_bytes > limit and self.cuts > 0:
                self.cuts -= 1
                self.goodbye(back)
                return
            sink.write(data)
            await sink.drain()
            await self.may_pass_up.wait()

    async def _pass_down(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_STEP_BYTES):
            stall = self.stall_after
            if stall is not None and self.to_client_bytes + len(data) > stall:
                sink.write(data[: max(0, stall - self.to_client_bytes)])
                await asyncio.Event().wait()
            limit = self.cut_after
            if limit is not None and self.to_client_bytes + len(data) > limit and self.cuts > 0:
                self.cuts -= 1
                sink.write(data[: max(0, limit - self.to_client_bytes)])
                await sink.drain()
                await asyncio.sleep(0.02)  # a reset would overtake what was just written
                self.goodbye(sink)
                return
            self.to_client_bytes += len(data)
            sink.write(data)
            await sink.drain()

    async def aclose(self) -> None:
        """End every connection."""
        self._is_over = True
        self._end_pumps()
        await asyncio.gather(*self._tasks)

    def _end_pumps(self) -> None:
        for pump in self._pumps:
            pump.cancel()


def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close properly."""
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close as a machine does that went down meanwhile."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def wire_to(port: int, *, is_tls: bool = False) -> AsyncIterator[Wire]:
    """A wire to the server on this port, until the block ends."""
    wire = Wire(port, is_tls=is_tls)
    tls = server_tls("localhost") if is_tls else None
    listener = await asyncio.start_server(wire.serve, "127.0.0.1", 0, ssl=tls)
    wire.port = listener.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        listener.close()
        await wire.aclose()

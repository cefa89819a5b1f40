"""A server on loopback that does to the bytes whatever a test says, connection by connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

LINGER_ZERO = struct.pack("ii", 1, 0)  # closing sends a reset instead of a goodbye

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came."""

    line: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def get(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class Peer:
    """One connection, as the server sees it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: RawServer
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.server = server
        self.number = server.accepted

    async def head(self) -> list[bytes]:
        """The lines of a request's head. Raises IncompleteReadError when the client hangs up."""
        return (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")

    async def request(self) -> Received:
        """A whole request."""
        line, *rest = await self.head()
        headers = tuple((name, value) for name, _, value in (h.partition(b": ") for h in rest))
        body = await self.reader.readexactly(int(dict(headers).get(b"content-length", b"0")))
        received = Received(line, headers, body)
        self.server.requests.append(received)
        return received

    async def send(self, data: bytes) -> None:
        self._check_open()
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, data: bytes = OK) -> Received:
        """Read a request and say this."""
        received = await self.request()
        await self.send(data)
        return received

    async def keep_answering(self, data: bytes = OK) -> None:
        while True:
            await self.answer(data)

    def half_close(self) -> None:
        self._check_open()
        self.writer.write_eof()

    def reset(self) -> None:
        self._check_open()
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self.writer.transport.abort()

    def _check_open(self) -> None:
        # asyncio says so by itself; uvloop has a RuntimeError for a client that has gone.
        if self.writer.is_closing():
            raise ConnectionResetError("the client has gone")

    async def hung_up(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script = Callable[[Peer], Awaitable[None]]


class RawServer:
    """Runs a script for each connection, and closes it when the script ends."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Received] = []
        self.accepted = 0
        self.open = 0
        self.scheme = "http"
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def url(self, path: str = "/v1/chat/completions", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def wait_until_open(self, count: int) -> None:
        """Wait until this many connections are open."""
        async with asyncio.timeout(20):
            while self.open != count:
                await asyncio.sleep(0.002)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.accepted += 1
        self.open += 1
        try:
            await self.script(Peer(reader, writer, self))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up, as many tests want it to
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self.open -= 1
            self.tasks.discard(task)
            writer.close()


@contextlib.asynccontextmanager
async def raw_server(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Serve the script on a free port until the block ends."""
    server = RawServer(script)
    listener = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    server.scheme = "https" if tls else "http"
    try:
        yield server
    finally:
        listener.close()
        tasks = list(server.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

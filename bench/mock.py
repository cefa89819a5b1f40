"""The upstream of a measurement: a process that answers as wire.Script says, and costs little.

Run as `python -m bench.mock`; it prints its port and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import cache
from typing import ClassVar, cast

import httptools
import uvloop

from bench import wire

_CLOSING = wire.CLOSING.encode()
_SLAB_EVENTS = 50  # written at a time at full rate; some 16 KB


@cache
def _json_answer(path: bytes) -> bytes | None:
    script = wire.Script.of_path(path.decode())
    return None if script.chunks else wire.json_answer(script)


@cache
def _stream(path: bytes) -> tuple[wire.Script, wire.Events, bytes]:
    script = wire.Script.of_path(path.decode())
    events = wire.events(script)
    return script, events, events.middle * _SLAB_EVENTS


class Mock(asyncio.Protocol):
    """One connection. The next request is answered when the answer before it is complete."""

    closings: ClassVar[int] = 0  # of all paced streams, asked for by wire.CLOSING

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._left = 0  # events of the stream that is being written, without its last ones
        self._is_paused = False
        self._closings = 0  # how many there had been when the stream began

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._left = 0

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._left:
            self._write_slabs()

    def on_message_begin(self) -> None:
        self._path = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_message_complete(self) -> None:
        assert self._transport is not None
        if self._path == _CLOSING:
            Mock.closings += 1
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        answer = _json_answer(self._path)
        if answer is not None:
            self._transport.write(answer)
            return
        script, events, _ = _stream(self._path)
        self._left = script.chunks - wire.FIRST_EVENTS - wire.LAST_EVENTS
        self._transport.write(wire.STREAM_HEAD + events.first)
        self._closings = Mock.closings
        if script.every_ms:
            self._loop.call_later(script.every_ms / 1000, self._tick, script.every_ms / 1000)
        else:
            self._write_slabs()

    def _tick(self, every_s: float) -> None:
        if self._transport is None:
            return
        _, events, _ = _stream(self._path)
        if self._left <= 0 or self._closings != Mock.closings:
            self._transport.write(b"".join(events.last) + events.done)
            return
        self._left -= 1
        self._transport.write(events.middle)
        self._loop.call_later(every_s, self._tick, every_s)

    def _write_slabs(self) -> None:
        _, events, slab = _stream(self._path)
        while self._transport is not None and not self._is_paused:
            if self._left < _SLAB_EVENTS:
                rest = events.middle * self._left
                self._left = 0
                self._transport.write(rest + b"".join(events.last) + events.done)
                return
            self._left -= _SLAB_EVENTS
            self._transport.write(slab)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Mock, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    # Whoever started this holds the other end, so that nothing is left over however it ends.
    loop.add_reader(sys.stdin, lambda: os.read(0, 1) or ended.set())
    await ended.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(_main())

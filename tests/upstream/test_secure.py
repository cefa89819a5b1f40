"""TLS between a connection and its socket, against OpenSSL's other side in memory."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

import pytest

from farebox.upstream.connection import Connection
from farebox.upstream.secure import Secure
from farebox.upstream.tls import ClientContext
from tests.upstream.certificates import server_tls, trusting

pytestmark = pytest.mark.anyio
HOST = "localhost"


class Wire(asyncio.Transport):
    """A TCP transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = ""
        self.reads = True

    def write(self, data: Any) -> None:
        self.sent += data

    def abort(self) -> None:
        self.closed = "aborted"

    def close(self) -> None:
        self.closed = "closed"

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": "somebody"}.get(name, default)


class Heard(asyncio.Protocol):
    """A connection that keeps what it is told."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.parts: list[bytes] = []
        self.told: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)

    def eof_received(self) -> None:
        self.told.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(exc)

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


class Pair:
    """Both sides of one connection; bytes go from one to the other when a test says so."""

    def __init__(
        self,
        *names: str,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        shake: bool = True,
        client: ClientContext | None = None,
    ) -> None:
        context = server_tls(*(names or (HOST,)))
        context.maximum_version = version
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(self._in, self._out, server_side=True)
        self.wire, self.heard = Wire(), Heard()
        self.secure = Secure(client or trusting(), HOST, cast("Connection", self.heard))
        self.secure.connection_made(self.wire)
        for _ in range(3 if shake else 0):
            self.to_server()
            with suppress(ssl.SSLWantReadError):
                self.server.do_handshake()
            self.secure.data_received(self.from_server())

    def to_server(self) -> None:
        """What the client's side has sent."""
        self._in.write(self.wire.sent)
        self.wire.sent.clear()

    def from_server(self) -> bytes:
        """What the server's side has sent."""
        return self._out.read()

    def read(self) -> bytes:
        """All that the client's side has sent, as the server reads it."""
        self.to_server()
        parts: list[bytes] = []
        try:
            while True:
                parts.append(self.server.read())
        except ssl.SSLWantReadError:
            return b"".join(parts)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("step", [1, 7, 20_000, 1_000_000])
async def test_data_arrive_however_the_reads_cut_them(version, step):
    """In their order, all of a read at once, and none twice."""
    pair = Pair(version=version)
    assert await pair.secure.open() is cast("Connection", pair.heard)
    data = bytes(i % 251 for i in range(40_000))
    for part in (data[:300], data[300:600], data[600:]):
        pair.server.write(part)
    came = pair.from_server()
    for start in range(0, len(came), step):
        pair.secure.data_received(came[start : start + step])
    assert b"".join(pair.heard.parts) == data
    if step > len(came):
        assert pair.heard.parts == [data]


@pytest.mark.parametrize("sizes", [(1,), (16_384,), (16_385, 1), (300_000, 5, 70_000)])
async def test_what_is_sent_arrives_whole(sizes):
    """Also what takes many records."""
    pair = Pair()
    parts = [bytes([n]) * size for n, size in enumerate(sizes)]
    assert pair.heard.transport is pair.secure
    pair.secure.write(parts[0])
    pair.secure.writelines([memoryview(part) for part in parts[1:]])
    assert pair.read() == b"".join(parts)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("step", [1, 13, 700])
async def test_connections_of_one_context_take_turns_within_a_record(version, step):
    """What one of them was given half of is not another's, nor is what one of them sends."""
    client = trusting()
    pairs = [Pair(version=version, client=client) for _ in range(3)]
    datas = [bytes([n]) * (900 + n) for n in range(3)]
    came: list[bytes] = []
    for pair, data in zip(pairs, datas, strict=True):
        pair.server.write(data[:400])
        pair.server.write(data[400:])
        came.append(pair.from_server())
    for start in range(0, max(map(len, came)), step):
        for pair, data, each in zip(pairs, datas, came, strict=True):
            if part := each[start : start + step]:
                pair.secure.data_received(part)
            pair.secure.write(data[:3])
    for pair, data in zip(pairs, datas, strict=True):
        assert b"".join(pair.heard.parts) == data
        assert set(pair.read()) == {data[0]}


async def test_a_connection_that_fails_leaves_nothing_to_the_next():
    """Neither what it could not read, within a handshake or behind one, nor an alert."""
    client = trusting()
    good, bad = Pair(client=client), Pair(client=client)
    for broken in (bad, Pair(client=client, shake=False)):
        broken.secure.data_received(b"HTTP/1.1 200 OK\r\n\r\n" * 3)
        assert broken.wire.closed
        assert (client.incoming.pending, client.outgoing.pending) == (0, 0)
    gone = Pair(client=client)
    with pytest.raises(ssl.SSLWantReadError):
        gone.server.unwrap()
    gone.secure.data_received(gone.from_server() + b"more")
    assert gone.heard.told == ["eof"]
    good.server.write(b"hello")
    good.secure.data_received(good.from_server())
    good.secure.write(b"how are you?")
    assert (good.heard.parts, good.read()) == ([b"hello"], b"how are you?")


async def test_a_goodbye_is_an_end_behind_the_data_before_it():
    """And only once, whether TCP ends too."""
    pair = Pair()
    pair.server.write(b"hello")
    with pytest.raises(ssl.SSLWantReadError):
        pair.server.unwrap()
    pair.secure.data_received(pair.from_server())
    assert (pair.heard.parts, pair.heard.told) == ([b"hello"], ["eof"])


async def test_an_end_without_a_goodbye_is_an_end():
    """Some servers just close; what an answer's end is, HTTP says."""
    pair = Pair()
    pair.secure.eof_received()
    pair.secure.connection_lost(None)
    assert pair.heard.told == ["eof", None]


async def test_what_is_no_record_breaks_the_connection_off():
    """What came before it is handed on, and the reason is told when TCP is closed."""
    pair = Pair()
    pair.server.write(b"hello")
    pair.secure.data_received(pair.from_server() + b"HTTP/1.1 200 OK\r\n\r\n")
    assert (pair.heard.parts, pair.wire.closed) == ([b"hello"], "aborted")
    pair.wire.sent.clear()
    pair.secure.write(b"the next request")
    assert pair.wire.sent == b""
    pair.secure.connection_lost(None)
    assert [type(each) for each in pair.heard.told] == [ssl.SSLError]


async def test_a_wrong_name_is_told_to_both_sides():
    """The server gets an alert; no byte of a request has left, nor could."""
    pair = Pair("other.example", shake=False)
    for _ in range(2):
        pair.to_server()
        with pytest.raises(ssl.SSLWantReadError):
            pair.server.do_handshake()
        pair.secure.data_received(pair.from_server())
        if pair.wire.closed:
            break
    assert pair.wire.closed == "closed"
    with pytest.raises(ssl.SSLCertVerificationError):
        await pair.secure.open()
    pair.to_server()
    with pytest.raises(ssl.SSLError, match="alert"):
        pair.server.do_handshake()
    pair.secure.connection_lost(None)
    assert (pair.heard.transport, pair.heard.told) == (None, [])


async def test_a_connection_lost_within_the_handshake_is_an_error():
    """The connection has never heard of it."""
    pair = Pair(shake=False)
    pair.secure.eof_received()
    pair.secure.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await pair.secure.open()
    assert pair.heard.told == []


async def test_who_gives_up_within_the_handshake_leaves_nothing_open():
    """TCP is closed at once, and a handshake that ends all the same harms nobody."""
    pair = Pair(shake=False)
    opening = asyncio.ensure_future(pair.secure.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert pair.wire.closed == "aborted"
    pair.secure.connection_lost(None)


async def test_both_sides_can_be_held_back():
    """By TCP's means."""
    pair = Pair()
    pair.secure.pause_reading()
    assert not pair.wire.reads
    pair.secure.resume_reading()
    assert pair.wire.reads
    pair.secure.pause_writing()
    pair.secure.resume_writing()
    assert pair.heard.told == ["pause", "resume"]
    assert pair.secure.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert pair.secure.get_extra_info("peername") == "somebody"


class _Renegotiating:
    """OpenSSL while the server wants to shake hands anew: it takes no data before it has read."""

    shaken = False
    broken = False

    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    def do_handshake(self) -> None:
        pass

    def read(self, _size: int) -> bytes:
        self._incoming.read()
        raise ssl.SSLWantReadError

    def write(self, data: memoryview) -> int:
        if self.broken:
            raise ssl.SSLError
        if not self.shaken:
            raise ssl.SSLWantReadError
        return self._outgoing.write(data)


class _RenegotiatingContext:
    def __init__(self) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def wrap(self, _host: str) -> Any:
        self.tls = _Renegotiating(self.incoming, self.outgoing)
        return self.tls


async def test_what_cannot_be_sent_within_a_new_handshake_is_sent_after_it():
    """TLS 1.2 has such; nothing is lost, and the order is kept. Behind an error nothing is sent."""
    context, wire = _RenegotiatingContext(), Wire()
    secure = Secure(cast("ClientContext", context), HOST, cast("Connection", Heard()))
    secure.connection_made(wire)
    for part in (b"one ", b"two"):
        secure.write(part)
    assert wire.sent == b""
    context.tls.shaken = True
    secure.data_received(b"the server's part")
    assert wire.sent == b"one two"
    context.tls.broken = True
    for part in (b"three", b"four"):
        secure.write(part)
    assert (wire.sent, wire.closed) == (b"one two", "aborted")

"""Framing: what bytes on a connection mean, whole, split, broken, or too large."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.ports import UpstreamHead
from farebox.errors import UpstreamFailed
from farebox.upstream.connection import Connection
from tests.upstream.asking import PATIENCE_S, answer_to, ask, body_of, failure_of, head_of
from tests.upstream.raw_server import CHUNKED, OK, Peer, raw_server

HEAD = b"HTTP/1.1 200 OK\r\n"
KIB = 1024


class Sink(asyncio.Transport):
    """A transport that sends nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Ear:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.broken: str | None = None
        self.enough: list[Exception | None] = []

    def on_progress(self) -> None:
        pass

    def on_enough(self, error: Exception | None) -> None:
        self.enough.append(error)

    def on_broken(self, reason: str, cause: BaseException | None) -> None:
        self.broken = reason

    def on_alarm(self) -> None:
        pass


@contextmanager
def asked() -> Iterator[tuple[Connection, Ear]]:
    """A connection on which a request was sent, and who hears of the answer."""
    loop = asyncio.new_event_loop()
    try:
        connection, ear = Connection(loop, 64 * KIB), Ear()
        connection.connection_made(Sink())
        connection.send(ear, b"", b"")
        yield connection, ear
    finally:
        loop.close()


def hear(pieces: list[bytes]) -> tuple[UpstreamHead | None, bytes, bool, bool, str | None]:
    """What a connection makes of an answer that arrives in these pieces, and then the end."""
    with asked() as (connection, ear):
        body: list[bytes] = []
        for piece in pieces:
            connection.data_received(piece)
            if connection.has_unread:
                body.append(connection.take())
        reusable = connection.release()
        connection.eof_received()
        connection.connection_lost(None)
        return connection.head, b"".join(body), connection.complete, reusable, ear.broken


def split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


TOKEN = st.text("abcXYZ-1", min_size=1, max_size=8).map(lambda name: b"x-" + name.encode())
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(str.encode)
HEADERS = st.lists(st.tuples(TOKEN, VALUE), max_size=5)
PARTS = st.lists(st.binary(min_size=1, max_size=300), max_size=6)
FRAMING = st.sampled_from(["length", "chunked", "extended", "close"])
TURNS = st.lists(st.sampled_from([True, True, False, ValueError()]), min_size=1, max_size=4)


def render(status: int, headers: list[tuple[bytes, bytes]], parts: list[bytes], how: str) -> bytes:
    head = b"HTTP/1.1 %d Some Thing\r\n" % status
    head += b"".join(b"%b: %b\r\n" % pair for pair in headers)
    whole = b"".join(parts)
    if how == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(whole) + whole
    if how == "close":
        return head + b"\r\n" + whole
    extension = b';ext="a b";c' if how == "extended" else b""
    trailer = b"X-Trailer: t\r\n" if how == "extended" else b""
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailer + b"\r\n"


@given(
    status=st.sampled_from([200, 201, 301, 400, 429, 500, 529]),
    headers=HEADERS,
    parts=PARTS,
    how=FRAMING,
    cuts=st.lists(st.integers(min_value=1), max_size=20),
)
def test_any_split_of_an_answer_gives_the_same_head_and_body(status, headers, parts, how, cuts):
    """Where the network cuts the bytes means nothing."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" if status == 201 else b""
    data = interim + render(status, headers, parts, how)
    head, body, complete, reusable, broken = hear(split_at(data, cuts))
    assert head is not None
    assert head.status == status
    told = {name.lower(): value for name, value in headers}
    assert list(head.headers.items())[: len(told)] == list(told.items())
    assert b"x-trailer" not in head.headers
    assert (body, complete, broken) == (b"".join(parts), True, None)
    assert reusable == (how != "close")


@given(parts=PARTS, how=FRAMING, cuts=st.lists(st.integers(min_value=1), max_size=20), turns=TURNS)
def test_a_sink_is_given_what_comes_until_it_has_enough(parts, how, cuts, turns):
    """What comes then, and with the end, is left to be taken; in all it is the body, in order."""
    with asked() as (connection, ear):
        body: list[bytes] = []
        said: list[bool | Exception] = []

        def sink(data: bytes) -> bool:
            body.append(data)
            said.append(turns[len(said) % len(turns)])
            if isinstance(said[-1], Exception):
                raise said[-1]
            return said[-1]

        for piece in split_at(render(200, [], parts, how), cuts):
            if connection.sink is None:
                body.append(connection.take())
                connection.sink = sink
            before = len(said)
            connection.data_received(piece)
            assert (connection.sink is sink) == (said[before:] in ([], [True]))
        body.append(connection.take())
        assert b"".join(body) == b"".join(parts)
        assert ear.enough == [None if each is False else each for each in said if each is not True]
        connection.drop()
        assert connection.sink is None


@given(parts=PARTS, how=FRAMING.filter(lambda how: how != "close"), keep=st.integers(min_value=0))
def test_an_answer_that_stops_early_is_never_taken_for_whole(parts, how, keep):
    """However much of it came."""
    data = render(200, [], parts, how)
    data = data[: keep % len(data)]
    head, body, complete, reusable, broken = hear([data] if data else [])
    assert b"".join(parts).startswith(body)
    assert (complete, reusable) == (False, False)
    assert broken == ("truncated" if head else "closed")


@given(data=st.binary(max_size=400), cut=st.integers(min_value=1))
def test_garbage_ends_in_a_failure_and_nothing_else(data, cut):
    """No byte sequence raises out of the connection."""
    for start in (b"", b"HTTP/1.1 ", HEAD, CHUNKED):
        pieces = split_at(start + data, [cut]) if start + data else []
        head, _, complete, _, broken = hear(pieces)
        assert broken in ("bad_http", "closed", "truncated") or (head is not None and complete)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"<html>hello</html>", id="no HTTP"),
        pytest.param(b"HTTP/2 200\r\n\r\n", id="other version"),
        pytest.param(b"HTTP/1.1 20x OK\r\n\r\n", id="status no number"),
        pytest.param(HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nabc", id="two lengths"),
        pytest.param(HEAD + b"content-length: 2, 3\r\n\r\nabc", id="two lengths in one"),
        pytest.param(HEAD + b"content-length: -1\r\n\r\n", id="negative length"),
        pytest.param(HEAD + b"content-length: 99999999999999999999\r\n\r\n", id="huge length"),
        pytest.param(
            HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            id="length, then chunked",
        ),
        pytest.param(
            HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            id="chunked, then length",
        ),
        pytest.param(HEAD + b"transfer-encoding: gzip\r\n\r\nabc", id="unknown framing"),
        pytest.param(CHUNKED + b"xyz\r\nabc\r\n", id="bad chunk size"),
        pytest.param(CHUNKED + b"2\r\nabc\r\n", id="chunk longer than its size"),
        pytest.param(CHUNKED + b"2\nhi\n0\n\n", id="bare LF"),
        pytest.param(CHUNKED + b"fffffffffffffffff\r\n", id="chunk size overflow"),
        pytest.param(HEAD + b"a: b\r\n c\r\ncontent-length: 0\r\n\r\n", id="folded header"),
        pytest.param(HEAD + b"a : b\r\ncontent-length: 0\r\n\r\n", id="space before colon"),
        pytest.param(HEAD + b"a: \x00\r\ncontent-length: 0\r\n\r\n", id="zero byte"),
        pytest.param(
            b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", id="upgrade"
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 11 + OK, id="endless interim heads"),
        pytest.param(HEAD + b"x: " + b"a" * (65 * KIB) + b"\r\n\r\n", id="long header"),
        pytest.param(HEAD + b"x: y\r\n" * 33_000 + b"\r\n", id="many headers"),
        pytest.param(b"HTTP/1.1 200 " + b"O" * (400 * KIB), id="endless status line"),
        pytest.param(CHUNKED + b"2;" + b"x" * (400 * KIB), id="endless chunk extension"),
        pytest.param(CHUNKED + b"0\r\nx: " + b"x" * (400 * KIB), id="endless trailer"),
    ],
)
@pytest.mark.anyio
async def test_an_answer_that_is_no_http_is_refused(make_client, answer):
    """Strictly: what two parties could read differently is refused, and nothing is unbounded."""

    async def script(peer: Peer) -> None:
        await peer.answer(answer)
        await peer.hung_up()

    async with raw_server(script) as server:
        assert await failure_of(ask(make_client(), server.url())) == ("bad_http", 502)
        await server.wait_until_open(0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed"),
        (HEAD[:9], "closed"),
        (HEAD + b"content-length: 9\r\n\r\nabc", "truncated"),
        (CHUNKED, "truncated"),
        (CHUNKED + b"5\r\nabc", "truncated"),
        (CHUNKED + b"3\r\nabc\r\n", "truncated"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", "truncated"),
    ],
)
@pytest.mark.anyio
async def test_an_answer_that_breaks_off_is_a_failure(make_client, answer, reason):
    """Never taken for whole."""

    async def script(peer: Peer) -> None:
        await peer.answer(answer)

    async with raw_server(script) as server:
        assert await failure_of(ask(make_client(), server.url())) == (reason, 502)


@pytest.mark.anyio
async def test_what_came_before_a_reset_is_readable(make_client):
    """It is charged for, so it must not be lost."""

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED + b"2\r\nhi\r\n")
        await asyncio.sleep(0.05)
        peer.reset()

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        await asyncio.sleep(0.15)
        assert await exchange.read(PATIENCE_S) == b"hi"
        with pytest.raises(UpstreamFailed) as caught:
            await exchange.read(PATIENCE_S)
        assert caught.value.reason == "reset"
        assert isinstance(caught.value.__cause__, ConnectionError)
        exchange.close()


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        pytest.param(b"HTTP/1.1 204 No\r\n\r\n", 204, b"", id="204 has no body"),
        pytest.param(b"HTTP/1.1 304 Same\r\ncontent-length: 9\r\n\r\n", 304, b"", id="nor 304"),
        pytest.param(b"HTTP/1.1 200\r\ncontent-length: 1\r\n\r\na", 200, b"a", id="no reason"),
        pytest.param(
            b"HTTP/1.1 302 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 1\r\n\r\na",
            302,
            b"a",
            id="redirects are not followed",
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + OK,
            200,
            b"hello",
            id="interim heads are skipped",
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\n" * 10 + OK,
            200,
            b"hello",
            id="ten of them with each answer",
        ),
    ],
)
@pytest.mark.anyio
async def test_unusual_answers_are_read_and_the_connection_stays(make_client, answer, status, body):
    """Three calls, one connection."""

    async def script(peer: Peer) -> None:
        await peer.keep_answering(answer)

    async with raw_server(script) as server:
        client = make_client()
        for _ in range(3):
            assert await answer_to(client, server.url()) == (status, body)
        assert server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhello", id="HTTP/1.0"),
        pytest.param(HEAD + b"\r\nhello", id="until close"),
        pytest.param(HEAD + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", id="close"),
        pytest.param(OK + b"HTTP/1.1 200 OK\r\n", id="a second answer"),
        pytest.param(OK + b"garbage", id="garbage after it"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n\r\n\r\nx", id="garbage after chunks"),
    ],
)
@pytest.mark.anyio
async def test_after_these_the_connection_is_not_used_again(make_client, answer):
    """The answer is good all the same."""

    async def script(peer: Peer) -> None:
        await peer.answer(answer)

    async with raw_server(script) as server:
        client = make_client()
        for _ in range(2):
            assert await answer_to(client, server.url()) == (200, b"hello")
        assert server.accepted == 2


@pytest.mark.anyio
async def test_one_byte_a_read_gives_the_same_answer(make_client):
    """However slowly it drips."""
    answer = CHUNKED + b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nx-t: 1\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.request()
        for byte in answer:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)

    async with raw_server(script) as server:
        assert await answer_to(make_client(), server.url()) == (200, b"hello!")


@pytest.mark.anyio
async def test_a_single_chunk_of_five_megabytes_arrives_whole(make_client):
    """A chunk's size bounds nothing but itself."""
    body = bytes(range(256)) * 20_000

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    async with raw_server(script) as server:
        assert await answer_to(make_client(), server.url()) == (200, body)


@pytest.mark.anyio
async def test_an_upstream_is_paused_while_its_answer_waits_unread(make_client):
    """At most 256 KiB and one read more lie in memory; all of it arrives in the end."""
    total = 40 * KIB * KIB
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.answer(HEAD + b"content-length: %d\r\n\r\n" % total)
        while sent < total:
            await peer.send(b"x" * (64 * KIB))
            sent += 64 * KIB

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        await asyncio.sleep(0.3)
        sent_while_unread = sent
        first = await exchange.read(PATIENCE_S)
        assert first is not None
        assert len(first) <= (256 + 256) * KIB
        # The rest is in the kernel's buffers: the sender has come to a stop long before the end.
        assert sent_while_unread < total // 2
        assert len(first) + len(await body_of(exchange)) == total
        exchange.close()

"""The same bytes by the fast lane and by ASGI: what is refused on the wire, what is legal, and
however it is cut on its way.
"""

import asyncio
import contextlib
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.core.ids import new_key
from tests.server.asking import completion, stream_of
from tests.server.worker import (
    JSON_HEAD,
    SSE_HEAD,
    FakeExchange,
    FakeUpstream,
    make_worker,
    running,
)

pytestmark = pytest.mark.anyio

PATH = b"/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
STREAMED = BODY[:-1] + b',"stream":true}'
MESSAGE = BODY[:-1] + b',"max_tokens":50}'
LENGTH = b"content-length: %d\r\n" % len(BODY)
IN_CHUNKS = b"transfer-encoding: chunked\r\n"
CLOSE = b"connection: close\r\n"
HOST = b"host: a\r\n"
KEY = b"authorization: Bearer KEY\r\n"  # the worker's takes its place
KEY_BYTES = len(new_key()) - len("KEY")
LAST = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
# What differs from one call to the next.
CHANGING = re.compile(
    rb"(?<=date: )[^\r]+|(?<=openai-processing-ms: )\d+|(?<=req_)\w{22}|(?<=msg_)\w{22}"
    rb'|(?<=resp_)\w{22}|(?<="created":)\d+|(?<="created_at":)\d+|(?<="completed_at":)\d+'
    rb'|(?<=chatcmpl-)\w+|(?<=_content":")[^"]+|(?<=cmp_)\w+'
)


def post(*lines, body=BODY, line=b"POST /v1/chat/completions HTTP/1.1", start=HOST + KEY):
    """A request; each of `lines` with its line end."""
    return b"".join((line, b"\r\n", start, *lines, b"\r\n", body))


def call(target, body, *lines):
    """A call with a Content-Length."""
    length = b"content-length: %d\r\n" % len(body)
    return post(length, *lines, body=body, line=b"POST %b HTTP/1.1" % target)


REFUSED = {
    "length and chunks": post(LENGTH, IN_CHUNKS, body=CHUNKED),
    "chunks and length": post(IN_CHUNKS, LENGTH, body=CHUNKED),
    "two unequal lengths": post(LENGTH, b"content-length: 3\r\n"),
    "a length twice": post(LENGTH, LENGTH),
    "a list of lengths": post(b"content-length: %d, %d\r\n" % (len(BODY), len(BODY))),
    "a signed length": post(b"content-length: +%d\r\n" % len(BODY)),
    "a negative length": post(b"content-length: -1\r\n"),
    "a length in hex": post(b"content-length: 0x39\r\n"),
    "an empty length": post(b"content-length: \r\n"),
    "a length without end": post(b"content-length: " + b"9" * 40 + b"\r\n"),
    "a folded header": post(LENGTH, b"x: a\r\n b\r\n"),
    "a header that begins folded": post(b" x: a\r\n", LENGTH),
    "bare line feeds": post(LENGTH).replace(b"\r\n", b"\n"),
    "one bare line feed": post(LENGTH, b"x: a\ny: b\r\n"),
    "a bare carriage return": post(LENGTH, b"x: a\rb\r\n"),
    "a NUL": post(LENGTH, b"x: a\0b\r\n"),
    "a space before the colon": post(b"content-length : %d\r\n" % len(BODY)),
    "a header without a name": post(LENGTH, b": a\r\n"),
    "a header without a colon": post(LENGTH, b"x\r\n"),
    "no host": post(LENGTH, start=KEY),
    "two hosts": post(LENGTH, b"Host: b\r\n"),
    "the same host twice": post(LENGTH, HOST),
    "two keys": post(LENGTH, b"Authorization: Bearer other\r\n"),
    "a chunk of no number": post(IN_CHUNKS, body=b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a signed chunk": post(IN_CHUNKS, body=b"+" + CHUNKED),
    "a chunk in 0x": post(IN_CHUNKS, body=b"0x" + CHUNKED),
    "a chunk that is too short": post(IN_CHUNKS, body=b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunks with bare line feeds": post(IN_CHUNKS, body=CHUNKED.replace(b"\r\n", b"\n")),
    "a chunk without end": post(IN_CHUNKS, body=b"f" * 20 + b"\r\n" + BODY),
    "a coding before chunked": post(b"transfer-encoding: gzip, chunked\r\n", body=CHUNKED),
    "chunked twice": post(b"transfer-encoding: chunked, chunked\r\n", body=CHUNKED),
    "chunked in two headers": post(IN_CHUNKS, IN_CHUNKS, body=CHUNKED),
    "a coding after chunked": post(b"transfer-encoding: chunked, identity\r\n", body=CHUNKED),
    "the coding identity": post(b"transfer-encoding: identity\r\n", LENGTH),
    "an unknown coding": post(b"transfer-encoding: xchunked\r\n", body=CHUNKED),
    "HTTP/0.9": post(LENGTH, line=b"POST " + PATH),
    "HTTP/1.2": post(LENGTH, line=b"POST " + PATH + b" HTTP/1.2"),
    "HTTP/2": post(LENGTH, line=b"POST " + PATH + b" HTTP/2.0"),
    "an unknown method": post(LENGTH, line=b"PSOT " + PATH + b" HTTP/1.1"),
    "a space in the target": post(LENGTH, line=b"POST " + PATH + b"?a b HTTP/1.1"),
    "a target of another world": post(LENGTH, line=b"POST http://a:99999999/ HTTP/1.1"),
    "CONNECT": post(LENGTH, line=b"CONNECT a:80 HTTP/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\r\n\r\n" + post(LENGTH),
    "a huge header": post(LENGTH, b"x: " + b"y" * 80_000 + b"\r\n"),
    "many headers": post(LENGTH, *[b"x: y\r\n"] * 300),
}

# Each ends its connection, or has LAST behind it.
LEGAL = {
    "plain": post(LENGTH, CLOSE),
    "kept alive": post(LENGTH) + LAST,
    "in chunks": post(IN_CHUNKS, body=CHUNKED) + LAST,
    "in many chunks": post(
        IN_CHUNKS, CLOSE, body=b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n"
    ),
    "chunks with extensions": post(
        IN_CHUNKS, body=b"%x;a=b\r\n%b\r\n0\r\nx: y\r\n\r\n" % (len(BODY), BODY)
    )
    + LAST,
    "a stream": call(PATH, STREAMED) + LAST,
    "a stream that closes": call(PATH, STREAMED, CLOSE),
    "HTTP/1.0": post(LENGTH, line=b"POST " + PATH + b" HTTP/1.0"),
    "HTTP/1.0 without a host": post(LENGTH, line=b"POST " + PATH + b" HTTP/1.0", start=KEY),
    "HTTP/1.0 kept alive": post(
        LENGTH, b"connection: keep-alive\r\n", line=b"POST " + PATH + b" HTTP/1.0"
    ),
    "a stream to HTTP/1.0": post(
        b"content-length: %d\r\n" % len(STREAMED),
        line=b"POST " + PATH + b" HTTP/1.0",
        body=STREAMED,
    ),
    "expecting 100": post(LENGTH, b"expect: 100-continue\r\n") + LAST,
    "expecting 100 in vain": post(LENGTH, b"Expect: 100-Continue\r\n", start=HOST) + LAST,
    "upgrade to HTTP/2": post(
        LENGTH,
        b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n",
    )
    + LAST,
    "upgrade to a socket": post(LENGTH, b"connection: upgrade\r\nupgrade: websocket\r\n") + LAST,
    "absolute": post(LENGTH, line=b"POST http://a" + PATH + b" HTTP/1.1") + LAST,
    "absolute, elsewhere": post(LENGTH, line=b"POST http://b:1" + PATH + b"?a=b HTTP/1.1") + LAST,
    "a query": post(LENGTH, line=b"POST " + PATH + b"?api-version=1&a=%20 HTTP/1.1") + LAST,
    "an empty query": post(LENGTH, line=b"POST " + PATH + b"? HTTP/1.1") + LAST,
    "a fragment": post(LENGTH, line=b"POST " + PATH + b"#a HTTP/1.1") + LAST,
    "a slash": post(LENGTH, line=b"POST " + PATH + b"/ HTTP/1.1") + LAST,
    "two slashes": post(LENGTH, line=b"POST //v1//chat/completions HTTP/1.1") + LAST,
    "an escape": post(LENGTH, line=b"POST /v1/chat%2Fcompletions HTTP/1.1") + LAST,
    "no path of ours": post(LENGTH, line=b"POST " + PATH + b"x HTTP/1.1") + LAST,
    "in upper case": post(LENGTH, line=b"POST /V1/chat/completions HTTP/1.1") + LAST,
    "GET": post(CLOSE, line=b"GET " + PATH + b" HTTP/1.1", body=b""),
    "HEAD": post(CLOSE, line=b"HEAD " + PATH + b" HTTP/1.1", body=b""),
    "OPTIONS": post(CLOSE, line=b"OPTIONS " + PATH + b" HTTP/1.1", body=b""),
    "PUT": post(LENGTH, line=b"PUT " + PATH + b" HTTP/1.1") + LAST,
    "no body": post(body=b"") + LAST,
    "an empty body": call(PATH, b"") + LAST,
    "no JSON": call(PATH, b"nope") + LAST,
    "no key": post(LENGTH, start=HOST) + LAST,
    "no key, in chunks": post(IN_CHUNKS, start=HOST, body=CHUNKED) + LAST,
    "empty lines before": b"\r\n\r\n" + post(LENGTH) + b"\r\n" + LAST,
    "a form with parts": post(LENGTH, b"content-type: multipart/form-data\r\n") + LAST,
    "an unknown encoding": post(LENGTH, b"content-encoding: br\r\n") + LAST,
    "two calls": post(LENGTH) * 2 + LAST,
    "call, health, call": post(LENGTH) + LAST.replace(CLOSE, b"") + post(LENGTH, CLOSE),
    "rubbish behind it": post(LENGTH) + b"\0rubbish\r\n\r\n",
    "something behind a close": post(LENGTH, CLOSE) + post(LENGTH),
    "messages": call(b"/v1/messages?beta=true", MESSAGE, b"anthropic-version: 2023-06-01\r\n")
    + LAST,
    "a message in vain": call(b"/v1/messages", b"{}", b"anthropic-version: 2023-06-01\r\n") + LAST,
    "tokens counted": call(b"/v1/messages/count_tokens", BODY) + LAST,
    "responses": call(b"/v1/responses", b'{"model":"m","input":"Hi","store":false}') + LAST,
    "compacted": call(b"/v1/responses/compact", b'{"model":"m","input":"Hi"}') + LAST,
}
SHORT = ["kept alive", "in chunks", "expecting 100", "upgrade to HTTP/2", "HTTP/1.0", "messages"]


class Upstream(FakeUpstream):
    """Answers every call, as often as it is asked."""

    def open(self, request):
        self.requests.append(request)
        if b'"stream":true' in request.body:
            return FakeExchange(SSE_HEAD, stream_of("Hello", " there"))
        return FakeExchange(JSON_HEAD, [completion("Hello!")])


class Ways:
    """A worker for each of the two ways that hot requests may go."""

    def __init__(self, **settings):
        self._settings = settings
        self._workers = []

    async def __aenter__(self):
        self._stack = contextlib.AsyncExitStack()
        for carrier in ("lane", "asgi"):
            worker = make_worker(**self._settings)
            worker.upstream = worker.state.gateway.upstream = Upstream()
            await self._stack.enter_async_context(running(worker, carrier=carrier))
            self._workers.append(worker)
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()

    async def say(self, raw, *cuts):
        """What each way answered to this, until it closed, and how often its upstream was asked. It
        comes in parts, cut at these places.
        """
        return [await self._say(worker, raw, cuts) for worker in self._workers]

    async def say_after(self, first, raw, *cuts):
        """The same behind two that are alike and were answered already, on the same connection."""
        return [await self._say(worker, raw, cuts, first) for worker in self._workers]

    async def _say(self, worker, raw, cuts, first=b""):
        worker.upstream.requests.clear()
        raw = raw.replace(b"KEY", worker.secret.encode())
        edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        async with asyncio.timeout(20):
            for _ in range(2 if first else 0):
                writer.write(first.replace(b"KEY", worker.secret.encode()))
                await reader.readuntil(b"Hello!")
                while not all(each.cycle.response_complete for each in worker.served.connections):
                    await asyncio.sleep(0.001)
            for start, end in itertools.pairwise(edges):
                writer.write(raw[start:end])
                for _ in range(4):  # it is read before the next one is written
                    await asyncio.sleep(0)
            answer = await reader.read()
        writer.close()
        return CHANGING.sub(b"", answer), len(worker.upstream.requests)


@pytest.fixture
async def ways(anyio_backend):
    """Both ways, behind each an upstream that answers every call."""
    async with Ways() as both:
        yield both


def statuses(answer):
    """Those of the answers in a row."""
    return re.findall(rb"HTTP/1\.1 (\d\d\d) ", answer)


@pytest.mark.parametrize("name", REFUSED)
async def test_what_lies_is_refused_by_both_ways_with_no_side_effect(ways, name):
    """A 4xx, the connection closed, nothing asked of the upstream, and the same bytes by both."""
    lane, asgi = await ways.say(REFUSED[name])
    answer, calls = lane
    assert calls == 0
    assert [status[:1] for status in statuses(answer)] == [b"4"]
    assert b"connection: close\r\n" in answer
    assert lane == asgi


@pytest.mark.parametrize("name", LEGAL)
async def test_what_is_legal_has_the_same_answer_by_both_ways(ways, name):
    """Down to the byte, but for times and ids."""
    lane, asgi = await ways.say(LEGAL[name])
    assert statuses(lane[0])
    assert lane == asgi


@pytest.mark.parametrize("name", SHORT)
async def test_where_a_request_is_cut_makes_no_difference(ways, name):
    """In two parts, cut at each of its bytes in turn, it is answered as in one."""
    request = LEGAL[name]
    whole, asgi = await ways.say(request)
    assert whole == asgi
    for at in range(1, len(request) + KEY_BYTES):
        for said in await ways.say(request, at):
            assert said == whole, f"cut at {at}"


@pytest.mark.parametrize("name", ["a chunk of no number", "length and chunks", "a folded header"])
async def test_where_a_lie_is_cut_makes_no_difference(ways, name):
    """It is refused all the same, and nothing is asked of the upstream."""
    request = REFUSED[name]
    for at in range(1, len(request) + KEY_BYTES):
        lane, asgi = await ways.say(request, at)
        assert lane == asgi, f"cut at {at}"
        assert [status[:1] for status in statuses(lane[0])] == [b"4"]
        assert lane[1] == 0


@pytest.mark.parametrize("name", REFUSED)
async def test_a_lie_behind_a_head_that_is_known_is_refused_by_both_ways(ways, name):
    """However much of it is the same as what was true."""
    lane, asgi = await ways.say_after(post(LENGTH), REFUSED[name])
    assert [status[:1] for status in statuses(lane[0])] == [b"4"]
    assert lane[1] == 2  # the first ones'
    assert lane == asgi


@pytest.mark.parametrize("name", LEGAL)
async def test_what_is_legal_is_so_behind_a_head_that_is_known(ways, name):
    """It is answered as on a connection of its own."""
    lane, asgi = await ways.say_after(post(LENGTH), LEGAL[name])
    alone, _ = await ways.say(LEGAL[name])
    assert lane == asgi
    assert statuses(lane[0]) == statuses(alone[0])


@pytest.mark.parametrize("body", [b"", BODY, BODY + b" " * 1000, BODY[:-1] + b" " * 300_000 + b"}"])
@pytest.mark.parametrize("cut", [10, 220, 400, 10_000])
async def test_a_known_head_may_have_a_body_of_any_length(ways, body, cut):
    """In one part with it, or in several, with the next request close behind."""
    lane, asgi = await ways.say_after(post(LENGTH), call(PATH, body) + LAST, cut, cut + 200_000)
    assert lane == asgi
    assert statuses(lane[0]) == [b"200" if body else b"400", b"200"]
    assert lane[1] == (3 if body else 2)


ODD = [bytes([each]) for each in b"\r\n\0 \t:;,0123456789+-x\x80"]
EDIT = st.tuples(
    st.integers(0, len(post(LENGTH))), st.integers(0, 2), st.sampled_from([b"", b"\r\n", *ODD])
)


def edited(raw, edits):
    """With some of it, at those places, taken out and other bytes put in."""
    for at, length, put in edits:
        raw = raw[:at] + put + raw[at + length :]
    return raw


@settings(max_examples=80, deadline=None)
@given(
    st.lists(EDIT, min_size=1, max_size=2),
    st.sampled_from([LENGTH, b"Content-Length: %d\r\nconnection: keep-alive\r\n" % len(BODY)]),
)
def test_what_is_nearly_a_known_head_is_read_as_if_none_were_known(edits, length):
    """Whatever a byte more or less makes of it: both ways say the same, and ask as often."""
    request = post(length)

    async def compare():
        async with Ways(body_timeout_s=0.2) as both:
            lane, asgi = await both.say_after(request, edited(request, edits) + LAST)
        assert lane == asgi

    asyncio.run(compare())


IN_A_ROW = [
    post(LENGTH),
    post(IN_CHUNKS, body=CHUNKED),
    call(PATH, STREAMED),
    call(PATH, b"nope"),
    call(b"/v1/messages", MESSAGE),
    call(b"/v1/nowhere", b"to nobody"),
    post(LENGTH, start=HOST),
    post(LENGTH, b"expect: 100-continue\r\n"),
    post(LENGTH, b"connection: upgrade\r\nupgrade: h2c\r\n"),
    LAST.replace(CLOSE, b""),
    call(b"http://a" + PATH, BODY),
]


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(IN_A_ROW), min_size=1, max_size=6),
    st.lists(st.integers(1, 3000), max_size=8),
)
def test_requests_in_a_row_are_answered_alike_however_they_come(requests, cuts):
    """Hot and cold ones alternate on one connection, one behind the other or all at once."""
    raw = b"".join(requests) + LAST

    async def compare():
        async with Ways() as both:
            lane, asgi = await both.say(raw, *cuts)
        assert lane == asgi
        final = [status for status in statuses(lane[0]) if status != b"100"]
        assert len(final) == len(requests) + 1

    asyncio.run(compare())

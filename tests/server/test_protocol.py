"""What goes over a client's connection: heads that lie, requests in a row, hang-ups, upgrades."""

import asyncio
import json

import pytest

from tests.server.worker import BOTH_WAYS, JSON_HEAD, SSE_HEAD, make_worker, parse, running

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
CHUNKED_BODY = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "message": {"content": "Hello!"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
).encode()
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}\n\n'
LENGTH = b"content-length: %d\r\n" % len(BODY)


def head(worker, *lines, line=b"POST /v1/chat/completions HTTP/1.1", host=b"host: gateway\r\n"):
    """A head with the worker's key; each of `lines` with its line end."""
    key = b"authorization: Bearer %b\r\n" % worker.secret.encode()
    return b"".join((line, b"\r\n", host, key, *lines, b"\r\n"))


async def say(worker, *parts):
    """Send these, a moment apart, and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    async with asyncio.timeout(20):
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.02)
        raw = await reader.read()
    writer.close()
    return raw


async def until(holds):
    """Wait for something that must come soon."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\nhost: a\n\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        b"GET http://a:99999999/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-api-key: a\r\nX-Api-Key: b\r\n\r\n",
    ],
)
async def test_what_is_no_sound_http_is_refused_in_openais_shape(worker, request_bytes):
    """400 with an id, and the connection ends: where the next request begins is not known."""
    answer = parse(await say(worker, request_bytes))
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.headers["x-request-id"].startswith("req_")
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert worker.upstream.requests == []


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/messages?beta=true HTTP/1.1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: a\r\nx-api-key: a\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: a\r\nanthropic-version: 1\r\n\r\n",
    ],
)
async def test_anthropics_clients_are_refused_in_their_shape(worker, head):
    """As soon as it is known who asks: by the path, or by the header that they all send."""
    answer = parse(await say(worker, head))
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json["request_id"] == answer.headers["request-id"]
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 80_000 + b"\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nhost: a\r\nx: ", *[b"y" * 20_000] * 8],
        [b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nhost: a\r\n", *[b"x: y\r\n" * 100] * 3, b"\r\n"],
    ],
)
async def test_a_huge_head_is_431(worker, parts):
    """In one piece or in many, one endless line or a thousand headers."""
    answer = parse(await say(worker, *parts))
    assert (answer.status, answer.json["error"]["code"]) == (431, "request_too_large")


async def test_a_head_that_trickles_in_is_given_up():
    """408 when the time for it is over, however often a byte of it comes."""
    async with running(make_worker(body_timeout_s=0.2)) as worker:
        trickle = [b"GET / HTTP/1.1\r\nhost: a\r\nx: ", *[b"y"] * 20]
        assert parse(await say(worker, *trickle)).status == 408


async def test_connections_without_a_request_are_closed():
    """After the time that a connection may rest, also when nothing or only empty lines came."""
    async with running(make_worker(), keep_alive_s=1) as worker:
        assert await asyncio.gather(say(worker), say(worker, b"\r\n\r\n")) == [b"", b""]


async def test_a_trailer_is_no_header(worker):
    """What stands behind a chunked body is dropped: nobody has judged it."""
    worker.will_answer(JSON_HEAD, ANSWER)
    trailer = b"authorization: Bearer other\r\nx-farebox-hop: inst_here\r\n\r\n"
    lines = (b"connection: close\r\n", b"transfer-encoding: chunked\r\n")
    answer = parse(await say(worker, head(worker, *lines) + CHUNKED_BODY + trailer))
    assert answer.status == 200


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_an_upgrade_is_ignored_and_the_body_is_read(worker, upgrade, chunked):
    """A client that offers HTTP/2 or a WebSocket is answered as if it had not, and goes on."""
    worker.will_answer(JSON_HEAD, ANSWER)
    length = b"transfer-encoding: chunked\r\n" if chunked else LENGTH
    wish = (
        b"connection: Upgrade, HTTP2-Settings\r\nupgrade: %b\r\nhttp2-settings: AAMA\r\n" % upgrade
    )
    body = CHUNKED_BODY + b"\r\n" if chunked else BODY
    last = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    raw = await say(worker, head(worker, length, wish) + body[:20], body[20:] + last)
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Hello!" in raw
    assert raw.endswith(b'{"ok":true}')
    assert len(worker.books.settlements) == 1


async def test_rubbish_behind_a_request_does_not_cost_its_answer(worker):
    """What was whole is answered, then the connection ends: no 400 in the answer's place."""
    gate = asyncio.Event()
    worker.will_answer(JSON_HEAD, gate, ANSWER)
    asyncio.get_running_loop().call_later(0.1, gate.set)
    raw = await say(worker, head(worker, LENGTH) + BODY, b"\0rubbish\r\n\r\n")
    assert (parse(raw).status, raw.count(b"HTTP/1.1 ")) == (200, 1)
    assert worker.books.settlements[0].outcome == "complete"


async def test_a_broken_body_behind_a_request_does_not_cost_its_answer(worker):
    """The same where the second request had begun: it is dropped, the first is answered."""
    gate = asyncio.Event()
    worker.will_answer(JSON_HEAD, gate, ANSWER)
    asyncio.get_running_loop().call_later(0.1, gate.set)
    second = head(worker, b"transfer-encoding: chunked\r\n") + b"zz\r\n"
    raw = await say(worker, head(worker, LENGTH) + BODY + second)
    assert (parse(raw).status, raw.count(b"HTTP/1.1 ")) == (200, 1)
    assert len(worker.upstream.requests) == 1


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/nowhere"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_body_in_broken_pieces_is_400(worker, caplog, path, at_once):
    """Bad chunking ends the request and the connection; nothing goes upstream, and whoever had
    begun to serve it does not stumble.
    """
    line = b"POST %b HTTP/1.1" % path
    broken = [head(worker, b"transfer-encoding: chunked\r\n", line=line), b"5\r\n" + BODY]
    raw = await say(worker, *([b"".join(broken)] if at_once else broken))
    assert raw.count(b"HTTP/1.1 ") == 1
    assert parse(raw).status == (400 if at_once or b"chat" in path else 404)
    assert worker.upstream.requests == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_hang_up_with_another_request_waiting_is_noticed():
    """The call in progress learns of it, though the connection's latest request is another."""
    async with running(make_worker(drain_after_hangup_s=0.0)) as worker:
        worker.will_answer(SSE_HEAD, CHUNK, asyncio.Event())
        body = BODY[:-1] + b',"stream":true}'
        length = b"content-length: %d\r\n" % len(body)
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        writer.write(head(worker, length) + body + b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"word")
        writer.close()
        await until(lambda: worker.books.settlements)
        assert worker.books.settlements[0].outcome == "client_gone"


async def test_a_body_that_nobody_wants_ends_the_connection(worker):
    """A stranger may send on for a moment, so that the answer arrives, but not for ever."""
    raw = await say(
        worker,
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n",
        *[b"x" * 1000] * 5,
    )
    assert parse(raw).status == 401

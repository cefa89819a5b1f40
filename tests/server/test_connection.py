"""Connections whose heads are known: what else comes over them is read from where they stand."""

import asyncio
import json

import pytest
from starlette.responses import Response
from starlette.routing import Route

from tests.server.worker import BOTH_WAYS, JSON_HEAD, SSE_HEAD, make_worker, running

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
STREAMED = BODY[:-1] + b',"stream":true}'
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}\n\n'
ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "message": {"content": "Hello!"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
).encode()
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
HEALTHY = b'{"ok":true}'


def call(worker, body=BODY, line=b""):
    """A call's bytes. The head of two without that `line` is the same but for its length."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %b\r\n"
        b"content-length: %d\r\n%b\r\n%b" % (worker.secret.encode(), len(body), line, body)
    )


async def begin(worker):
    """Have the head of such a call known, and open a connection; its streams."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    for _ in range(2):
        writer.write(call(worker, b"{}"))
        await reader.readuntil(b"}}")
    writer.close()
    return await asyncio.open_connection("127.0.0.1", worker.port)


async def until(holds):
    """Wait for something that must come soon."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


def begun(worker):
    """Whether uvicorn has begun with the connection that there is."""
    (connection,) = worker.served.connections
    return connection.parser is not None


async def test_hot_and_cold_requests_take_turns(worker, carrier):
    """Uvicorn begins with the first cold one; hot ones go by the same way before and after it."""
    reader, writer = await begin(worker)
    await until(lambda: len(worker.served.connections) == 1)
    for number in range(3):
        worker.will_answer(JSON_HEAD, ANSWER)
        writer.write(call(worker))
        await reader.readuntil(b"\r\n\r\n")
        assert b"Hello!" in await reader.read(4096)
        assert begun(worker) == (number > 0 or carrier == "asgi")
        writer.write(HEALTH)
        assert (await reader.readuntil(HEALTHY)).startswith(b"HTTP/1.1 200 OK\r\n")
        assert begun(worker)
    writer.close()
    await until(lambda: not worker.served.connections)


@pytest.mark.parametrize("piece_bytes", [None, 30, 171])
async def test_what_comes_behind_a_known_head_is_answered_in_its_turn(worker, piece_bytes):
    """While that request is answered, or its body read: cold and hot ones, in a row."""
    gate = asyncio.Event()
    for script in ((gate, ANSWER), (ANSWER,), (ANSWER,)):
        worker.will_answer(JSON_HEAD, *script)
    reader, writer = await begin(worker)
    end = HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    data = b"".join((call(worker), HEALTH, call(worker, line=b"x: y\r\n"), call(worker), end))
    for at in range(0, len(data), piece_bytes or len(data)):
        writer.write(data[at : at + (piece_bytes or len(data))])
        await asyncio.sleep(0.005)
    gate.set()
    async with asyncio.timeout(10):
        raw = await reader.read()
    writer.close()
    answers = raw.split(b"HTTP/1.1 200 OK\r\n")
    assert answers.pop(0) == b""
    assert [HEALTHY in each for each in answers] == [False, True, False, False, True]
    assert len(worker.books.settlements) == 3


async def test_rubbish_behind_a_known_head_does_not_cost_its_answer(worker):
    """What was whole is answered, then the connection ends."""
    gate = asyncio.Event()
    worker.will_answer(JSON_HEAD, gate, ANSWER)
    reader, writer = await begin(worker)
    writer.write(call(worker))
    await asyncio.sleep(0.02)
    writer.write(b"\0rubbish\r\n\r\n")
    await asyncio.sleep(0.02)
    gate.set()
    async with asyncio.timeout(10):
        raw = await reader.read()
    writer.close()
    assert (raw[:15], raw.count(b"HTTP/1.1 ")) == (b"HTTP/1.1 200 OK", 1)


@pytest.mark.parametrize("behind", [b"", HEALTH])
async def test_a_hang_up_in_the_answer_to_a_known_head_is_noticed(behind):
    """With or without another request waiting; nothing is left of the connection."""
    async with running(make_worker(drain_after_hangup_s=0.0)) as worker:
        reader, writer = await begin(worker)
        worker.will_answer(SSE_HEAD, CHUNK, asyncio.Event())
        writer.write(call(worker, STREAMED) + behind)
        await reader.readuntil(b"word")
        writer.close()
        await until(lambda: worker.books.settlements and not worker.served.connections)
        assert worker.books.settlements[0].outcome == "client_gone"


@pytest.mark.parametrize("resting", [True, False])
async def test_a_drain_ends_a_connection_with_known_heads(worker, resting):
    """At once between two requests, else behind the answer, which says so."""
    gate = asyncio.Event()
    worker.will_answer(JSON_HEAD, gate, ANSWER)
    reader, writer = await begin(worker)
    if not resting:
        writer.write(call(worker))
        await until(lambda: worker.upstream.requests)
    await until(lambda: len(worker.served.connections) == 1)
    (connection,) = worker.served.connections
    connection.shutdown()
    gate.set()
    async with asyncio.timeout(10):
        raw = await reader.read()
    writer.close()
    assert (b"Hello!" in raw, b"connection: close" in raw) == (not resting, not resting)
    await until(lambda: not worker.served.connections)


async def test_a_connection_with_known_heads_is_closed_when_it_has_rested():
    """For as long as may be since its last answer."""
    async with running(make_worker(), keep_alive_s=1) as worker:
        reader, writer = await begin(worker)
        worker.will_answer(JSON_HEAD, ANSWER)
        writer.write(call(worker))
        async with asyncio.timeout(10):
            assert b"Hello!" in await reader.read()
        writer.close()


LARGE_BYTES = 20_000_000  # more than the buffers of two sockets take


async def large(_request):
    """A page."""
    return Response(b"x" * LARGE_BYTES)


async def small(_request):
    """One of which many go into those buffers."""
    return Response(b"x" * 100_000)


PAGES = (Route("/large", large), Route("/small", small))
GET = b"GET /%b HTTP/1.1\r\nhost: a\r\n%b\r\n"
CLOSE = b"connection: close\r\n"


@pytest.mark.parametrize(
    "requests",
    [GET % (b"large", b""), GET % (b"large", CLOSE), GET % (b"small", b"") * 300, b"call"],
)
async def test_who_takes_nothing_of_an_answer_is_cut_off(requests):
    """Though all of it was written, or the next one waits: nothing is left of the connection."""
    limits = make_worker(idle_timeout_s=0.2)
    async with running(limits, PAGES, keep_alive_s=1) as worker:
        if requests == b"call":
            worker.will_answer(JSON_HEAD, ANSWER.replace(b"Hello!", b"x" * LARGE_BYTES))
            requests = call(worker, line=CLOSE)
        _, writer = await asyncio.open_connection("127.0.0.1", worker.port, limit=1024)
        writer.write(requests)
        await until(lambda: worker.served.total_requests)
        await until(lambda: not worker.served.connections and not worker.served.tasks)
        writer.transport.abort()


@pytest.mark.parametrize("line", [b"", CLOSE])
async def test_who_takes_an_answer_slowly_gets_all_of_it(line):
    """It may take longer than one that takes nothing may wait."""
    limits = make_worker(idle_timeout_s=1.0)
    async with running(limits, PAGES, keep_alive_s=1) as worker:
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port, limit=1024)
        writer.write(GET % (b"large", line))
        raw = await reader.readuntil(b"\r\n\r\n")
        for _ in range(8):
            raw += await reader.readexactly(LARGE_BYTES // 10)
            await asyncio.sleep(0.25)
        async with asyncio.timeout(10):
            raw += await reader.read()
        writer.close()
        assert len(raw.partition(b"\r\n\r\n")[2]) == LARGE_BYTES

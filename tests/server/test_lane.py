"""What becomes of connections by either way: slow and stalled clients, drains, who is cut off, and
that uvicorn's books of them are right.
"""

import asyncio
from contextlib import suppress

import pytest

from farebox.server.lane import LaneCycle
from tests.server.worker import BOTH_WAYS, SSE_HEAD, make_worker, parse, running

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

STREAMED = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'
WORDS = "words " * 2000
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
END = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}\n\n'
    b"data: [DONE]\n\n"
)
MANY = 800  # chunks: more than the buffers of two sockets take


async def until(holds):
    """Wait for something that must come soon."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def head(worker, length):
    """That of a call with a body of this length."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %b\r\n"
        b"content-length: %d\r\n\r\n" % (worker.secret.encode(), length)
    )


async def ask(worker, body=STREAMED, length=None):
    """A call on a connection that stays open; its streams."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port, limit=1024)
    writer.write(head(worker, length or len(body)) + body)
    return reader, writer


async def test_a_slow_client_holds_the_upstream_back_and_gets_all(worker, carrier):
    """While it reads nothing, the upstream is not read on; then every byte comes."""
    chunks = [CHUNK % WORDS.encode()] * MANY
    exchange = worker.will_answer(SSE_HEAD, *chunks, END)
    reader, writer = await ask(worker)
    await until(lambda: len(exchange.script) < MANY)
    left = 0
    while left != len(exchange.script):
        left = len(exchange.script)
        await asyncio.sleep(0.05)
    assert left > MANY // 10
    raw = b""
    async with asyncio.timeout(10):
        while not raw.endswith(b"0\r\n\r\n"):
            raw += await reader.read(1 << 20)
    writer.close()
    answer = parse(raw)
    assert answer.complete
    assert answer.body.count(WORDS.encode()) == MANY
    (settlement,) = worker.books.settlements
    assert settlement.outcome == "complete"
    cycles = [c.cycle for c in worker.served.connections]
    assert [isinstance(c, LaneCycle) for c in cycles] == [carrier == "lane"] * len(cycles)


async def test_a_stream_that_comes_all_at_once_ends_where_its_framing_says(worker):
    """All of it is kept until it is charged. On a connection that stays open, the next answer
    follows it.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    for _ in range(2):
        worker.will_answer(SSE_HEAD, END)
        writer.write(head(worker, len(STREAMED)) + STREAMED)
        async with asyncio.timeout(5):
            raw = await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        answer = parse(raw)
        assert (answer.headers["transfer-encoding"], answer.complete) == ("chunked", True)
    writer.close()


async def test_a_client_that_takes_nothing_is_cut_off(carrier):
    """After the limit it counts as gone, is charged by what came, and its connection ends. By the
    lane it ends at once, with all that is kept for it; an ASGI server has no word for that.
    """
    async with running(make_worker(idle_timeout_s=0.2, drain_after_hangup_s=0.0)) as worker:
        worker.will_answer(SSE_HEAD, *[CHUNK % WORDS.encode()] * MANY, END)
        reader, writer = await ask(worker)
        await until(lambda: worker.books.settlements)
        assert worker.books.settlements[0].outcome == "client_gone"
        await until(lambda: not worker.served.tasks)
        if carrier == "lane":
            await until(lambda: not worker.served.connections)
        raw = b""
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                while part := await reader.read(1 << 20):
                    raw += part
        assert not raw or not parse(raw).complete
        writer.close()


async def test_a_drain_lets_a_stream_end_and_then_closes(worker):
    """The server waits for its task; the answer is whole, and the connection closes behind it."""
    gate = asyncio.Event()
    worker.will_answer(SSE_HEAD, CHUNK % b"one", gate, CHUNK % b"two", END)
    reader, writer = await ask(worker)
    begun = await reader.readuntil(b"one")
    assert len(worker.served.tasks) == 1
    for connection in worker.served.connections:
        connection.shutdown()
    gate.set()
    async with asyncio.timeout(20):
        rest = await reader.read(1 << 16) + await reader.read()
    assert parse(begun + rest).complete
    writer.close()
    await until(lambda: not worker.served.tasks and not worker.served.connections)
    assert worker.served.total_requests == 1


async def test_who_is_cut_off_while_sending_is_told(worker, caplog):
    """The task is cancelled at the end of a drain: 500, and the connection ends."""
    reader, writer = await ask(worker, STREAMED[:20], len(STREAMED))
    await until(lambda: worker.served.tasks)
    await asyncio.sleep(0.02)
    for task in worker.served.tasks:
        task.cancel()
    async with asyncio.timeout(20):
        raw = await reader.read()
    writer.close()
    answer = parse(raw)
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert answer.headers["connection"] == "close"
    await until(lambda: not worker.served.tasks)


async def test_one_connection_serves_hot_and_cold_requests_in_turn(worker):
    """uvicorn counts each, and the connection waits for the next with its timer running."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    stranger = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
    for number in range(1, 7):
        writer.write(stranger if number % 2 else b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 401 " if number % 2 else b"HTTP/1.1 200 ")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        await until(lambda: not worker.served.tasks)
        assert worker.served.total_requests == number
        (connection,) = worker.served.connections
        assert connection.timeout_keep_alive_task is not None
    writer.close()
    await until(lambda: not worker.served.connections)


class NoParser:
    """Stands where a parser was, and may not be asked to read."""

    def feed_data(self, data):
        raise AssertionError(f"nobody should have to read {data!r}")


@pytest.mark.parametrize("body", [b"{}", b"[" * 1000 + b"]" * 1000])
async def test_a_head_that_is_known_is_not_read_again(worker, carrier, body):
    """By the lane, on whichever connection. Its body may be another, and come later."""
    if carrier == "asgi":
        return
    first = await ask(worker, b"nope")
    await first[0].readuntil(b"}}")
    first[1].write(head(worker, 1) + b"1")
    await first[0].readuntil(b"}}")
    second = await asyncio.open_connection("127.0.0.1", worker.port)
    await until(lambda: len(worker.served.connections) == 2)
    for connection in worker.served.connections:
        if connection.parser is not None:
            connection.parser = NoParser()
    for reader, writer in (first, second):
        writer.write(head(worker, len(body)))
        await asyncio.sleep(0.01)
        writer.write(body)
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"}}")).startswith(b"HTTP/1.1 400 ")
    # Uvicorn has begun with the one whose head was not known, and never with the other.
    assert sum(connection.parser is None for connection in worker.served.connections) == 1
    for _, writer in (first, second):
        writer.close()

"""What a socket takes: sizes, encodings, pings, and bytes that are no WebSocket."""

import asyncio
import gc
import json
import random
from contextlib import suppress

import pytest

from farebox.server.protocol import Protocol
from tests.server.sockets import FIRST, REST, ask, closing, opened_raw, socket, until
from tests.server.worker import SSE_HEAD, make_worker, running

pytestmark = pytest.mark.anyio


async def test_ten_thousand_frames_of_rubbish_leave_nothing_behind(worker):
    """Each is answered, nothing is charged, and no task is left when the socket has gone."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    tasks = len(asyncio.all_tasks())
    async with socket(worker) as opened:

        async def flood():
            for n in range(10_000):
                await opened.send(f"rubbish {n}")

        sender = asyncio.create_task(flood())
        for _ in range(10_000):
            assert json.loads(await opened.recv())["status"] == 400
        await sender
        assert (await ask(opened))[-1]["type"] == "response.completed"
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert len(worker.books.settlements) == 1


async def test_a_text_that_is_not_utf_8_closes_the_socket(worker, caplog):
    """With 1007, as RFC 6455 says; nothing is written of a defect."""
    async with socket(worker) as opened:
        await opened.send(b"\xff\xfe", text=True)
        assert await closing(opened) == 1007
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_a_frame_larger_than_a_body_closes_the_socket(compression):
    """With 1009, also when it is small until it is inflated."""
    async with (
        running(make_worker(max_body_bytes=100_000)) as worker,
        socket(worker, compression=compression) as opened,
    ):
        await opened.send("x" * 100_001)
        assert await closing(opened) == 1009
    assert worker.books.settlements == []


@pytest.mark.parametrize("seed", range(10))
async def test_what_is_no_websocket_at_all_closes_it(worker, caplog, seed):
    """Random bytes behind a good handshake: an end, no defect, nothing charged, no task left."""
    tasks = len(asyncio.all_tasks())
    reader, writer = await opened_raw(worker)
    writer.write(random.Random(seed).randbytes(100_000))
    async with asyncio.timeout(20):
        await reader.read()
    writer.close()
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert (worker.upstream.requests, worker.books.settlements) == ([], [])


async def test_a_message_in_endless_fragments_closes_the_socket(worker):
    """Empty ones have no size that could be too large."""
    reader, writer = await opened_raw(worker)
    writer.write(b"\x01\x80...." + b"\x00\x80...." * 70_000)
    async with asyncio.timeout(20):
        said = await reader.read()
    assert said.startswith(b"\x88")
    assert b"too many fragments" in said
    writer.close()


async def test_a_frame_may_be_as_large_as_a_body(worker):
    """More than servers take by themselves: a conversation with pictures has tens of MB."""
    async with socket(worker) as opened:
        warm = await ask(opened, "x" * 20_000_000, generate=False)
    assert warm[-1]["type"] == "response.completed"


async def test_frames_are_deflated_for_clients_that_can(worker):
    """permessage-deflate is agreed upon."""
    async with socket(worker) as opened:
        assert opened.response is not None
        assert "permessage-deflate" in opened.response.headers["Sec-WebSocket-Extensions"]
        assert opened.response.headers["x-request-id"].startswith("req_")


async def test_a_client_that_takes_nothing_is_gone():
    """After the time that an answer may be silent; its response is settled, its socket dropped."""
    long = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 100_000)
    async with running(make_worker(idle_timeout_s=0.5, drain_after_hangup_s=0.2)) as worker:
        worker.will_answer(SSE_HEAD, *[long] * 200, asyncio.Event())
        reader, writer = await opened_raw(worker)
        frame = b'{"type":"response.create","model":"m","input":"Hi","store":false}'
        writer.write(b"\x81" + bytes([0x80 | len(frame)]) + bytes(4) + frame)
        await until(lambda: worker.books.settlements)
        assert worker.books.settlements[0].outcome == "client_gone"
        async with asyncio.timeout(20):
            with suppress(ConnectionError):
                while await reader.read(1 << 20):
                    pass
        writer.close()


async def test_a_client_that_answers_no_ping_is_dropped():
    """Idle sockets are asked for a sign of life."""
    async with running(make_worker(keepalive_s=0.1, idle_timeout_s=0.3)) as worker:
        reader, writer = await opened_raw(worker)
        async with asyncio.timeout(20):
            said = await reader.read()
        assert said[0] == 0x89  # a ping
        assert said[-2 - len("keepalive ping timeout") - 2] == 0x88  # a goodbye
        writer.close()


async def test_a_socket_that_has_ended_leaves_nothing_of_its_connection():
    """Nor does the timer of a connection that rests."""
    async with running(make_worker(), keep_alive_s=3600) as worker:
        for _ in range(3):
            async with socket(worker):
                pass
        await until(lambda: not worker.served.connections)
        gc.collect()
        kept = [each for each in gc.get_objects() if isinstance(each, Protocol)]
        assert [each for each in kept if each._settings is worker.state.settings] == []

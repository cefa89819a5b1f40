"""How sockets end: by time, key, worker or client, and what becomes of a response then."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from tests.server.sockets import FIRST, REST, ask, closing, create, frames, socket, until
from tests.server.worker import SSE_HEAD, make_worker, running

pytestmark = pytest.mark.anyio


async def test_a_revoked_key_ends_the_socket(worker):
    """It is looked at again for each response: 401, and the socket closes."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        await ask(opened)
        worker.keys.keys[0] = replace(worker.keys.keys[0], revoked_us=1)
        await worker.state.directory.reload()
        error = (await ask(opened))[-1]
        assert (error["status"], error["error"]["code"]) == (401, "invalid_api_key")
        assert await closing(opened) == 1008
    assert len(worker.books.settlements) == 1


async def test_a_socket_is_closed_after_its_time():
    """With the error that tells clients to open another, never within a response."""
    async with running(make_worker(responses_websocket_limit_s=0.3)) as worker:
        gate = asyncio.Event()
        worker.will_answer(SSE_HEAD, FIRST, gate, REST)
        async with socket(worker) as opened:
            await create(opened)
            asyncio.get_running_loop().call_later(0.6, gate.set)
            assert (await frames(opened))[-1]["type"] == "response.completed"
            error = (await frames(opened))[-1]
            assert error["error"]["code"] == "websocket_connection_limit_reached"
            assert await closing(opened) == 1000


async def test_a_worker_that_ends_closes_idle_sockets_at_once():
    """With 1012, on which clients connect again."""
    async with AsyncExitStack() as clients:
        async with running(make_worker()) as worker:
            opened = await clients.enter_async_context(socket(worker))
            ends = asyncio.create_task(closing(opened))
        assert await ends == 1012


async def test_a_worker_that_ends_lets_the_response_end_first():
    """Then it says goodbye."""
    async with AsyncExitStack() as clients:
        gate = asyncio.Event()
        async with running(make_worker()) as worker:
            worker.will_answer(SSE_HEAD, FIRST, gate, REST)
            opened = await clients.enter_async_context(socket(worker))
            await create(opened)
            await opened.recv()
            asyncio.get_running_loop().call_later(0.5, gate.set)
        found = await frames(opened)
        assert found[-1]["type"] == "response.completed"
        assert await closing(opened) == 1012


async def test_a_response_that_does_not_end_in_time_fails_at_the_workers_end():
    """What was delivered is charged, and the client learns that it was not all."""
    async with AsyncExitStack() as clients:
        async with running(make_worker()) as worker:
            worker.will_answer(SSE_HEAD, FIRST, asyncio.Event())
            opened = await clients.enter_async_context(socket(worker))
            await create(opened)
            await opened.recv()
        assert (await frames(opened))[-1]["type"] == "response.failed"
        assert len(worker.books.settlements) == 1
        assert await closing(opened) == 1012


@pytest.mark.parametrize("abruptly", [True, False])
async def test_a_client_that_goes_within_a_response_is_one_that_hung_up(worker, abruptly):
    """The upstream is read on for the usage, and that is charged."""
    gate = asyncio.Event()
    worker.will_answer(SSE_HEAD, FIRST, gate, REST)
    tasks = len(asyncio.all_tasks())
    async with socket(worker) as opened:
        await create(opened)
        await opened.recv()
        if abruptly:
            opened.transport.abort()
            await asyncio.sleep(0.05)  # for the other side to notice
    gate.set()
    await until(lambda: worker.books.settlements)
    settlement = worker.books.settlements[0]
    assert (settlement.outcome, settlement.due_nanocredits) == ("client_gone", 20_000)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)

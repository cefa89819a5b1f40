"""The running workers that tests of routes ask."""

import asyncio
import threading

import pytest

from tests.server.worker import WAY, make_worker, running


@pytest.fixture(autouse=True)
def carrier(request):
    """By which way the test's hot requests go: the fast lane, if it is not marked BOTH_WAYS."""
    WAY["carrier"] = getattr(request, "param", "lane")
    yield WAY["carrier"]
    WAY["carrier"] = "lane"


@pytest.fixture
async def worker(anyio_backend):
    """A worker on loopback with one account, fakes behind it."""
    async with running(make_worker()) as started:
        yield started


@pytest.fixture(scope="module")
def elsewhere():
    """A worker in a thread with a loop of its own, for tests that are not async."""
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()
    worker = make_worker()

    async def serve():
        async with running(worker):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(10)
    yield worker
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()

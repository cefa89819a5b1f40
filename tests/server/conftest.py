"""The running worker that tests of routes ask."""

import pytest

from tests.server.worker import make_worker, running


@pytest.fixture
async def worker(anyio_backend):
    """A worker on loopback with one account, fakes behind it."""
    async with running(make_worker()) as started:
        yield started

"""How background responses end where something is in the way: limits, deletion, a bad store."""

import asyncio
import time

import pytest

from farebox.errors import BillingUnavailable
from tests.server.asking import REQUEST, create, events_in, get, post, will_stream
from tests.server.worker import FakeBooks, LazyStore, make_worker, running

pytestmark = pytest.mark.anyio

ASKED = {**REQUEST, "background": True}


async def test_what_grows_too_large_to_be_kept_is_refused_before_it_is_charged(anyio_backend):
    """References stand for whole items, and many small items for more than they say: 400."""
    async with running(make_worker(responses_max_kept_bytes=8000)) as worker:
        large = await create(worker, input="x" * 5000)
        (item,) = (await get(worker, large["id"] + "/input_items")).json["data"]
        references = [{"type": "item_reference", "id": item["id"]}] * 2
        small = [{"role": "user", "content": "a"}] * 60
        for items in (references, small):
            refused = await post(worker, model="m", input=items, background=True)
            assert (refused.status, refused.json["error"]["param"]) == (400, "background")
            plain = await create(worker, input=items)
            assert (plain["store"], (await get(worker, plain["id"])).status) == (False, 404)
        assert len(worker.books.settlements) == 3


async def test_who_follows_one_that_is_deleted_is_told(worker):
    """At once, by an event: a stream that just ends would be asked for again."""
    exchange = will_stream(worker, "Hel", asyncio.Event())
    queued = (await post(worker, **ASKED)).json
    async with asyncio.timeout(20):
        while len(exchange.script) > 4:
            await asyncio.sleep(0.01)
    following = asyncio.create_task(get(worker, queued["id"] + "?stream=true"))
    await asyncio.sleep(0.3)
    await get(worker, queued["id"], method="DELETE")
    async with asyncio.timeout(20):
        events = events_in((await following).body)
    assert events[-1] == {
        "type": "error",
        "sequence_number": len(events) - 1,
        "code": None,
        "message": "The response was deleted.",
        "param": None,
    }


class UnforgettingStore(LazyStore):
    """A store that fails when something is to be deleted."""

    def delete_response(self, *_args):
        raise OSError("no such disk")


async def test_a_refusal_is_told_also_when_its_trace_stays(anyio_backend):
    """The store that failed the hold may fail again: an error, not a client that waits for ever."""
    async with running(make_worker(kept=UnforgettingStore())) as worker:
        worker.books.refuse = BillingUnavailable("The books.")
        async with asyncio.timeout(20):
            assert (await post(worker, **ASKED)).status == 503


async def test_a_response_counts_as_delivered_when_its_end_is_written(anyio_backend):
    """Until then it would be lost with the process, though it was charged."""
    async with running(make_worker(kept=SlowStore())) as worker:
        will_stream(worker, "Hello!")
        queued = (await post(worker, **ASKED)).json
        async with asyncio.timeout(20):
            while not worker.books.settlements:
                await asyncio.sleep(0.01)
            assert worker.books.delivered_ids == []
            while not worker.books.delivered_ids:
                await asyncio.sleep(0.01)
        assert (await get(worker, queued["id"])).json["status"] == "completed"
        (settlement,) = worker.books.settlements
        assert worker.books.delivered_ids == [settlement.request_id]


class SlowStore(LazyStore):
    """A store that takes its time with ends."""

    def keep_response(self, response, events=()):
        if response.status == "completed":
            time.sleep(0.7)
        self.__getattr__("keep_response")(response, events)


async def test_an_end_that_is_being_written_when_the_worker_ends_is_written(anyio_backend):
    """It was charged by then: the drain's end does not make it one that failed."""
    async with running(make_worker(kept=SlowStore())) as worker:
        will_stream(worker, "Hello!")
        queued = (await post(worker, **ASKED)).json
        async with asyncio.timeout(20):
            while not worker.books.settlements:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        await worker.state.background.finish(0)
        assert (await get(worker, queued["id"])).json["status"] == "completed"


class SilentBooks(FakeBooks):
    """Books that do not answer whether a call can be held for."""

    def __init__(self):
        super().__init__()
        self.asked_ids = []

    async def hold(self, request):
        self.asked_ids.append(request.request_id)
        await asyncio.Event().wait()


async def test_one_that_is_cut_off_while_it_is_held_for_leaves_no_hold(worker):
    """Nobody would settle it; who waits is told."""
    books = worker.state.gateway.books = SilentBooks()
    asking = asyncio.create_task(post(worker, **ASKED))
    async with asyncio.timeout(20):
        while not books.asked_ids:
            await asyncio.sleep(0.01)
        await worker.state.background.finish(0)
        assert (await asking).json["error"]["code"] == "server_shutdown"
    assert (books.released_ids, books.settlements) == (books.asked_ids, [])


async def test_who_has_read_the_last_event_finds_the_response_that_it_shows(anyio_backend):
    """Status, output and usage, at once: the event does not come before what it tells of."""
    async with running(make_worker(kept=SlowStore())) as worker:
        will_stream(worker, "Hello!")
        queued = (await post(worker, **ASKED)).json
        last = events_in((await get(worker, queued["id"] + "?stream=true")).body)[-1]
        assert last["type"] == "response.completed"
        assert (await get(worker, queued["id"])).json == last["response"]

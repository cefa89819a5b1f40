"""Responses in the background: started, followed, cancelled, orphaned, drained."""

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager, closing

import openai
import pytest

from farebox.errors import BillingUnavailable, OutOfCredit, UpstreamFailed
from farebox.server import replay
from farebox.server.background import Background
from tests.server.asking import CANARY, REQUEST, create, events_in, get, post, stored, will_stream
from tests.server.worker import BOTH_WAYS, JSON_HEAD, LazyStore, make_worker, running

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

ASKED = {**REQUEST, "background": True}


async def ended(worker, response_id, status="completed"):
    """The response once it has ended."""
    async with asyncio.timeout(10):
        while (answer := await get(worker, response_id)).json["status"] in (
            "queued",
            "in_progress",
        ):
            await asyncio.sleep(0.05)
    assert answer.json["status"] == status, answer.json
    return answer.json


async def started(worker, **fields):
    """A background response's object as it was answered."""
    answer = await post(worker, **{**ASKED, **fields})
    assert answer.status == 200, answer.body
    return answer.json


@asynccontextmanager
async def two_workers(**settings):
    """Two processes of one gateway, as far as the store can tell: keys, money and store are one."""
    one = make_worker(**settings)
    async with running(one):
        other = make_worker(kept=one.state.kept, **settings)
        other.state.directory = one.state.directory
        other.state.background = Background("w1-test")
        other.secret = one.secret
        async with running(other):
            yield one, other


async def test_it_is_answered_at_once_and_ends_in_its_time(worker):
    """Queued with an empty output; then in progress; then what a plain call would have given."""
    gate = asyncio.Event()
    will_stream(worker, "Hel", gate, "lo!")
    queued = await started(worker, metadata={"k": "v"})
    assert (queued["status"], queued["output"], queued["background"]) == ("queued", [], True)
    assert (queued["usage"], queued["store"]) == (None, True)
    await until(lambda: worker.upstream.requests)
    await asyncio.sleep(0.3)
    now = (await get(worker, queued["id"])).json
    assert now == {**queued, "status": "in_progress"}
    assert worker.books.settlements == []
    gate.set()
    done = await ended(worker, queued["id"])
    assert done["output"][0]["content"][0]["text"] == "Hello!"
    assert done["usage"]["total_tokens"] == 15
    kept = ("id", "created_at", "metadata", "model", "background", "tools", "store")
    assert {name: done[name] for name in kept} == {name: queued[name] for name in kept}
    (settlement,) = worker.books.settlements
    assert (settlement.outcome, settlement.due_nanocredits) == ("complete", 20_000)


async def until(holds):
    """Wait for something that must come soon."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_its_events_are_streamed_as_they_come_and_again(worker):
    """Created, queued, in progress and so on, in order and from any number on."""
    will_stream(worker, "Hel", "lo!")
    answer = await post(worker, **ASKED, stream=True)
    events = events_in(answer.body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    assert [event["response"]["status"] for event in events[:3]] == [
        "queued",
        "queued",
        "in_progress",
    ]
    last = events[-1]
    assert last["type"] == "response.completed"
    assert {event["response"]["created_at"] for event in events if "response" in event} == {
        last["response"]["created_at"]
    }
    assert await ended(worker, last["response"]["id"]) == last["response"]
    for after in (0, 4, len(events) - 2, len(events) - 1, len(events) + 5):
        path = f"{last['response']['id']}?stream=true&starting_after={after}"
        assert events_in((await get(worker, path)).body) == events[after + 1 :]
    again = await get(worker, last["response"]["id"] + "?stream=true")
    assert events_in(again.body) == events


async def test_it_goes_on_when_its_client_has_gone(worker):
    """Hanging up on the stream ends the stream, not the response."""
    gate = asyncio.Event()
    will_stream(worker, "Hel", gate, "lo!")
    body = json.dumps({**ASKED, "stream": True}).encode()
    reader, writer = await worker.send("POST", "/v1/responses", None, body, worker.secret)
    seen = b""
    while b"response.output_text.delta" not in seen:
        seen += await reader.read(65536)
    writer.close()
    response_id = "resp_" + seen.split(b"resp_")[1][:22].decode()
    await asyncio.sleep(0.1)
    gate.set()
    done = await ended(worker, response_id)
    assert done["output"][0]["content"][0]["text"] == "Hello!"


async def test_a_stream_is_followed_from_another_worker(anyio_backend):
    """With signs of life while nothing comes, which bear the last number."""
    async with two_workers(keepalive_s=0.3) as (one, other):
        gate = asyncio.Event()
        will_stream(one, "Hel", gate, "lo!")
        queued = await started(one)
        following = asyncio.create_task(get(other, queued["id"] + "?stream=true"))
        await asyncio.sleep(1.2)
        gate.set()
        events = events_in((await following).body)
        signs = [event for event in events if event["type"] == "keepalive"]
        real = [event for event in events if event["type"] != "keepalive"]
        assert signs
        assert {sign["sequence_number"] for sign in signs} <= set(range(len(real)))
        assert [event["sequence_number"] for event in real] == list(range(len(real)))
        assert real[-1]["response"] == (await get(other, queued["id"])).json


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_cancel_reaches_the_call_wherever_it_runs(anyio_backend, elsewhere):
    """The upstream is dropped, what was delivered is charged, and asking again changes nothing."""
    async with two_workers() as (one, other):
        exchange = will_stream(one, "Hel", asyncio.Event(), "lo!")
        queued = await started(one)
        await until(lambda: len(exchange.script) <= 5)
        asked = other if elsewhere else one
        answer = await get(asked, queued["id"] + "/cancel", method="POST")
        assert (answer.status, answer.json["status"]) == (200, "cancelled")
        assert answer.json["error"] is None
        done = await ended(one, queued["id"], "cancelled")
        assert exchange.aborted.is_set()
        await until(lambda: one.books.settlements)
        (settlement,) = one.books.settlements
        assert settlement.outcome == "client_gone"
        assert settlement.due_nanocredits > 0
        again = await get(asked, queued["id"] + "/cancel", method="POST")
        assert (again.status, again.json) == (200, done)
        events = events_in((await get(one, queued["id"] + "?stream=true")).body)
        assert events[-1]["type"] == "response.failed"
        assert events[-1]["response"] == done


async def test_cancelling_what_has_ended_changes_nothing(worker):
    """It is answered as it is."""
    will_stream(worker, "Hello!")
    done = await ended(worker, (await started(worker))["id"])
    answer = await get(worker, done["id"] + "/cancel", method="POST")
    assert (answer.status, answer.json) == (200, done)


async def test_deleting_one_that_runs_ends_it_and_leaves_nothing(worker):
    """The call is dropped and charged; the store has no word of it, its events included."""
    exchange = will_stream(worker, f"{CANARY} says", asyncio.Event(), "more")
    queued = await started(worker, input=f"{CANARY} asks")
    await until(lambda: len(exchange.script) <= 5)
    await asyncio.sleep(0.3)
    assert (await get(worker, queued["id"], method="DELETE")).json["deleted"] is True
    assert (await get(worker, queued["id"])).status == 404
    await until(lambda: worker.books.settlements)
    await until(lambda: not worker.state.background.runs(queued["id"]))
    assert CANARY.encode() not in stored(worker)
    with closing(sqlite3.connect(worker.state.kept.path)) as database:
        assert database.execute("SELECT count(*) FROM responses").fetchone() == (0,)


SEALED, UNSUITED = "invalid_encrypted_content", "unsupported_value"


@pytest.mark.parametrize(
    ("refusal", "status"),
    [(OutOfCredit("0.1 credits are missing."), 429), (BillingUnavailable("The books."), 503)],
)
async def test_what_stands_against_it_at_once_is_an_http_error(worker, refusal, status):
    """No row is left of it, and no place taken."""
    worker.books.refuse = refusal
    for stream in (False, True):
        answer = await post(worker, **ASKED, stream=stream)
        assert answer.status == status
    answer = await post(worker, **{**ASKED, "model": "nowhere"})
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    worker.books.refuse = None
    for items, code in (
        ([{"type": "reasoning", "summary": [], "encrypted_content": "fb1.foreign"}], SEALED),
        ([{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}], UNSUITED),
    ):
        answer = await post(worker, **{**ASKED, "input": items})
        assert (answer.status, answer.json["error"]["code"]) == (400, code)
        assert worker.books.settlements.pop().due_nanocredits == 0
    with closing(sqlite3.connect(worker.state.kept.path)) as database:
        assert database.execute("SELECT count(*) FROM responses").fetchone() == (0,)
    await worker.state.background.finish(0)


@pytest.mark.parametrize("script", [[UpstreamFailed("Reset.", reason="reset")], [b"rubbish"]])
async def test_what_fails_later_is_a_failed_response(worker, script):
    """With an error that has a code and a sentence; nothing is charged."""
    worker.will_answer(JSON_HEAD, *script)
    done = await ended(worker, (await started(worker))["id"], "failed")
    assert done["error"]["code"] == "server_error"
    assert done["error"]["message"]
    events = events_in((await get(worker, done["id"] + "?stream=true")).body)
    assert (events[-1]["type"], events[-1]["response"]) == ("response.failed", done)
    assert worker.books.settlements[-1].due_nanocredits == 0


async def test_one_whose_owner_died_has_failed(worker):
    """Its row says so, whoever is asked; who follows its events gets an end."""
    exchange = will_stream(worker, "Hel", asyncio.Event())
    queued = await started(worker)
    await until(lambda: not exchange.script[1:] or len(exchange.script) <= 3)
    await asyncio.sleep(0.3)
    worker.state.background._runs.clear()  # as if it ran elsewhere
    following = asyncio.create_task(get(worker, queued["id"] + "?stream=true"))
    await asyncio.sleep(0.3)
    worker.state.kept.fail_orphans("w0-test")
    answer = await get(worker, queued["id"])
    assert (answer.json["status"], answer.json["error"]["code"]) == ("failed", "server_error")
    assert "ended before it was complete" in answer.json["error"]["message"]
    events = events_in((await following).body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (events[-1]["type"], events[-1]["response"]) == ("response.failed", answer.json)
    exchange.abort()
    await asyncio.sleep(0.2)


async def test_the_end_of_a_worker_is_waited_for_and_then_an_error(anyio_backend):
    """One that ends within the drain's time is complete; another fails, charged what came."""
    async with running(make_worker()) as worker:
        gate = asyncio.Event()
        will_stream(worker, "Hel", gate, "lo!")
        quick = await started(worker)
        will_stream(worker, "never", asyncio.Event(), "more")
        slow = await started(worker)
        await until(lambda: len(worker.upstream.requests) == 2)
        await asyncio.sleep(0.3)
        asyncio.get_running_loop().call_later(0.2, gate.set)
        await worker.state.background.finish(0.8)
        assert (await ended(worker, quick["id"]))["output"][0]["content"][0]["text"] == "Hello!"
        failed = await ended(worker, slow["id"], "failed")
        assert "shutting down" in failed["error"]["message"]
        assert failed["output"] == [] or failed["output"][0]["content"][0]["text"] == "never"
        worker.state.ending = True
        assert (await post(worker, **ASKED)).status == 503


async def test_an_account_may_run_only_so_many(anyio_backend):
    """More are 429 with Retry-After; another account has places of its own."""
    worker = make_worker()
    worker.state.background = Background("w0-test", most_of_one=1)
    bob = worker.keys.add("bob")
    async with running(worker):
        gate = asyncio.Event()
        will_stream(worker, gate, "Hello!")
        first = await started(worker)
        refused = await post(worker, **ASKED)
        assert (refused.status, refused.headers["retry-after"]) == (429, "10")
        will_stream(worker, "Hello!")
        assert (await post(worker, secret=bob, **ASKED)).status == 200
        gate.set()
        await ended(worker, first["id"])
        will_stream(worker, "Hello!")
        await ended(worker, (await started(worker))["id"])


async def test_one_that_runs_cannot_be_gone_on_from(worker):
    """400 with a sentence; when it has ended it can."""
    gate = asyncio.Event()
    will_stream(worker, gate, "one")
    first = await started(worker, input="1")
    answer = await post(worker, **REQUEST, previous_response_id=first["id"])
    assert (answer.status, answer.json["error"]["param"]) == (400, "previous_response_id")
    assert "still" in answer.json["error"]["message"]
    gate.set()
    await ended(worker, first["id"])
    assert (await create(worker, previous_response_id=first["id"]))["status"] == "completed"


async def test_background_needs_the_response_to_be_kept(worker):
    """store:false is 400; nothing is written or sent."""
    answer = await post(worker, **ASKED, store=False)
    assert (answer.status, answer.json["error"]["param"]) == (400, "background")
    assert worker.upstream.requests == []


async def test_many_events_pass_through_the_store_in_order(worker):
    """More than are read at once, written in batches; the text is whole."""
    words = [f"w{n} " for n in range(700)]
    will_stream(worker, *words)
    answer = await post(worker, **ASKED, stream=True)
    events = events_in(answer.body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [event["delta"] for event in events if event["type"].endswith("text.delta")]
    assert "".join(deltas) == "".join(words)
    assert len(events) > 2 * replay._EVENTS_AT_ONCE


class FlakyStore:
    """A store that cannot be written for a moment."""

    def __init__(self, store):
        self.store = store
        self.broken = False

    def __getattr__(self, name):
        if self.broken:
            raise OSError("no such disk")
        return getattr(self.store, name)


async def test_a_bad_moment_of_the_store_loses_no_event(anyio_backend):
    """What could not be written is written when it can be again."""
    flaky = FlakyStore(LazyStore())
    async with running(make_worker(kept=flaky)) as worker:
        gate = asyncio.Event()
        will_stream(worker, "Hel", gate, "lo!")
        queued = await started(worker)
        flaky.broken = True
        await asyncio.sleep(0.3)
        gate.set()
        await until(lambda: worker.books.settlements)
        await asyncio.sleep(0.3)
        flaky.broken = False
        done = await ended(worker, queued["id"])
        events = events_in((await get(worker, queued["id"] + "?stream=true")).body)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[-1]["response"] == done
    flaky.store.close()


async def test_the_official_client_polls_follows_and_cancels(worker):
    """openai-python: background create and stream, resume, retrieve, cancel."""
    base_url = worker.origin + "/v1/"
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key=worker.secret, max_retries=0
    ) as client:
        will_stream(worker, "Hel", "lo!")
        stream = await client.responses.create(model="m", input="Hi", background=True, stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "response.completed"
        response_id = events[-1].response.id
        resumed = await client.responses.retrieve(response_id, stream=True, starting_after=3)
        rest = [event async for event in resumed]
        assert [event.sequence_number for event in rest] == [
            event.sequence_number for event in events[4:]
        ]
        exchange = will_stream(worker, "Hel", asyncio.Event())
        made = await client.responses.create(model="m", input="Hi", background=True)
        await until(lambda: len(exchange.script) <= 4)
        assert (await client.responses.cancel(made.id)).status == "cancelled"
        assert (await client.responses.retrieve(made.id)).status == "cancelled"

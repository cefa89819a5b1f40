"""What a call says of kept responses, and what is kept of its own."""

import json
import sqlite3
from contextlib import closing

import pytest

from farebox.core import clock
from tests.server.asking import (
    CANARY,
    REQUEST,
    create,
    events_in,
    get,
    post,
    sent_messages,
    speaking,
    stored,
    will_say,
    will_stream,
)
from tests.server.worker import make_worker, running

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["chat", "responses"])
async def worker(anyio_backend, request):
    """Once over an upstream that speaks chat, once over one that speaks Responses itself: what is
    kept and found is ours on both ways.
    """
    async with running(speaking(make_worker(), request.param)) as started:
        yield started


async def test_a_conversation_goes_on_from_its_last_response(worker):
    """All inputs and outputs of the chain come first, oldest first; not their instructions."""
    first = await create(worker, "one", input="1", instructions="Be brief.")
    second = await create(
        worker, "two", input=[{"role": "user", "content": "2"}], previous_response_id=first["id"]
    )
    third = await create(
        worker, "three", input="3", previous_response_id=second["id"], instructions="Be kind."
    )
    assert third["previous_response_id"] == second["id"]
    assert sent_messages(worker) == [
        ("system", "Be kind."),
        ("user", "1"),
        ("assistant", "one"),
        ("user", "2"),
        ("assistant", "two"),
        ("user", "3"),
    ]
    # Only what each request brought is kept with it.
    listed = (await get(worker, third["id"] + "/input_items")).json
    assert [item["content"][0]["text"] for item in listed["data"]] == ["3"]


async def test_an_item_can_be_referenced(worker):
    """By its id, with and without a type; input items and output items alike."""
    first = await create(worker, "one", input="1")
    items = (await get(worker, first["id"] + "/input_items")).json["data"]
    await create(
        worker,
        input=[
            {"type": "item_reference", "id": items[0]["id"]},
            {"id": first["output"][0]["id"]},
            {"role": "user", "content": "2"},
        ],
    )
    assert sent_messages(worker) == [("user", "1"), ("assistant", "one"), ("user", "2")]


async def test_a_reference_in_a_kept_conversation_stays_whole(worker):
    """What was referenced is kept with the response, so that the first one may be deleted."""
    first = await create(worker, "one", input="1")
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    second = await create(worker, "two", input=[reference, {"role": "user", "content": "2"}])
    await get(worker, first["id"], method="DELETE")
    await create(worker, input="3", previous_response_id=second["id"])
    assert sent_messages(worker) == [
        ("assistant", "one"),
        ("user", "2"),
        ("assistant", "two"),
        ("user", "3"),
    ]


@pytest.mark.parametrize("kind", ["unknown", "another's", "deleted", "expired", "not kept"])
async def test_what_is_not_there_cannot_be_gone_on_from(worker, kind):
    """400 previous_response_not_found and item_not_found, whatever the reason; nothing is sent."""
    bob = worker.keys.add("bob")
    await worker.state.directory.reload()
    previous_id, item_id = await missing(worker, kind, bob)
    sent = len(worker.upstream.requests)
    answer = await post(worker, **REQUEST, previous_response_id=previous_id)
    assert (answer.status, answer.json["error"]) == (
        400,
        {
            "message": f"Previous response with id '{previous_id}' not found.",
            "type": "invalid_request_error",
            "param": "previous_response_id",
            "code": "previous_response_not_found",
        },
    )
    answer = await post(worker, model="m", input=[{"type": "item_reference", "id": item_id}])
    error = answer.json["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "item_not_found", "input")
    assert error["message"].startswith(f"Item with id '{item_id}' not found.")
    assert len(worker.upstream.requests) == sent


async def test_an_upstream_hears_nothing_of_what_is_kept_here(worker):
    """No id of a response, no reference, no wish to keep anything."""
    first = await create(worker, "one", input="1", metadata={"k": "v"})
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    await create(worker, input=[reference], previous_response_id=first["id"], store=True)
    sent = json.loads(worker.upstream.requests[-1].body)
    assert sent.get("store", False) is False
    assert not {"previous_response_id", "conversation", "background"} & set(sent)
    assert b"item_reference" not in worker.upstream.requests[-1].body
    assert first["id"].encode() not in worker.upstream.requests[-1].body


async def missing(worker, kind, bob):
    """A response and an item of it that are not there for the worker's own account."""
    if kind == "unknown":
        return "resp_none", "msg_none"
    secret = bob if kind == "another's" else None
    made = await create(worker, secret=secret, store=kind != "not kept")
    if kind == "deleted":
        assert (await get(worker, made["id"], method="DELETE")).status == 200
    if kind == "expired":
        expire(worker)
    return made["id"], made["output"][0]["id"]


def expire(worker):
    """All that is kept is past its time."""
    with closing(sqlite3.connect(worker.state.kept.path)) as database, database:
        database.execute("UPDATE responses SET expires_us = ?", (clock.now_us() - 1,))


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_is_written_of_what_shall_not_be_kept(worker, stream):
    """store:false: the answer says so, GET does not find it, and the store has no word of it."""
    will_stream(worker, CANARY) if stream else will_say(worker, CANARY)
    body = {**REQUEST, "input": CANARY, "store": False, "stream": stream, "metadata": {"k": CANARY}}
    answer = await post(worker, **body)
    response = events_in(answer.body)[-1]["response"] if stream else answer.json
    assert response["store"] is False
    assert "x-farebox-adjusted" not in answer.headers
    assert (await get(worker, response["id"])).status == 404
    assert CANARY.encode() not in stored(worker)


@pytest.mark.parametrize(
    "settings", [{"responses_store": False}, {"responses_max_kept_bytes": 500}]
)
async def test_what_may_not_be_kept_is_said_to_be_not(anyio_backend, settings):
    """The operator's switch and the limit: store is false, and who asked for it is told."""
    async with running(make_worker(**settings)) as worker:
        text = CANARY * 100
        will_say(worker, "Hello!")
        asked = await post(worker, model="m", input=text, store=True)
        assert asked.headers["x-farebox-adjusted"].split(", ")[0] == "store=dropped"
        will_say(worker, "Hello!")
        silent = await post(worker, model="m", input=text)
        assert "store=dropped" not in silent.headers.get("x-farebox-adjusted", "")
        for answer in (asked, silent):
            assert (answer.status, answer.json["store"]) == (200, False)
            assert (await get(worker, answer.json["id"])).status == 404
        refused = await post(worker, model="m", input=text, background=True)
        assert (refused.status, refused.json["error"]["param"]) == (400, "background")
        assert CANARY.encode() not in stored(worker)


async def test_an_answer_that_is_too_large_is_given_and_not_kept(anyio_backend):
    """The limit is on input and output together."""
    async with running(make_worker(responses_max_kept_bytes=2000)) as worker:
        response = await create(worker, "word " * 1000)
        assert (await get(worker, response["id"])).status == 404


class BrokenStore:
    """A store whose disk has gone."""

    def __getattr__(self, name):
        def fails(*_args):
            raise OSError("no such disk")

        return fails


async def test_a_store_that_is_down_costs_nobody_an_answer(anyio_backend):
    """A new conversation is answered; what must be read first is 503, to be tried again."""
    async with running(make_worker(kept=BrokenStore())) as worker:
        assert (await create(worker))["status"] == "completed"
        answer = await post(worker, **REQUEST, previous_response_id="resp_x")
        assert (answer.status, answer.json["error"]["code"]) == (503, "billing_unavailable")
        assert answer.headers["retry-after"] == "5"
        assert (await get(worker, "resp_x")).status == 503
        assert (await post(worker, **REQUEST, background=True)).status == 503
        assert len(worker.books.settlements) == 1


async def test_a_chain_beyond_the_limit_of_a_body_is_400(anyio_backend):
    """With the code that clients know as: the conversation is too long."""
    async with running(make_worker(max_body_bytes=3000)) as worker:
        first = await create(worker, "a" * 2000, input="b" * 500)
        answer = await post(worker, model="m", input="c" * 600, previous_response_id=first["id"])
        assert (answer.status, answer.json["error"]["code"]) == (400, "context_length_exceeded")
        assert "3000 bytes" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ["text"]},
        {"input": [{"type": "item_reference"}]},
        {"input": [5]},
        {"previous_response_id": 5},
        {"store": "yes"},
    ],
)
async def test_bad_state_is_refused_before_anything_is_spent(worker, fields):
    """400 with the parameter's name; no hold, no request."""
    answer = await post(worker, **{**REQUEST, **fields})
    assert (answer.status, answer.json["error"]["param"]) == (400, next(iter(fields)))
    assert (worker.upstream.requests, worker.books.settlements) == ([], [])


async def test_a_compaction_stands_for_all_that_was_before_it(anyio_backend):
    """Who goes on from a response that ended with a summary goes on from the summary."""
    async with running(make_worker()) as worker:
        first = await create(worker, "two", input="one")
        trigger = {"type": "compaction_trigger"}
        second = await create(
            worker, "They counted.", input=[trigger], previous_response_id=first["id"]
        )
        assert [item["type"] for item in second["output"]] == ["compaction"]
        await create(worker, input="three", previous_response_id=second["id"])
        told = sent_messages(worker)
        assert told[-1] == ("user", "three")
        assert "They counted." in json.dumps(told)
        assert "one" not in [text for _, text in told]
        assert len(told) == 2

"""POST /v1/responses and what is kept of it, from the socket to the gateway's seams and the
store.
"""

import asyncio
import json
import sqlite3
from contextlib import closing

import openai
import pytest

from farebox.core import clock
from farebox.errors import OutOfCredit
from tests.server.asking import (
    REQUEST,
    create,
    events_in,
    get,
    post,
    sent_messages,
    will_say,
    will_stream,
)
from tests.server.worker import make_worker, running

pytestmark = pytest.mark.anyio

CANARY = "canary-of-a-user"


async def test_a_response_is_answered_charged_and_kept(worker):
    """The answer's id is the request's; GET gives the very same object at once."""
    response = await create(worker)
    (settlement,) = worker.books.settlements
    assert response["id"] == "resp_" + settlement.request_id.removeprefix("req_")
    assert (settlement.dialect, settlement.outcome) == ("responses", "complete")
    assert settlement.due_nanocredits == 10 * 1000 + 5 * 2000
    assert (response["status"], response["store"]) == ("completed", True)
    kept = await get(worker, response["id"])
    assert (kept.status, kept.headers["cache-control"]) == (200, "no-store")
    assert kept.json == response


async def test_a_streamed_response_is_kept_before_its_end_leaves(worker):
    """What the terminal event holds is what GET gives."""
    will_stream(worker, "Hel", "lo!")
    answer = await post(worker, **REQUEST, stream=True)
    events = events_in(answer.body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    response = events[-1]["response"]
    assert (await get(worker, response["id"])).json == response


async def test_a_response_is_kept_also_when_its_client_has_gone(worker):
    """The upstream is read on for the usage, and so the answer is whole."""
    gate = asyncio.Event()
    will_stream(worker, "Hel", gate, "lo!")
    body = json.dumps({**REQUEST, "stream": True}).encode()
    reader, writer = await worker.send("POST", "/v1/responses", None, body, worker.secret)
    seen = b""
    while b"response.output_text.delta" not in seen:
        seen += await reader.read(65536)
    writer.close()
    await asyncio.sleep(0.05)
    gate.set()
    while not worker.books.settlements:
        await asyncio.sleep(0.01)
    (settlement,) = worker.books.settlements
    assert settlement.outcome == "client_gone"
    response_id = "resp_" + settlement.request_id.removeprefix("req_")
    async with asyncio.timeout(5):
        while (kept := await get(worker, response_id)).status == 404:
            await asyncio.sleep(0.02)
    assert kept.json["output"][0]["content"][0]["text"] == "Hello!"


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


async def test_another_accounts_response_is_as_unknown(worker):
    """Every route that takes an id answers the same, byte for byte but for the id."""
    bob = worker.keys.add("bob")
    await worker.state.directory.reload()
    made = (await create(worker, secret=bob))["id"]
    for method, path in (
        ("GET", ""),
        ("GET", "?stream=true&starting_after=3"),
        ("GET", "/input_items?limit=5"),
        ("DELETE", ""),
        ("POST", "/cancel"),
    ):
        others = await get(worker, made + path, method=method)
        unknown = await get(worker, "resp_none" + path, method=method)
        assert others.status == unknown.status == 404
        assert others.body == unknown.body.replace(b"resp_none", made.encode())
        same = ("content-type", "cache-control")
        assert [others.headers.get(h) for h in same] == [unknown.headers.get(h) for h in same]
    assert (await get(worker, made, bob)).status == 200
    assert unknown.json["error"] == {
        "message": "Response with id 'resp_none' not found.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


async def test_a_response_is_deleted_with_all_of_its_content(worker):
    """As OpenAI answers; then it is unknown, and nothing of it is left in the store."""
    response = await create(worker, f"{CANARY} out", input=f"{CANARY} in")
    assert CANARY.encode() in stored(worker)
    answer = await get(worker, response["id"], method="DELETE")
    assert answer.json == {"id": response["id"], "object": "response", "deleted": True}
    assert (await get(worker, response["id"])).status == 404
    assert (await get(worker, response["id"], method="DELETE")).status == 404
    assert CANARY.encode() not in stored(worker)


def stored(worker):
    """The store's file with everything that was written."""
    path = worker.state.kept.path
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


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


async def test_errors_before_the_answer_are_as_in_chat(worker):
    """OpenAI's shape: a stranger, an unknown model, an empty balance."""
    assert (await post(worker, **REQUEST, secret="sk-fb-x")).status == 401
    answer = await post(worker, **{**REQUEST, "model": "mm"})
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    worker.books.refuse = OutOfCredit("0.1 credits are missing.")
    answer = await post(worker, **REQUEST, stream=True)
    assert (answer.status, answer.json["error"]["type"]) == (429, "insufficient_quota")


async def test_a_query_is_ignored(worker):
    """SDKs add ?beta=true."""
    will_say(worker, "Hello!")
    assert (await post(worker, "?beta=true", **REQUEST)).status == 200


async def test_input_items_are_listed_in_pages(worker):
    """Newest first unless told otherwise; each has an id, a type and content in parts."""
    items = [{"role": "user", "content": f"{n}"} for n in range(3)]
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "done"}
    made = await create(worker, input=[*items, call, output])
    base = made["id"] + "/input_items"
    everything = (await get(worker, base + "?order=asc&include[]=x")).json
    assert (everything["object"], everything["has_more"]) == ("list", False)
    assert [item["type"] for item in everything["data"]] == ["message"] * 3 + [
        "function_call",
        "function_call_output",
    ]
    assert everything["data"][0]["content"] == [{"type": "input_text", "text": "0"}]
    ids = [item["id"] for item in everything["data"]]
    assert (everything["first_id"], everything["last_id"]) == (ids[0], ids[-1])
    assert len(set(ids)) == 5
    page = (await get(worker, base + "?limit=2")).json
    assert [item["id"] for item in page["data"]] == ids[:2:-1]
    assert page["has_more"] is True
    page = (await get(worker, f"{base}?limit=3&after={page['last_id']}")).json
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (ids[2::-1], False)
    empty = (await get(worker, f"{base}?after={ids[0]}")).json
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "limit=-1", "order=up", "after=none", "limit=%D9%A3"],
)
async def test_a_bad_query_of_input_items_is_400(worker, query):
    """With the parameter's name."""
    made = await create(worker)
    answer = await get(worker, f"{made['id']}/input_items?{query}")
    assert answer.status == 400
    assert answer.json["error"]["param"] == query.partition("=")[0]


async def test_only_background_responses_are_streamed_again_or_cancelled(worker):
    """400 for one that was answered at once."""
    made = await create(worker)
    for answer in (
        await get(worker, made["id"] + "?stream=true"),
        await get(worker, made["id"] + "/cancel", method="POST"),
    ):
        assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
        assert "background=true" in answer.json["error"]["message"]


async def test_the_official_client_keeps_and_finds(worker):
    """openai-python: create, retrieve, go on, list the input, delete."""
    base_url = worker.origin + "/v1/"
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key=worker.secret, max_retries=0
    ) as client:
        will_say(worker, "Hello!")
        made = await client.responses.create(model="m", input="Hi")
        assert made.output_text == "Hello!"
        assert (await client.responses.retrieve(made.id)).output_text == "Hello!"
        items = await client.responses.input_items.list(made.id)
        assert [item.type async for item in items] == ["message"]
        will_stream(worker, "Good", " day")
        async with client.responses.stream(
            model="m", input="more", previous_response_id=made.id
        ) as stream:
            final = await stream.get_final_response()
        assert final.output_text == "Good day"
        assert (await client.responses.retrieve(final.id)).previous_response_id == made.id
        await client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError, match="not kept any more"):
            await client.responses.create(model="m", input="x", previous_response_id=final.id)


async def test_a_failure_of_the_upstream_is_kept_as_such(worker):
    """A stream that broke off ends with response.failed, which GET shows too."""
    exchange = will_stream(worker, "Hel")
    del exchange.script[-2:]
    answer = await post(worker, **REQUEST, stream=True)
    last = events_in(answer.body)[-1]
    assert last["type"] == "response.failed"
    kept = await get(worker, last["response"]["id"])
    assert kept.json == last["response"]
    assert kept.json["error"]["code"] == "server_error"

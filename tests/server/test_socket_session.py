"""Responses over a WebSocket: what they are, and what is remembered of them."""

import asyncio
import json

import pytest

from farebox.errors import OutOfCredit, UpstreamFailed
from tests.server.sockets import FIRST, REST, ask, create, frames, message, sent_messages, socket
from tests.server.worker import SSE_HEAD, make_worker, running

pytestmark = pytest.mark.anyio


async def test_a_response_is_the_stream_of_a_post_in_frames(worker):
    """The same events, numbered, with the usage that was charged, and one settlement."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        found = await ask(opened)
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    assert [each["type"] for each in found[:2]] == ["response.created", "response.in_progress"]
    assert "stream_id" not in found[0]
    response = found[-1]["response"]
    assert response["output"][0]["content"][0]["text"] == "Hello there"
    assert (response["usage"]["input_tokens"], response["usage"]["output_tokens"]) == (10, 5)
    settlement = worker.books.settlements[0]
    assert response["id"] == settlement.request_id.replace("req_", "resp_")
    assert (settlement.dialect, settlement.outcome) == ("responses", "complete")
    assert settlement.due_nanocredits == 20_000


async def test_a_stream_id_comes_back_in_every_frame(worker):
    """Also in that of an error."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        found = await ask(opened, stream_id="mine")
        found += await ask(opened, stream_id="mine", model="nowhere")
    assert {each["stream_id"] for each in found} == {"mine"}
    assert found[-1]["error"]["code"] == "model_not_found"


async def test_what_was_changed_is_told_in_the_first_frame(worker):
    """As a header tells it of a POST."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        found = await ask(opened, tools=[{"type": "web_search"}])
    assert "web_search" in found[0]["x-farebox-adjusted"]
    assert not any("x-farebox-adjusted" in each for each in found[1:])


async def test_a_socket_remembers_what_nobody_stores(worker):
    """With `store: false`, the next response needs only what is new."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    worker.will_answer(SSE_HEAD, FIRST, REST)
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        last = (await ask(opened, "one"))[-1]["response"]
        for text in ("two", "three"):
            last = (await ask(opened, text, previous_response_id=last["id"]))[-1]["response"]
    assert sent_messages(worker, 2) == [
        ("user", "one"),
        ("assistant", "Hello there"),
        ("user", "two"),
        ("assistant", "Hello there"),
        ("user", "three"),
    ]
    assert last["previous_response_id"] is not None


async def test_a_warm_up_costs_nothing_and_is_remembered(worker):
    """`generate: false`: two events and no output, no upstream, no charge; its id is known."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        warm = await ask(opened, "ahead", generate=False)
        assert (worker.upstream.requests, worker.books.settlements) == ([], [])
        await ask(opened, "now", previous_response_id=warm[-1]["response"]["id"])
    assert warm[0]["type"] == "response.created"
    assert warm[-1]["type"] == "response.completed"
    response = warm[-1]["response"]
    assert (response["output"], response["usage"]["total_tokens"]) == ([], 0)
    assert sent_messages(worker, 0) == [("user", "ahead"), ("user", "now")]
    assert len(worker.books.settlements) == 1


async def test_what_one_socket_remembers_no_other_knows(worker):
    """Not even one of the same key: 400, nothing is charged, and the socket goes on."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as one, socket(worker) as other:
        last = (await ask(one))[-1]["response"]
        for warm in (True, False):
            refused = await ask(other, previous_response_id=last["id"], generate=warm)
            assert (refused[0]["type"], refused[0]["status"]) == ("error", 400)
            assert refused[0]["error"]["code"] == "previous_response_not_found"
        assert (await ask(other))[-1]["type"] == "response.completed"
    assert len(worker.books.settlements) == 2


async def test_a_response_that_failed_is_not_gone_on_from(worker):
    """The upstream broke off: `response.failed`, and its id is unknown."""
    worker.will_answer(SSE_HEAD, FIRST)
    async with socket(worker) as opened:
        failed = (await ask(opened))[-1]
        assert failed["type"] == "response.failed"
        refused = await ask(opened, previous_response_id=failed["response"]["id"])
    assert refused[0]["error"]["code"] == "previous_response_not_found"


async def test_a_summary_stands_for_all_that_was_before(worker):
    """After a compaction the next response goes on from it alone."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        items = [message("long ago"), {"type": "compaction_trigger"}]
        compacted = (await ask(opened, input=items))[-1]["response"]
        assert [item["type"] for item in compacted["output"]] == ["compaction"]
        last = await ask(opened, "now", previous_response_id=compacted["id"])
        assert last[-1]["type"] == "response.completed"
    texts = [text for _, text in sent_messages(worker, 1)]
    assert "long ago" not in texts
    assert any("Hello there" in text for text in texts)


async def test_the_history_of_a_socket_is_bounded():
    """The oldest is forgotten, and the client learns that it must send all again."""
    async with running(make_worker(max_body_bytes=40_000)) as worker, socket(worker) as opened:
        ids = []
        for _ in range(3):
            warm = await ask(opened, "x" * 15_000, generate=False)
            ids.append(warm[-1]["response"]["id"])
        old = await ask(opened, previous_response_id=ids[0], generate=False)
        assert old[0]["error"]["code"] == "previous_response_not_found"
        new = await ask(opened, previous_response_id=ids[2], generate=False)
        assert new[-1]["type"] == "response.completed"
        much = await ask(opened, "x" * 30_000, previous_response_id=ids[2], generate=False)
        assert (much[0]["type"], len(much)) == ("error", 1)


async def test_what_is_kept_is_kept_as_of_a_post(worker):
    """`store: true`: it can be read over HTTP and gone on from by another socket of the account,
    by nobody else; a warm-up is remembered and never kept.
    """
    worker.will_answer(SSE_HEAD, FIRST, REST)
    worker.will_answer(SSE_HEAD, FIRST, REST)
    secret = worker.keys.add("bob")
    await worker.state.directory.reload()
    async with socket(worker) as one, socket(worker) as other, socket(worker, secret) as strangers:
        warm = (await ask(one, "ahead", store=True, generate=False))[-1]["response"]
        kept = (await ask(one, "one", store=True, previous_response_id=warm["id"]))[-1]["response"]
        await ask(other, "two", previous_response_id=kept["id"])
        refused = await ask(strangers, previous_response_id=kept["id"])
    assert refused[-1]["error"]["code"] == "previous_response_not_found"
    assert sent_messages(worker, 1) == [
        ("user", "ahead"),
        ("user", "one"),
        ("assistant", "Hello there"),
        ("user", "two"),
    ]
    found = await worker.ask("GET", f"/v1/responses/{kept['id']}", secret=worker.secret)
    assert found.json == kept
    for response_id, key in ((kept["id"], secret), (warm["id"], worker.secret)):
        assert (await worker.ask("GET", f"/v1/responses/{response_id}", secret=key)).status == 404


async def test_a_socket_remembers_where_nothing_may_be_kept():
    """The operator's switch is about the store; the change is told."""
    async with running(make_worker(responses_store=False)) as worker, socket(worker) as opened:
        worker.will_answer(SSE_HEAD, FIRST, REST)
        worker.will_answer(SSE_HEAD, FIRST, REST)
        first = await ask(opened, store=True)
        assert "store=dropped" in first[0]["x-farebox-adjusted"]
        last = await ask(opened, previous_response_id=first[-1]["response"]["id"])
        assert last[-1]["type"] == "response.completed"
        assert len(sent_messages(worker, 1)) == 3


async def test_a_silent_upstream_is_bridged_by_keepalive_events():
    """As in a stream, numbered like all others."""
    async with running(make_worker(keepalive_s=0.1)) as worker, socket(worker) as opened:
        gate = asyncio.Event()
        worker.will_answer(SSE_HEAD, gate, FIRST, REST)
        asyncio.get_running_loop().call_later(0.35, gate.set)
        found = await ask(opened)
    types = [each["type"] for each in found]
    assert types[:3] == ["response.created", "response.in_progress", "keepalive"]
    assert types[-1] == "response.completed"
    assert [each["sequence_number"] for each in found] == list(range(len(found)))


async def test_the_next_response_may_be_asked_for_when_the_last_frame_has_come(worker):
    """Though the upstream's connection is still open, and the relay waits a moment for its end."""
    for _ in range(3):
        worker.will_answer(SSE_HEAD, FIRST, REST, asyncio.Event())
    async with socket(worker) as opened:
        for _ in range(3):
            assert (await ask(opened))[-1]["type"] == "response.completed"
    assert len(worker.books.settlements) == 3


async def test_one_response_at_a_time(worker):
    """A second one is refused at once and not charged; the first ends as if nothing had been."""
    gate = asyncio.Event()
    worker.will_answer(SSE_HEAD, FIRST, gate, REST)
    async with socket(worker) as opened:
        await create(opened)
        while json.loads(await opened.recv())["type"] != "response.output_text.delta":
            pass
        refused = await ask(opened, generate=False)
        assert (refused[-1]["status"], refused[-1]["error"]["code"]) == (
            400,
            "response_in_progress",
        )
        gate.set()
        assert (await frames(opened))[-1]["type"] == "response.completed"
    assert len(worker.books.settlements) == 1


async def test_an_empty_account_is_told_and_the_socket_stays(worker):
    """429 of the kind that makes clients stop; after a top-up the same socket serves on."""
    worker.books.refuse = OutOfCredit("Your balance is 0.")
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        error = (await ask(opened))[-1]
        assert (error["status"], error["error"]["type"]) == (429, "insufficient_quota")
        worker.books.refuse = None
        assert (await ask(opened))[-1]["type"] == "response.completed"


async def test_an_upstream_that_fails_costs_the_response_alone(worker):
    """Before the first event it is an error frame; the socket goes on."""
    worker.will_answer(SSE_HEAD, UpstreamFailed("It broke.", reason="reset"))
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        error = (await ask(opened))[-1]
        assert (error["type"], error["status"]) == ("error", 502)
        assert (await ask(opened))[-1]["type"] == "response.completed"

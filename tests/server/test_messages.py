"""POST /v1/messages from the socket to the gateway's seams: good answers over chat upstreams."""

import asyncio
import json

import pytest

from tests.server.asking import events_in
from tests.server.messaging import (
    CALL,
    HEADERS,
    REQUEST,
    TOOL,
    VENDORS,
    of_vendor,
    post,
    sent,
    will_call,
    will_say,
    will_stream,
)
from tests.server.worker import BOTH_WAYS, make_worker, running

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 5,
}
THINKING = {"type": "enabled", "budget_tokens": 2000}


def message(answer, content, stop_reason="end_turn"):
    """The whole message that an answer must be."""
    return {
        "id": "msg_" + answer.headers["x-request-id"].removeprefix("req_"),
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {**answer.json["usage"], **USAGE},
    }


def said(text):
    return {"type": "text", "text": text}


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_message_is_answered_and_charged_whatever_the_vendor(worker, vendor):
    """The id is the request's, the model's name the client's, and the usage what was charged."""
    will_say(of_vendor(worker, vendor), "Hello!")
    answer = await post(worker)
    (settlement,) = worker.books.settlements
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["request-id"] == answer.headers["x-request-id"] == settlement.request_id
    assert answer.json == message(answer, [said("Hello!")])
    assert (settlement.dialect, settlement.outcome) == ("messages", "complete")
    assert settlement.due_nanocredits == 10 * 1000 + 5 * 2000
    assert sent(worker)["messages"] == REQUEST["messages"]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_stream_goes_from_message_start_to_message_stop(worker, vendor):
    """In Anthropic's order, with the whole usage in message_delta."""
    will_stream(of_vendor(worker, vendor), "Hel", "lo!")
    answer = await post(worker, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_in(answer.body)
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(event["delta"]["text"] for event in events[2:4])
    assert (text, events[0]["message"]["model"]) == ("Hello!", "m")
    assert events[-2]["delta"]["stop_reason"] == "end_turn"
    assert events[-2]["usage"] == {**events[-2]["usage"], **USAGE}
    assert worker.books.settlements[0].due_nanocredits == 10 * 1000 + 5 * 2000


async def test_a_piece_reaches_the_client_before_the_next_is_written(worker):
    """Nothing waits for the rest of an answer."""
    gate = asyncio.Event()
    will_stream(worker, "Hel", gate, "lo!")
    body = json.dumps({**REQUEST, "stream": True}).encode()
    reader, writer = await worker.send("POST", "/v1/messages", HEADERS, body, worker.secret)
    seen = b""
    async with asyncio.timeout(20):
        while b"Hel" not in seen:
            seen += await reader.read(65536)
        gate.set()
        rest = await reader.read()
    writer.close()
    assert b"lo!" in rest
    assert b"message_stop" in rest


async def test_a_tool_is_called_and_its_result_goes_back(worker):
    """tool_use with the input as an object; the result follows its call to the upstream."""
    will_call(worker)
    answer = await post(worker, tools=[TOOL])
    used = {"type": "tool_use", "id": answer.json["content"][-1]["id"], "name": "look"}
    used["input"] = {"at": "door"}
    assert answer.json == message(answer, [used], "tool_use")
    will_say(worker, "It is open.")
    result = {"type": "tool_result", "tool_use_id": used["id"], "content": "open"}
    turns = [
        *REQUEST["messages"],
        {"role": "assistant", "content": answer.json["content"]},
        {"role": "user", "content": [result]},
    ]
    assert (await post(worker, tools=[TOOL], messages=turns)).status == 200
    called, returned = sent(worker)["messages"][1:]
    (call,) = called["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"at": "door"}
    assert returned == {"role": "tool", "tool_call_id": call["id"], "content": "open"}


@pytest.mark.parametrize("vendor", ["deepseek", "zai", "mimo"])
async def test_thinking_is_shown_to_who_asked_and_is_known_again(worker, vendor):
    """A signature of ours brings the thought back to the upstream as it was."""
    of_vendor(worker, vendor)
    will_say(worker, "", reasoning_content="A door?", tool_calls=[CALL])
    answer = await post(worker, tools=[TOOL], thinking=THINKING)
    thought, used = answer.json["content"]
    assert (thought["type"], thought["thinking"], used["type"]) == (
        "thinking",
        "A door?",
        "tool_use",
    )
    will_say(worker, "Open.", reasoning_content="So it is.")
    result = {"type": "tool_result", "tool_use_id": used["id"], "content": "open"}
    turns = [
        *REQUEST["messages"],
        {"role": "assistant", "content": [{**thought, "thinking": ""}, used]},
        {"role": "user", "content": [result]},
    ]
    answer = await post(worker, tools=[TOOL], thinking=THINKING, messages=turns)
    assert [block["type"] for block in answer.json["content"]] == ["thinking", "text"]
    assert sent(worker)["messages"][1]["reasoning_content"] == "A door?"


async def test_thinking_is_not_shown_to_who_did_not_ask(worker):
    """Programs read content[0].text."""
    will_say(of_vendor(worker, "deepseek"), "Hello!", reasoning_content="A greeting.")
    answer = await post(worker)
    assert answer.json == message(answer, [said("Hello!")])


async def test_what_was_dropped_is_named(worker):
    """In the header that other dialects have it in."""
    will_say(worker, "Hello!")
    marked = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    search = {"type": "web_search_20250305", "name": "web_search"}
    turns = [{"role": "user", "content": [marked]}]
    answer = await post(worker, tools=[TOOL, search], messages=turns, top_k=5)
    adjusted = answer.headers["x-farebox-adjusted"].split(", ")
    assert {"tools.web_search=dropped", "cache_control=dropped"} <= set(adjusted)
    assert [tool["function"]["name"] for tool in sent(worker)["tools"]] == ["look"]
    assert b"cache_control" not in worker.upstream.requests[-1].body


async def test_two_user_turns_in_a_row_are_legal(worker):
    """As Anthropic documents it."""
    will_say(worker, "Hello!")
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert (await post(worker, messages=turns)).status == 200


@pytest.mark.parametrize("query", ["?beta=true", "?beta=true&x=%00", "/?"])
async def test_a_query_means_nothing_here(worker, query):
    """Anthropic's clients send ?beta=true for what is a beta there."""
    will_say(worker, "Hello!")
    assert (await post(worker, path=query)).status == 200


async def test_silence_is_broken_by_pings():
    """An event of its own, which clients skip."""
    async with running(make_worker(keepalive_s=0.05)) as worker:
        gate = asyncio.Event()
        will_stream(worker, gate, "Hello!")
        asyncio.get_running_loop().call_later(0.3, gate.set)
        events = events_in((await post(worker, stream=True)).body)
    assert {"type": "ping"} in events
    assert [event["type"] for event in events if event["type"] != "ping"][-1] == "message_stop"


async def test_headers_of_the_client_do_not_reach_a_chat_upstream(worker):
    """Versions and betas are for upstreams that speak this API."""
    will_say(worker, "Hello!")
    answer = await post(worker, headers={"anthropic-beta": "a-2025-01-01,b-2025-01-01"})
    assert answer.status == 200
    names = {name for name, _ in worker.upstream.requests[-1].headers}
    assert not {name for name in names if name.startswith(b"anthropic")}


async def test_a_call_is_counted_under_its_route_and_dialect(worker):
    """In the metrics."""
    will_say(worker, "Hello!")
    await post(worker)
    text = worker.state.metrics.exposition().decode()
    assert 'farebox_requests_total{route="/v1/messages",status="2xx"} 1.0' in text
    assert 'farebox_calls_total{dialect="messages",outcome="complete"} 1.0' in text

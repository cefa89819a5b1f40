"""A response as a chat completion: its stream as chunks, its object as a whole answer, and the two
alike.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.dialects.chat_from_responses import read_responses_answer, with_usage
from farebox.errors import UpstreamFailed
from tests.dialects.feeding import cut, feed
from tests.dialects.streaming import DONE, MIB, dump
from tests.dialects.unfolding import (
    CHARGED,
    CREATED_S,
    HELLO,
    ROLE,
    SHOWN,
    USAGE,
    Item,
    accumulated,
    body_of,
    call_for,
    choice_of,
    chunks_of,
    custom_item,
    deltas_of,
    events_of,
    function_item,
    message_item,
    refusal_part,
    response_of,
    sse,
    stream_for,
    text_part,
    thoughts_item,
    whole_of,
)

# Streams


def test_a_text_becomes_chunks_and_its_end_is_kept() -> None:
    """Role first; the finish only after the charge, with the tier that was used."""
    stream = stream_for()
    *before, end = [sse(event) for event in events_of(HELLO)]
    sent = b"".join(stream.feed(event) for event in before)
    assert (stream.ending, stream.finished) == (False, False)
    nothing = {"index": 0, "logprobs": None, "finish_reason": None}
    assert chunks_of(sent) == [
        {"choices": [{**nothing, "delta": delta}]}
        for delta in (ROLE, {"content": "Hel"}, {"content": "lo."})
    ]
    assert stream.feed(end) == b""
    assert (stream.ending, stream.whole, stream.finished) == (True, True, True)
    tail = stream.tail(CHARGED)
    assert tail.endswith(DONE)
    last = {**nothing, "delta": {}, "finish_reason": "stop"}
    assert chunks_of(tail.removesuffix(DONE)) == [{"choices": [last], "service_tier": "default"}]
    assert msgspec.json.decode(stream.usage or b"") == USAGE
    assert (stream.service_tier, stream.text_bytes, stream.tool_calls) == ("default", 6, ())


def test_nothing_leaves_before_something_of_the_answer_came() -> None:
    """So that another channel may still be tried."""
    stream = stream_for()
    created, in_progress, *_ = events_of(HELLO)
    assert stream.feed(body_of(created, in_progress, b": ping\n\n")) == b""
    assert not stream.started
    assert stream.feed(sse({"type": "error", "message": "No.", "code": "server_error"})) == b""
    assert stream.error is not None


def test_usage_is_for_who_asked_for_it() -> None:
    """What was charged, in chat's shape, in a chunk of its own; null in those before."""
    call = call_for(stream=True, stream_options={"include_usage": True})
    stream = stream_for(call)
    sent = feed(stream, body_of(*events_of(HELLO)))
    chunks = chunks_of(sent + stream.tail(CHARGED).removesuffix(DONE))
    assert [each["usage"] for each in chunks] == [None] * 4 + [SHOWN]
    assert chunks[-1]["choices"] == []
    other = stream_for(call)
    feed(other, body_of(*events_of({**HELLO, "usage": None})))
    assert other.usage is None
    last = chunks_of(other.tail(CHARGED).removesuffix(DONE))[-1]
    assert last["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0, "audio_tokens": 0}


@pytest.mark.parametrize(
    ("status", "details", "items", "finish"),
    [
        ("completed", None, (message_item(text_part("A")),), "stop"),
        ("completed", None, (), "stop"),
        ("completed", None, (function_item("f", "{}", "c"),), "tool_calls"),
        ("incomplete", {"reason": "max_output_tokens"}, (message_item(text_part("A")),), "length"),
        ("incomplete", {"reason": "max_output_tokens"}, (function_item("f", "{", "c"),), "length"),
        (
            "incomplete",
            {"reason": "content_filter"},
            (message_item(text_part("A")),),
            "content_filter",
        ),
        ("incomplete", None, (message_item(text_part("A")),), "length"),
    ],
)
def test_the_finish_reason_says_how_it_ended(
    status: str, details: Any, items: tuple[Item, ...], finish: str
) -> None:
    """A call that was cut off does not look finished; an answer without output is one."""
    response = response_of(*items, status=status, incomplete_details=details)
    assert choice_of(response)["finish_reason"] == finish
    stream = stream_for()
    feed(stream, body_of(*events_of(response)))
    last = chunks_of(stream.tail(CHARGED).removesuffix(DONE))[-1]
    assert last["choices"][0]["finish_reason"] == finish


# Ends that are none


_FAILED = {"code": "rate_limit_exceeded", "message": "Slow down."}


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"type": "error", **_FAILED, "param": None}, {**_FAILED, "param": None}),
        ({"type": "error", "error": {**_FAILED, "type": "x"}}, {"error": {**_FAILED, "type": "x"}}),
        ({"error": _FAILED}, {"error": _FAILED}),
        ({"type": "response.failed", "response": {"error": _FAILED}}, _FAILED),
        ({"type": "response.completed", "response": {"error": _FAILED}}, _FAILED),
    ],
)
def test_an_error_is_told_however_it_comes(event: Any, error: Any) -> None:
    """Flat, nested, or within the failed response; what was said before it has left."""
    stream = stream_for()
    *before, _ = events_of(HELLO)
    sent = feed(stream, body_of(*before, event, *events_of(HELLO)))
    assert len(chunks_of(sent)) == 3
    told = {k: v for k, v in stream.error.items() if k != "sequence_number"}  # type: ignore[union-attr]
    assert (told, stream.finished, stream.ending) == (error, True, False)


def test_a_failed_response_may_have_cost_something() -> None:
    """Its usage is kept."""
    failed = response_of(status="failed", error=_FAILED)
    stream = stream_for()
    stream.feed(sse({"type": "response.failed", "response": failed}))
    assert msgspec.json.decode(stream.usage or b"") == USAGE


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "response.failed", "response": {"status": "failed"}}, "failed"),
        ({"type": "response.cancelled", "response": {"status": "cancelled"}}, "cancelled"),
        ({"type": "response.completed", "response": {"status": "failed"}}, "failed"),
        (b"data: {nonsense\n\n", "bad_event"),
        (b"data: [1]\n\n", "bad_event"),
        ({"type": "response.completed"}, "bad_event"),
        ({"type": "response.output_text.delta", "output_index": 0, "delta": 5}, "bad_event"),
        ({"type": "response.output_item.done", "output_index": 0, "item": "x"}, "bad_event"),
        (b"data: " + b"x" * 2000, "event_too_large"),
    ],
)
def test_what_cannot_be_read_ends_the_stream(event: Any, reason: str) -> None:
    """With a short word for why."""
    stream = stream_for(limit=1500)
    stream.feed(body_of(event))
    assert stream.failure is not None
    assert (stream.failure.reason, stream.finished, stream.ending) == (reason, True, False)


@pytest.mark.parametrize("end", [b"", DONE])
def test_a_stream_without_an_end_is_not_ending(end: bytes) -> None:
    """Whoever relays it must not end it cleanly."""
    stream = stream_for()
    *before, _ = events_of(HELLO)
    feed(stream, body_of(*before, end))
    assert (stream.ending, stream.started, stream.failure) == (False, True, None)


def test_signs_of_life_and_unknown_events_say_nothing() -> None:
    """Keep-alives, comments, states of hosted tools, parts that begin, what will be invented."""
    others = [
        b": ping\n\n",
        {"type": "keepalive", "sequence_number": 3},
        {"type": "response.queued", "response": {}},
        {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws"},
        {"type": "response.content_part.added", "output_index": 0, "part": text_part("")},
        {"type": "response.new.delta", "delta": {"x": 1}},
        {"x": 1},
    ]
    between = [each for event in events_of(HELLO) for each in (*others, event)]
    assert deltas_of(*between) == deltas_of(*events_of(HELLO))


def test_an_upstream_may_not_go_on_for_ever_with_new_items() -> None:
    """Something is remembered of each."""
    stream = stream_for(limit=10 * MIB)
    events = (
        {"type": "response.output_item.done", "output_index": n, "item": {"type": "x", "id": "i"}}
        for n in range(10_001)
    )
    stream.feed(body_of(*events))
    assert stream.failure is not None
    parts = stream_for(limit=10 * MIB)
    event = {"type": "response.output_text.delta", "output_index": 0, "delta": "x"}
    parts.feed(body_of(*({**event, "content_index": n} for n in range(10_001))))
    assert parts.failure is not None


# Cuts, and the two ways


_WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
_ITEMS = st.one_of(
    st.builds(message_item, _WORDS.map(text_part), _WORDS.map(text_part)),
    st.builds(message_item, _WORDS.map(refusal_part)),
    st.builds(thoughts_item, _WORDS, _WORDS),
    st.builds(function_item, st.just("f"), _WORDS, _WORDS.map(lambda text: "c_" + text)),
)


@settings(max_examples=40)
@given(st.lists(_ITEMS, max_size=3), st.data())
def test_any_cut_of_a_stream_gives_the_same_bytes(items: list[Item], data: st.DataObject) -> None:
    """Byte by byte, or in random pieces."""
    body = body_of(*events_of(response_of(*items)))
    whole = stream_for()
    sent = feed(whole, body) + whole.tail(CHARGED)
    pieces = data.draw(cut(body, 10))
    bytewise = [body[n : n + 1] for n in range(len(body))]
    for parts in (pieces, bytewise):
        stream = stream_for()
        assert feed(stream, *parts) + stream.tail(CHARGED) == sent
        assert stream.text_bytes == whole.text_bytes


@given(st.lists(_ITEMS, max_size=5))
def test_what_the_sdk_makes_of_a_stream_is_the_whole_answer(items: list[Item]) -> None:
    """The same message, finish and usage in either way."""
    response = response_of(*items)
    stream = stream_for(call_for(stream=True, stream_options={"include_usage": True}))
    sent = feed(stream, body_of(*events_of(response))) + stream.tail(CHARGED)
    streamed: Any = accumulated(sent).get_final_completion().to_dict()
    whole = json.loads(with_usage(whole_of(response), CHARGED))
    for each in (streamed, whole):
        message = each["choices"][0]["message"]
        message["content"] = message.get("content") or None
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
        for name in ("parsed", "annotations", "audio", "function_call"):
            message.pop(name, None)
        message["tool_calls"] = message.get("tool_calls") or None
        # The SDK keeps these of the first chunk, before which nobody knew the tier.
        for name in ("system_fingerprint", "service_tier"):
            each.pop(name, None)
    assert streamed == whole


def test_the_sdk_adds_up_a_custom_tools_call() -> None:
    """As it does that of a function."""
    stream = stream_for()
    sent = feed(stream, body_of(*events_of(response_of(custom_item("patch", "*** Begin", "c1")))))
    state = accumulated(sent + stream.tail(CHARGED))
    message = state.current_completion_snapshot.choices[0].message.to_dict()
    calls: Any = message["tool_calls"]
    assert calls[0]["custom"] == {"name": "patch", "input": "*** Begin"}


# Whole answers


def test_a_response_object_is_a_completion() -> None:
    """Under the model's name as asked; its usage is what was charged."""
    response = response_of(
        thoughts_item("Hm."),
        message_item(text_part("Hi")),
        custom_item("p", "x", "c2"),
        service_tier="flex",
    )
    answer = whole_of(response)
    assert json.loads(with_usage(answer, CHARGED)) == {
        "id": "chatcmpl-Abc",
        "object": "chat.completion",
        "created": CREATED_S,
        "model": "asked",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hi",
                    "refusal": None,
                    "reasoning_content": "Hm.",
                    "tool_calls": [
                        {"id": "c2", "type": "custom", "custom": {"name": "p", "input": "x"}}
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "service_tier": "flex",
        "usage": SHOWN,
    }
    assert msgspec.json.decode(answer.usage or b"") == USAGE
    assert (answer.service_tier, answer.error, answer.text_bytes) == ("flex", None, 7)


def test_a_call_without_an_id_gets_one() -> None:
    """The client must name it with the result."""
    item = {"type": "function_call", "name": "f", "arguments": "{}", "id": None}
    calls = choice_of(response_of(item, item))["message"]["tool_calls"]
    assert [call["id"] for call in calls] == ["call_Abc_0", "call_Abc_1"]


@pytest.mark.parametrize(
    "body", [b'{"error": {"message": "No."}}', dump(response_of(status="failed", error=_FAILED))]
)
def test_an_error_with_status_200_is_one(body: bytes) -> None:
    """Bare, or in a failed response."""
    answer = read_responses_answer(body, call_for(), CREATED_S)
    assert answer.error is not None
    assert answer.body == b""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "bad_answer"),
        (b"[]", "bad_answer"),
        (b'{"choices": []}', "bad_answer"),
        (b'{"output": 5}', "bad_answer"),
        (b'{"output": [{"type": "message", "content": [5]}]}', "bad_answer"),
        (b'{"output": [], "status": "in_progress"}', "bad_answer"),
        (b"[" * 10_000, "bad_answer"),
        (b'{"output": [], "status": "cancelled"}', "cancelled"),
        (b'{"output": [], "status": "failed"}', "failed"),
    ],
)
def test_what_is_no_finished_response_is_a_failure(body: bytes, reason: str) -> None:
    """Of the upstream's, told in a short word."""
    with pytest.raises(UpstreamFailed) as caught:
        read_responses_answer(body, call_for(), CREATED_S)
    assert caught.value.reason == reason


@pytest.mark.parametrize("usage", [None, {}, "many", {"output_tokens_details": {"x": 1}}])
def test_a_usage_that_says_nothing_of_reasoning_shows_none(usage: Any) -> None:
    """What was charged is shown all the same."""
    answer = whole_of(response_of(message_item(text_part("Hi")), usage=usage))
    shown = json.loads(with_usage(answer, CHARGED))["usage"]
    assert shown == {
        **SHOWN,
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }

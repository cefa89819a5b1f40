"""Responses over upstreams that break the rules: what the next channel or the client gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from farebox.dialects.interpreter import Stream
from farebox.dialects.responses import parse
from farebox.dialects.responses_interpreter import ResponsesInterpreter
from farebox.errors import BadRequest, Internal, UpstreamFailed
from tests.dialects.native import bytes_of, run, upstream
from tests.dialects.responding import ENDINGS, MIB, USAGE, circumstances, events, translate, whole
from tests.dialects.streaming import DONE, body_of, choice, chunk, finished, said

_BROKEN_ITEM = b'data: {"type":"response.output_item.done","output_index":0,"item":%s}\n\n'

_BROKEN_CALL = (
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":'
    b'{"name":"f","arguments":{"a":"\xff"}}}]}}]}\n\n'
)


def piece(n: int, name: str | None, arguments: Any, call_id: str | None = None) -> dict[str, Any]:
    """A piece of the tool call `n`."""
    function = {"name": name, "arguments": arguments}
    return chunk(choice({"tool_calls": [{"index": n, "id": call_id, "function": function}]}))


def asked() -> ResponsesInterpreter:
    """A streamed call of the Responses API."""
    body = {"model": "m", "input": "hi", "stream": True}
    return ResponsesInterpreter(parse(json.dumps(body).encode(), "req_abc"), circumstances())


def attempt(interpreter: ResponsesInterpreter, wire: str) -> Stream:
    """The stream of the next attempt."""
    interpreter.outgoing(wire)
    return interpreter.stream(ENDINGS, MIB)


@pytest.mark.parametrize(
    ("wire", "sent"),
    [
        ("responses", bytes_of(upstream()[:2]) + _BROKEN_ITEM % b'["no item"]'),
        ("responses", bytes_of(upstream()[:2]) + _BROKEN_ITEM % b'{"a":"\xff"}'),
        ("responses", b'data: {"type":"response.created","response":["none"]}\n\n'),
        ("chat", _BROKEN_CALL),
    ],
)
@pytest.mark.parametrize("pinged", [False, True])
def test_what_cannot_be_read_leaves_the_next_channel_a_whole_stream(
    wire: str, sent: bytes, pinged: bool
) -> None:
    """`response.created` is given out once, and the numbers have no gap."""
    interpreter = asked()
    first = attempt(interpreter, wire)
    got = interpreter.ping() if pinged else b""
    assert first.feed(sent) == b""
    assert first.failure is not None
    second = attempt(interpreter, "chat")
    got += second.feed(body_of(said("Hi"), finished(), DONE)) + interpreter.tail(USAGE)
    found = events(got)
    assert [event["type"] for event in found].count("response.created") == 1
    assert found[0]["type"] == "response.created"
    assert found[-1]["type"] == "response.completed"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))


def test_arguments_may_come_before_the_name_of_their_tool() -> None:
    """They are kept until there is a call that they belong to."""
    parts = [body_of(piece(0, None, '{"a":', "call_aaaaaaaaaaaa"), piece(0, "f", "1}"))]
    passed = translate([*parts, body_of(finished("tool_calls"), DONE)])
    assert [item["arguments"] for item in passed.items] == ['{"a":1}']


def test_a_call_without_a_name_is_no_answer() -> None:
    """It fails, before anything has left, rather than being an empty message."""
    passed = translate([body_of(piece(0, None, "{}", "call_a"), finished("tool_calls"), DONE)])
    assert (passed.sent, passed.ending, passed.failure) == (b"", False, "no_tool_name")
    call = {"id": "call_a", "type": "function", "function": {"arguments": "{}"}}
    choices = [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]
    with pytest.raises(UpstreamFailed):
        whole({"choices": choices})


def test_calls_of_one_id_in_a_whole_answer_stay_two() -> None:
    """Their arguments are not run together; the second gets an id of its own."""
    calls = [
        {"id": "call_aaaaaaaaaaaa", "type": "function", "function": {"name": "f", "arguments": a}}
        for a in ('{"a":1}', '{"a":2}')
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    output = whole({"choices": [{"message": message, "finish_reason": "tool_calls"}]})["output"]
    assert [item["arguments"] for item in output] == ['{"a":1}', '{"a":2}']
    assert len({item["call_id"] for item in output}) == 2


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_response_that_says_that_it_failed_is_not_completed(status: str) -> None:
    """Whatever the type of its last event is."""
    found = upstream()
    found[-1]["response"]["status"] = status
    passed = run([bytes_of(found)])
    assert passed.stream.error is not None
    assert not passed.stream.ending


def test_a_created_event_without_a_response_opens_one() -> None:
    """What there is not is filled in."""
    found = [{**event} for event in upstream()]
    found[0]["response"] = None
    passed = run([bytes_of(found)])
    assert passed.events[0]["response"]["status"] == "in_progress"
    assert passed.failure is None
    assert passed.stream.ending


def test_deep_nesting_in_a_request_is_not_the_upstreams_fault() -> None:
    """Whatever depth a body may have, what the response repeats of it is read in time."""
    body = b'{"model":"m","input":"hi","stream":true,"tools":[{"type":"function","x":%s}]}'
    refused: list[int] = []
    for depth in range(300, 1000, 7):
        try:
            call = parse(body % (b"[" * depth + b"]" * depth), "req_abc")
            interpreter = ResponsesInterpreter(call, circumstances())
            first = attempt(interpreter, "responses")
        except BadRequest:
            refused.append(depth)
            continue
        deeper(40, partial(first.feed, bytes_of(upstream()[:4])))
        assert first.failure is None
    assert refused


def deeper(levels: int, do: Callable[[], object]) -> object:
    """What it gives when it is called from further down the stack."""
    return deeper(levels - 1, do) if levels else do()


@pytest.mark.parametrize("fails", [False, True])
def test_text_with_or_behind_the_finish_reason_is_numbered_when_it_leaves(fails: bool) -> None:
    """A ping that comes before it, or a failure in its place, leaves no gap."""
    interpreter = asked()
    stream = attempt(interpreter, "chat")
    got = stream.feed(body_of(said("Hi"), chunk(choice({"content": " you"}, "stop"))))
    got += stream.feed(body_of(said(" there"))) + interpreter.ping()
    got += interpreter.error_event(Internal("Died."), USAGE) if fails else interpreter.tail(USAGE)
    found = events(got)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    if not fails:
        (message,) = found[-1]["response"]["output"]
        assert message["content"][0]["text"] == "Hi you there"


def test_a_whole_answer_that_cannot_be_read_is_the_upstreams_failure() -> None:
    """Another channel may still answer."""
    interpreter = asked()
    interpreter.outgoing("chat")
    body = b'{"choices":[{"message":{"content":["\xff"]},"finish_reason":"stop"}]}'
    with pytest.raises(UpstreamFailed):
        interpreter.answer(body, ENDINGS)

"""A whole chat completion as a message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.recall import Recall
from farebox.errors import UpstreamFailed
from tests.dialects.accumulating import SEAL, accumulated, read_by_sdk, translate, whole
from tests.dialects.chatting import NO_COMPLETIONS, completion, messages
from tests.dialects.streaming import DONE, body_of, choice, chunk

CALL = {
    "id": "call_aaaaaaaaaaaa",
    "type": "function",
    "function": {"name": "long_0123", "arguments": '{"a": 1}'},
}


def test_a_completion_is_a_message() -> None:
    """Thoughts, text and calls are blocks in this order; the object is whole."""
    message = {
        "role": "assistant",
        "content": "Hi",
        "reasoning_content": "Hm",
        "tool_calls": [CALL],
    }
    recall = Recall()
    assert whole(completion(message, "tool_calls"), recall) == {
        "id": "msg_abc",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": SEAL.seal(1, "reasoning", "Hm")},
            {"type": "text", "text": "Hi"},
            {
                "type": "tool_use",
                "id": "call_aaaaaaaaaaaa",
                "name": "a/long name",
                "input": {"a": 1},
            },
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 6,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 3,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }
    assert recall.find(1, "call_aaaaaaaaaaaa") == "Hm"


def test_an_empty_answer_is_a_message_without_content() -> None:
    """As a stream of nothing is."""
    assert whole(completion({"role": "assistant", "content": None}))["content"] == []


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("{ }", {}),
        (
            '{"n": 123456789012345678901234567890, "f": 1.0}',
            {"n": 123456789012345678901234567890, "f": 1.0},
        ),
        ('{"a": "b', {"input": '{"a": "b'}),
        ("true", {"value": True}),
        ("[" * 5000, {"input": "[" * 5000}),
    ],
)
def test_an_input_is_an_object_whatever_was_written(arguments: str, wanted: Any) -> None:
    """What cannot be read is told to the client as it was written."""
    call = {**CALL, "function": {"name": "look", "arguments": arguments}}
    message = whole(completion({"role": "assistant", "content": None, "tool_calls": [call]}))
    assert message["content"][0]["input"] == wanted


def test_a_stop_sequence_is_told_where_the_upstream_tells_it() -> None:
    """As in a stream."""
    answer = completion({"role": "assistant", "content": "Hi"}, stop_reason="END")
    message = whole(answer, stops=("END",))
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    assert whole(answer)["stop_reason"] == "end_turn"


@pytest.mark.parametrize("body", NO_COMPLETIONS)
def test_what_is_no_completion_is_refused(body: dict[str, Any]) -> None:
    """As for clients of chat."""
    with pytest.raises(UpstreamFailed) as caught:
        whole(body)
    assert caught.value.reason == "bad_answer"


def test_an_answer_that_was_cut_off_by_the_vendor_has_failed() -> None:
    """By the vendor's own word for it."""
    with pytest.raises(UpstreamFailed):
        whole(completion({"role": "assistant", "content": "Hi"}, "network_error"))


objects = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3)
MESSAGES = messages(
    ["look", "long_0123", "unknown"],
    st.one_of(st.sampled_from(["", "null", "raw", "[1]"]), objects.map(json.dumps)),
)


@given(
    MESSAGES,
    st.sampled_from(["stop", "length", "tool_calls", "sensitive"]),
    st.sampled_from([{}, {"omits": True}, {"shows": False}]),
    st.data(),
)
def test_whole_and_streamed_are_one_answer(
    message: dict[str, Any], finish: str, sight: dict[str, Any], data: st.DataObject
) -> None:
    """The SDK makes one message of both, whichever way the upstream gave it, in pieces or not."""
    chunks: list[Any] = []
    delta = {name: value for name, value in message.items() if name != "tool_calls"}
    chunks.append(chunk(choice(delta)))
    for n, call in enumerate(message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        cut = data.draw(st.integers(0, len(arguments)))
        first = {**call["function"], "arguments": arguments[:cut]}
        chunks.append(chunk(choice({"tool_calls": [{**call, "index": n, "function": first}]})))
        rest = {"index": n, "function": {"arguments": arguments[cut:]}}
        chunks.append(chunk(choice({"tool_calls": [rest]})))
    passed = translate([body_of(*chunks, chunk(choice({}, finish)), DONE)], **sight)
    assert accumulated(passed) == read_by_sdk(whole(completion(message, finish), **sight))

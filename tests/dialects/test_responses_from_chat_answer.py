"""A whole chat completion as a response object."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types.responses import Response

from farebox.errors import UpstreamFailed
from tests.dialects.chatting import NO_COMPLETIONS, completion, messages
from tests.dialects.responding import translate, whole
from tests.dialects.streaming import DONE, body_of, choice, chunk

TOOLS = [
    {"type": "function", "name": "look"},
    {"type": "custom", "name": "apply_patch"},
    {"type": "namespace", "name": "clock", "tools": [{"type": "function", "name": "now"}]},
]


def test_every_key_of_a_response_is_there() -> None:
    """Also those that the request did not name."""
    response = whole(completion({"role": "assistant", "content": "Hi"}), metadata={"a": "b"})
    assert set(response) >= {
        "id", "object", "created_at", "completed_at", "status", "error", "incomplete_details",
        "instructions", "max_output_tokens", "max_tool_calls", "metadata", "model", "output",
        "parallel_tool_calls", "previous_response_id", "presence_penalty", "frequency_penalty",
        "prompt_cache_key", "reasoning", "safety_identifier", "service_tier", "store", "background",
        "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation",
        "usage",
    }  # fmt: skip
    assert response["metadata"] == {"a": "b"}
    assert construct_type(type_=Response, value=response).output_text == "Hi"  # type: ignore[attr-defined]


def test_reasoning_text_and_calls_are_items_in_this_order() -> None:
    """As a stream of the same answer has them."""
    call = {
        "id": "call_aaaaaaaaaaaa",
        "type": "function",
        "function": {"name": "clock__now", "arguments": ""},
    }
    message = {
        "role": "assistant",
        "content": "Hi",
        "reasoning_content": "Hm",
        "tool_calls": [call],
    }
    response = whole(completion(message, "tool_calls"), tools=TOOLS)
    assert [item["type"] for item in response["output"]] == [
        "reasoning",
        "message",
        "function_call",
    ]
    assert response["output"][2]["namespace"] == "clock"
    assert response["output"][2]["arguments"] == "{}"


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


MESSAGES = messages(
    ["look", "apply_patch", "clock__now"],
    st.sampled_from(["", "{}", '{"input": "x"}', "raw"]),
    unique_ids=True,
)


@given(MESSAGES, st.sampled_from(["stop", "length", "tool_calls", "sensitive"]))
def test_whole_and_streamed_are_one_answer(message: dict[str, Any], finish: str) -> None:
    """The response object is the same, whichever way the upstream gave it."""
    delta = json.loads(json.dumps(message))
    for n, call in enumerate(delta.get("tool_calls", ())):
        call["index"] = n
    parts = [body_of(chunk(choice(delta)), chunk(choice({}, finish)), DONE)]
    streamed = translate(parts, tools=TOOLS).response
    assert whole(completion(message, finish), tools=TOOLS) == streamed

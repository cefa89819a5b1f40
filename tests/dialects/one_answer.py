"""One answer in three languages, whole and streamed: thoughts, a text, and a tool call."""

from __future__ import annotations

from typing import Any

from farebox.core.usage import Usage
from tests.dialects import streaming, unfolding
from tests.dialects.accumulating import SEAL
from tests.dialects.streaming import DONE, chunk
from tests.dialects.unfolding import (
    events_of,
    function_item,
    message_item,
    response_of,
    text_part,
    thoughts_item,
)

CALL_ID = "call_aaaaaaaaaaaa"
CHARGED = Usage(uncached_input=10, cache_read=8, cache_write=2, output=9)
RESPONSE = response_of(
    thoughts_item("Hm."),
    message_item(text_part("Look.")),
    function_item("look", '{"a": 1}', CALL_ID),
)
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "up",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Look.",
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {
                        "id": CALL_ID,
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"a": 1}'},
                    }
                ],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "total_tokens": 29,
        "completion_tokens_details": {"reasoning_tokens": 4},
    },
}
# As the SDK reads it, from either form.
MESSAGE = {
    "id": "msg_abc",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": SEAL.seal(1, "reasoning", "Hm.")},
        {"type": "text", "text": "Look."},
        {"type": "tool_use", "id": CALL_ID, "name": "look", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 8,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    },
}


def chat_stream() -> bytes:
    """COMPLETION in pieces."""
    message: Any = COMPLETION["choices"][0]["message"]
    call = {**message["tool_calls"][0], "index": 0}
    deltas = [{"reasoning_content": "Hm."}, {"content": "Look."}, {"tool_calls": [call]}]
    chunks = [chunk(streaming.choice(delta)) for delta in deltas]
    end = streaming.finished("tool_calls", usage=COMPLETION["usage"])
    return streaming.body_of(*chunks, end, DONE)


def responses_stream(response: dict[str, Any] = RESPONSE) -> bytes:
    """A response in pieces."""
    return unfolding.body_of(*events_of(response))

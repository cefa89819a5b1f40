"""Responses for tests of how chat clients get them: objects, their events, and what becomes of
them.
"""

from __future__ import annotations

import json
from typing import Any

from openai._models import construct_type
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects import chat
from farebox.dialects.chat_answer import Answer
from farebox.dialects.chat_from_responses import ChatFromResponses, read_responses_answer
from tests.dialects.feeding import feed
from tests.dialects.streaming import DONE, MIB, dump

CREATED_S = 1_790_000_001
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 29,
}
CHARGED = Usage(uncached_input=10, cache_read=8, cache_write=2, output=9)
SHOWN = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0},
}
ROLE = {"role": "assistant", "content": "", "refusal": None}

Item = dict[str, Any]


def call_for(**fields: Any) -> Call:
    """A call of chat, by the name `asked`."""
    body = {"model": "asked", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return chat.parse(json.dumps(body).encode(), "req_Abc")


# Responses, as upstreams give them


def text_part(text: str, **more: Any) -> Item:
    """A part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": [], **more}


def refusal_part(text: str) -> Item:
    """Another."""
    return {"type": "refusal", "refusal": text}


def message_item(*parts: Item, **more: Any) -> Item:
    """An item of the output."""
    return {"type": "message", "role": "assistant", "content": list(parts), **more}


def thoughts_item(*summary: str, raw: tuple[str, ...] = ()) -> Item:
    """Another, with a summary or raw texts."""
    return {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text} for text in summary],
        "content": [{"type": "reasoning_text", "text": text} for text in raw],
    }


def function_item(name: str, arguments: str, call_id: str, **more: Any) -> Item:
    """A call of a function."""
    item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    return {**item, **more}


def custom_item(name: str, text: str, call_id: str) -> Item:
    """A call of a custom tool."""
    return {"type": "custom_tool_call", "call_id": call_id, "name": name, "input": text}


def response_of(*items: Item, **more: Any) -> dict[str, Any]:
    """A response object with these items."""
    output = [
        {"id": f"item_{n}", "status": more.get("status", "completed"), **item}
        for n, item in enumerate(items)
    ]
    return {
        "id": "resp_up",
        "object": "response",
        "created_at": 1,
        "model": "up",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "output": output,
        "usage": USAGE,
        "service_tier": "default",
        **more,
    }


def events_of(response: dict[str, Any]) -> list[dict[str, Any]]:
    """A response's stream: each text in two pieces, as OpenAI orders its events."""
    started = {**response, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
    ]
    for n, item in enumerate(response["output"]):
        begun = {**item, "status": "in_progress"}
        begun |= {name: "" for name in ("arguments", "input") if name in item}
        begun |= {name: [] for name in ("content", "summary") if name in item}
        events.append({"type": "response.output_item.added", "output_index": n, "item": begun})
        here = {"item_id": item["id"], "output_index": n}
        events += [{**here, **event} for event in _inside(item)]
        events.append({"type": "response.output_item.done", "output_index": n, "item": item})
    events.append({"type": f"response.{response['status']}", "response": response})
    return [{**event, "sequence_number": n} for n, event in enumerate(events)]


def _inside(item: Item) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for n, part in enumerate(item.get("summary") or ()):
        event = {"type": "response.reasoning_summary_text.delta", "summary_index": n}
        events += [{**event, "delta": text} for text in _halves(part["text"])]
    for n, part in enumerate(item.get("content") or ()):
        kind = part["type"]
        event = {"type": f"response.{kind}.delta", "content_index": n}
        text = part["refusal" if kind == "refusal" else "text"]
        events += [{**event, "delta": half, "logprobs": []} for half in _halves(text)]
        events.append({"type": f"response.{kind}.done", "content_index": n, "text": text})
    name = {
        "function_call": "function_call_arguments",
        "custom_tool_call": "custom_tool_call_input",
    }
    if item["type"] in name:
        event = {"type": f"response.{name[item['type']]}.delta"}
        text = item["arguments" if "arguments" in item else "input"]
        events += [{**event, "delta": half} for half in _halves(text)]
    return events


def _halves(text: str) -> list[str]:
    cut = (len(text) + 1) // 2
    return [half for half in (text[:cut], text[cut:]) if half]


def sse(event: dict[str, Any]) -> bytes:
    """An event on the wire."""
    return b"event: " + str(event.get("type")).encode() + b"\ndata: " + dump(event) + b"\n\n"


def body_of(*events: Any) -> bytes:
    """A stream of these events or bytes."""
    return b"".join(each if isinstance(each, bytes) else sse(each) for each in events)


# What becomes of them


def stream_for(call: Call | None = None, limit: int = MIB) -> ChatFromResponses:
    """The stream of a call."""
    return ChatFromResponses(call or call_for(stream=True), CREATED_S, limit)


def chunks_of(data: bytes) -> list[Any]:
    """The chunks of a stream, which must have the head of each in common."""
    chunks = [json.loads(line.removeprefix("data: ")) for line in data.decode().split("\n\n")[:-1]]
    for each in chunks:
        head = {name: each.pop(name) for name in ("id", "object", "created", "model")}
        assert head == {
            "id": "chatcmpl-Abc",
            "object": "chat.completion.chunk",
            "created": CREATED_S,
            "model": "asked",
        }
    return chunks


def deltas_of(*events: Any, call: Call | None = None) -> list[Any]:
    """The deltas that leave before the tail and in it; the tail ends as it should."""
    stream = stream_for(call)
    sent = feed(stream, body_of(*events))
    assert (stream.failure, stream.error, stream.ending) == (None, None, True)
    tail = stream.tail(CHARGED)
    assert tail.endswith(DONE)
    chunks = chunks_of(sent + tail.removesuffix(DONE))
    assert chunks[-1]["choices"][0]["finish_reason"] is not None
    return [each["choices"][0]["delta"] for each in chunks]


def accumulated(data: bytes) -> ChatCompletionStreamState:
    """The SDK's own stream helper when it has read what the client gets."""
    state = ChatCompletionStreamState()
    for line in data.removesuffix(DONE).decode().split("\n\n")[:-1]:
        value = json.loads(line.removeprefix("data: "))
        chunk = construct_type(type_=ChatCompletionChunk, value=value)
        assert isinstance(chunk, ChatCompletionChunk)
        list(state.handle_chunk(chunk))
    return state


def whole_of(response: dict[str, Any], call: Call | None = None) -> Answer:
    """The answer that a response object becomes."""
    return read_responses_answer(dump(response), call or call_for(), CREATED_S)


def choice_of(response: dict[str, Any], call: Call | None = None) -> dict[str, Any]:
    """Its one choice."""
    return json.loads(whole_of(response, call).body)["choices"][0]


HELLO = response_of(message_item(text_part("Hello.")))

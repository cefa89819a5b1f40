"""The stream of a Messages answer: which events come in which order.

The order is that of Anthropic's documentation, "Streaming Messages". There is no [DONE].
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.fakes.answers import pieces
from tests.fakes.messages import Block, Message, message_object

Event = dict[str, Any]


def events_of(message: Message) -> list[Event]:
    """All events of an answer."""
    return [
        *opening(message),
        *(event for at, block in enumerate(message.content) for event in _block(block, at)),
        *closing(message),
    ]


def opening(message: Message) -> tuple[Event, Event]:
    """What every stream begins with: the usage says nothing yet of what is written."""
    usage = message.usage
    if usage is not None and "output_tokens" in usage:
        usage = {**usage, "output_tokens": 1}
        usage.pop("server_tool_use", None)
        usage.pop("output_tokens_details", None)
    started = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    start = {**message_object(message), **started}
    return ({"type": "message_start", "message": start}, {"type": "ping"})


def closing(message: Message) -> tuple[Event, Event]:
    """What every stream ends with: the counts are those of the whole answer."""
    usage = message.usage
    if usage is not None:
        usage = {k: v for k, v in usage.items() if k not in ("cache_creation", "service_tier")}
    delta = {"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence}
    return (
        {"type": "message_delta", "delta": delta, "usage": usage},
        {"type": "message_stop"},
    )


def as_sse(event: Event) -> bytes:
    """The event on the wire."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def _block(block: Block, at: int) -> Iterator[Event]:
    begun, deltas = _INSIDE.get(block["type"], _whole)(block)
    yield {"type": "content_block_start", "index": at, "content_block": {**block, **begun}}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": at, "delta": delta}
    yield {"type": "content_block_stop", "index": at}


def _text(block: Block) -> tuple[Block, list[Block]]:
    return {"text": ""}, [{"type": "text_delta", "text": word} for word in pieces(block["text"])]


def _thinking(block: Block) -> tuple[Block, list[Block]]:
    words = pieces(block["thinking"])
    deltas = [{"type": "thinking_delta", "thinking": word} for word in words]
    signed = {"type": "signature_delta", "signature": block["signature"]}
    return {"thinking": "", "signature": ""}, [*deltas, signed]


def _call(block: Block) -> tuple[Block, list[Block]]:
    given = json.dumps(block["input"], ensure_ascii=False)
    parts = ("", given[:5], given[5:]) if block["input"] else ("",)
    return {"input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def _whole(block: Block) -> tuple[Block, list[Block]]:
    return {}, []


_INSIDE = {"text": _text, "thinking": _thinking, "tool_use": _call, "server_tool_use": _call}

"""Streams for tests of the chat dialect: chunks, their events, and what becomes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
from openai._models import construct_type
from openai._streaming import SSEDecoder
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from farebox.core.call import Call
from farebox.dialects.chat_stream import ChatStream
from tests.dialects.feeding import feed, reason_of

MIB = 1024 * 1024
DONE = b"data: [DONE]\n\n"
FINISH_REASONS = {"eos_token": "stop", "sensitive": "content_filter"}
FAILING = frozenset({"network_error"})
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chunk of these choices, of the upstream's model `up`."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "up",
        "choices": list(choices),
        **more,
    }


def choice(delta: Any = None, finish: Any = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """One choice of a chunk."""
    return {"index": index, "delta": delta or {}, "finish_reason": finish, **more}


def said(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk with a piece of text; pieces that begin with a capital begin the message."""
    role = {"role": "assistant"} if text[:1].isupper() else {}
    return chunk(choice({**role, "content": text}, index=index), **more)


def finished(reason: str | None = "stop", index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk that ends a choice."""
    return chunk(choice({}, reason, index), **more)


def dump(value: Any) -> bytes:
    """Compact JSON, as most vendors write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(value: Any) -> bytes:
    """A chunk as an event; bytes are taken as they are."""
    return value if isinstance(value, bytes) else b"data: " + dump(value) + b"\n\n"


def body_of(*chunks: Any) -> bytes:
    """A stream of these chunks or bytes."""
    return b"".join(map(event, chunks))


@dataclass(frozen=True)
class Passed:
    """What became of a stream."""

    sent: bytes  # before the tail
    tail: bytes
    usage: Any
    service_tier: str | None
    error: Any
    failure: str | None
    text_bytes: int
    started: bool
    ending: bool

    @property
    def events(self) -> list[Any]:
        """The data of all events that reach the client, as the SDK reads and decodes them."""
        datas = [read.data for read in SSEDecoder().iter_bytes(iter([self.sent + self.tail]))]
        return [data if data == "[DONE]" else json.loads(data) for data in datas]


def stream_for(model: str = "up", *, include_usage: bool = False, limit: int = MIB) -> ChatStream:
    """A stream of a call that asked for this model."""
    call = Call("req_Abc", "chat", model, {}, stream=True, include_usage=include_usage)
    return ChatStream(call, FINISH_REASONS, FAILING, limit)


def run(
    parts: list[bytes],
    model: str = "up",
    *,
    include_usage: bool = False,
    usage_chunk: bytes | None = None,
) -> Passed:
    """Feed it as the relay does: to the end, or until nothing more can matter."""
    stream = stream_for(model, include_usage=include_usage)
    sent = feed(stream, *parts)
    return Passed(
        sent,
        stream.tail(usage_chunk),
        None if stream.usage is None else msgspec.json.decode(stream.usage),
        stream.service_tier,
        stream.error,
        reason_of(stream),
        stream.text_bytes,
        stream.started,
        stream.ending,
    )


def accumulated(*chunks: Any) -> ChatCompletion:
    """The completion that the SDK's own stream helper makes of what the client gets."""
    passed = run([body_of(*chunks, DONE)])
    assert passed.failure is None
    state = ChatCompletionStreamState()
    assert passed.events[-1] == "[DONE]"
    for data in passed.events[:-1]:
        value = construct_type(type_=ChatCompletionChunk, value=data)
        assert isinstance(value, ChatCompletionChunk)
        list(state.handle_chunk(value))
    return state.get_final_completion()

"""What travels in a measurement: a path that tells the mock how to answer, requests, answers.

Shapes are those of OpenAI's chat completions; an event of a stream has about 310 bytes, as theirs.
A gateway may also be asked in dialects that it translates to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

COMPLETIONS = "/v1/chat/completions"
# Where the gateway is asked in other dialects, and how its streams end there.
ROUTES = {"chat": COMPLETIONS, "responses": "/v1/responses", "messages": "/v1/messages"}
LAST_WORDS = {"chat": b"[DONE]", "responses": b"response.completed", "messages": b"message_stop"}
FIRST_EVENTS, LAST_EVENTS = 1, 2  # the role; the finish reason and the usage
USAGE = {"prompt_tokens": 200, "completion_tokens": 120, "total_tokens": 320}
CLOSING = "/closing" + COMPLETIONS  # the mock then ends every paced stream
END = b"0\r\n\r\n"  # of a chunked body
_FIELDS = {  # of a request: its conversation and its cap
    "chat": ("messages", "max_completion_tokens"),
    "responses": ("input", "max_output_tokens"),
    "messages": ("messages", "max_tokens"),
}
_WORDS = "The quick gateway counts every token that passes, and it loses none of them.\n"
_MESSAGE_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Script:
    """How the mock answers. It is told by the path, so every server under test may pass it on."""

    model: str  # the name that the answer gives, which has no slash and no underscore
    chunks: int = 0  # events of a stream, `[DONE]` not counted; 0: one JSON answer
    every_ms: int = 0  # between two events; 0: as fast as the connection takes them. Such a
    # paced stream may be ended before.

    @property
    def prefix(self) -> str:
        """The part of the path that stands before /v1."""
        return f"/{self.chunks}_{self.every_ms}_{self.model}"

    @classmethod
    def of_path(cls, path: str) -> Script:
        """The script that a path tells. Raises ValueError for any other path."""
        prefix, found, _ = path.removeprefix("/").partition(COMPLETIONS)
        if not found:
            raise ValueError(f"{path!r} is no path of the mock")
        chunks, every_ms, model = prefix.split("_")
        return cls(model, int(chunks), int(every_ms))


def request_body(
    model: str, size_bytes: int, *, stream: bool, include_usage: bool, dialect: str = "chat"
) -> bytes:
    """A conversation of about this size, as compact JSON."""
    text = (_WORDS * (size_bytes // len(_WORDS) + 1))[: max(1, size_bytes - 150)]
    parts = [text[i : i + _MESSAGE_CHARS] for i in range(0, len(text), _MESSAGE_CHARS)]
    roles = ("user", "assistant")
    listed, cap = _FIELDS[dialect]
    body: dict[str, object] = {
        "model": model,
        listed: [{"role": roles[i % 2], "content": part} for i, part in enumerate(parts)],
        "temperature": 0.7,
        cap: 4000,
    }
    if dialect == "responses":
        body["store"] = False  # as coding agents say
    if stream:
        body["stream"] = True
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(body)


def request(path: str, key: str, body: bytes) -> bytes:
    """A whole HTTP request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def json_answer(script: Script) -> bytes:
    """The whole HTTP answer to a plain call, about 1 KB."""
    message = {"role": "assistant", "content": _WORDS * 8, "refusal": None, "annotations": []}
    body = msgspec.json.encode(
        {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion",
            "created": 1795420800,
            "model": script.model,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            ],
            "usage": USAGE,
            "service_tier": "default",
        }
    )
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(body)}\r\n\r\n".encode() + body


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Events:
    """The pieces of a stream, each one event in an HTTP chunk of its own."""

    first: bytes
    middle: bytes
    last: tuple[bytes, ...]  # as many as LAST_EVENTS
    done: bytes  # `[DONE]` and the body's end


def events(script: Script) -> Events:
    """The events of one script's streams."""
    last = (
        _event(script, [_choice({}, "stop")], None),
        _event(script, [], USAGE),
    )
    return Events(
        _event(script, [_choice({"role": "assistant", "content": ""}, None)], None),
        _event(script, [_choice({"content": " passes"}, None)], None),
        last,
        _framed(b"data: [DONE]\n\n") + END,
    )


def _choice(delta: dict[str, object], finish_reason: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _event(script: Script, choices: list[object], usage: dict[str, int] | None) -> bytes:
    chunk = {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion.chunk",
        "created": 1795420800,
        "model": script.model,
        "service_tier": "default",
        "system_fingerprint": "fp_b705f0c291",
        "choices": choices,
        "usage": usage,
        "obfuscation": "x0Zr4dQ2",
    }
    return _framed(b"data: " + msgspec.json.encode(chunk) + b"\n\n")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)

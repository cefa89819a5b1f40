"""What is sent in a measurement: a path that tells the mock how to answer, and requests.

The mock speaks OpenAI's chat completions, see native/mock.c. A gateway may also be asked in
dialects that it translates to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

COMPLETIONS = "/v1/chat/completions"
# Where the gateway is asked in other dialects, and how its streams end there.
ROUTES = {"chat": COMPLETIONS, "responses": "/v1/responses", "messages": "/v1/messages"}
LAST_WORDS = {"chat": "[DONE]", "responses": "response.completed", "messages": "message_stop"}
_OTHER_EVENTS = 3  # the role, the finish reason, the usage
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
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
    every_ms: int = 0  # between two events; 0: as fast as the connection takes them

    @property
    def prefix(self) -> str:
        """The part of the path that stands before /v1."""
        return f"/{self.chunks}_{self.every_ms}_{self.model}"

    @property
    def contents(self) -> int:
        """Events that carry content, each with its number: the generator expects all of them."""
        return max(0, self.chunks - _OTHER_EVENTS)


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


def request(path: str, key: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """A whole HTTP request."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

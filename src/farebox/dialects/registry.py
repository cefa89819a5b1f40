"""The table of dialects: what the relay asks of one, and which there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects import chat
from farebox.dialects.chat_answer import Answer, read_answer, usage_chunk
from farebox.dialects.chat_stream import ChatStream
from farebox.errors import FareboxError, UpstreamFailed


class Stream(Protocol):
    """An answer's stream on its way: see chat_stream.py, the first of them."""

    started: bool
    usage: msgspec.Raw | None
    service_tier: str | None
    error: object | None
    failure: UpstreamFailed | None
    text_bytes: int

    @property
    def ending(self) -> bool: ...
    @property
    def whole(self) -> bool: ...
    @property
    def finished(self) -> bool: ...
    def feed(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...
    def tail(self, usage_chunk: bytes | None = None) -> bytes: ...


class Dialect(Protocol):
    """A client protocol, as far as the relay needs to know it."""

    ping: bytes  # a sign of life within a stream

    def stream(
        self,
        call: Call,
        finish_reasons: Mapping[str, str],
        failing_finish_reasons: frozenset[str],
        max_event_bytes: int,
    ) -> Stream: ...
    def answer(
        self,
        body: bytes,
        call: Call,
        finish_reasons: Mapping[str, str],
        failing_finish_reasons: frozenset[str],
    ) -> Answer: ...
    def usage_chunk(self, call: Call, usage: Usage, created_s: int) -> bytes: ...
    def error_event(self, error: FareboxError) -> bytes: ...


class Chat:
    """Chat Completions."""

    ping = chat.PING
    stream = staticmethod(ChatStream)
    answer = staticmethod(read_answer)
    usage_chunk = staticmethod(usage_chunk)
    error_event = staticmethod(chat.error_event)


DIALECTS: Mapping[str, Dialect] = {"chat": Chat()}

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
    """An answer's stream on its way to the client; chat_stream.py is the first of them.

    What is fed comes back as what may leave now; from the first event that may end the answer on,
    it is kept for the tail.
    """

    started: bool  # an event of the answer was seen
    usage: msgspec.Raw | None  # the last that was reported
    service_tier: str | None
    error: object | None  # what the upstream said went wrong, decoded
    failure: UpstreamFailed | None  # why the rest is of no use
    text_bytes: int  # of what the model wrote, for an estimate

    @property
    def ending(self) -> bool:
        """Whether what has come may be all of the answer: what follows is the tail."""
        ...

    @property
    def whole(self) -> bool:
        """Whether nothing but usage can follow."""
        ...

    @property
    def finished(self) -> bool:
        """Whether nothing more can come that matters."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What may leave now that these bytes have come."""
        ...

    def end(self) -> bytes:
        """The same for the end of the upstream's body."""
        ...

    def tail(self, usage_chunk: bytes | None = None) -> bytes:
        """What was kept, the usage if the client is owed one, and the end of a good answer."""
        ...


class Dialect(Protocol):
    """A client protocol, as far as the relay needs to know it."""

    ping: bytes  # a sign of life within a stream

    def stream(
        self,
        call: Call,
        finish_reasons: Mapping[str, str],
        failing_finish_reasons: frozenset[str],
        max_event_bytes: int,
    ) -> Stream:
        """A stream that answers this call, with a vendor's own words for how answers end."""
        ...

    def answer(
        self,
        body: bytes,
        call: Call,
        finish_reasons: Mapping[str, str],
        failing_finish_reasons: frozenset[str],
    ) -> Answer:
        """The same for a whole answer. Raises UpstreamFailed if the body is none."""
        ...

    def usage_chunk(self, call: Call, usage: Usage, created_s: int) -> bytes:
        """The event's data that report this usage where the upstream reported none."""
        ...

    def error_event(self, error: FareboxError) -> bytes:
        """The event that ends a stream which failed."""
        ...


class Chat:
    """Chat Completions."""

    ping = chat.PING
    stream = staticmethod(ChatStream)
    answer = staticmethod(read_answer)
    usage_chunk = staticmethod(usage_chunk)
    error_event = staticmethod(chat.error_event)


DIALECTS: Mapping[str, Dialect] = {"chat": Chat()}

"""What the relay asks of a dialect: an Interpreter a call, and what it works with. No logic.

It stands between the client, who speaks the dialect, and whatever an upstream speaks (its wire);
the relay knows neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_answer import Answer
from farebox.dialects.recall import Recall
from farebox.dialects.said import Said
from farebox.dialects.seal import Seal
from farebox.errors import FareboxError, UpstreamFailed


class Stream(Protocol):
    """An answer's stream on its way to the client; chat_stream.py is the first of them.

    What is fed comes back as what may leave now; from the first event that may end the answer on,
    it is kept for the tail.
    """

    @property
    def started(self) -> bool:
        """Whether an event of the answer was seen."""
        ...

    @property
    def usage(self) -> msgspec.Raw | None:
        """The last that was reported."""
        ...

    @property
    def service_tier(self) -> str | None:
        """As the upstream reported it."""
        ...

    @property
    def error(self) -> object | None:
        """What the upstream said went wrong, decoded."""
        ...

    @property
    def failure(self) -> UpstreamFailed | None:
        """Why the rest is of no use."""
        ...

    @property
    def text_bytes(self) -> int:
        """Of what the model wrote, for an estimate."""
        ...

    @property
    def said(self) -> Said | None:
        """The text itself, as far as it is kept."""
        ...

    @property
    def tool_calls(self) -> tuple[tuple[str, int], ...] | None:
        """How often each hosted tool ran; None where upstreams do not say."""
        ...

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

    @property
    def is_alike(self) -> bool:
        """Whether what was fed last brought a text as those before did, and nothing else: of the
        rest only `text_bytes` has changed.
        """
        ...

    def keep_text(self) -> None:
        """Keep what the model writes, to be counted if no usage comes. Before anything is fed."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What may leave now that these bytes have come."""
        ...

    def end(self) -> bytes:
        """The same for the end of the upstream's body."""
        ...


class Endings(msgspec.Struct, frozen=True):
    """A vendor's own words for how chat answers end: foreign to standard, and those that mean
    that the answer broke off.
    """

    standard: Mapping[str, str] = MappingProxyType({})
    failing: frozenset[str] = frozenset()


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """The call in an upstream's dialect, and what was changed for it, such as
    `tools.web_search=dropped`.
    """

    call: Call
    adjusted: tuple[str, ...] = ()


class Circumstances(msgspec.Struct, frozen=True, gc=False):
    """What a dialect must know beside the call itself."""

    account_id: int
    created_s: int  # Unix time of the admission
    seal: Seal
    recall: Recall
    now_s: Callable[[], int]  # Unix time


class Interpreter(Protocol):
    """One call's way between its client's dialect and the upstreams'. The latest outgoing()
    decides how the stream or answer that follows is read.
    """

    def outgoing(self, wire: str, *, cache_control: bool = False) -> Outgoing:
        """The call as an upstream that speaks `wire` must get it. Raises BadRequest. May run in a
        thread. `cache_control`: a chat upstream takes Anthropic's marks of what to cache.
        """
        ...

    def stream(self, endings: Endings, max_event_bytes: int) -> Stream:
        """The stream that answers, from the upstream to the client."""
        ...

    def answer(self, body: bytes, endings: Endings) -> Answer:
        """The same for a whole answer. Raises UpstreamFailed if the body is none."""
        ...

    def ping(self) -> bytes:
        """A sign of life within a stream, also before any event of it."""
        ...

    def tail(self, usage: Usage) -> bytes:
        """What is left to send of a good answer when it was charged for `usage`: the stream's end,
        or all of a whole answer.
        """
        ...

    def error_event(self, error: FareboxError, usage: Usage) -> bytes:
        """What ends a stream which failed; `usage` was charged for what had come."""
        ...


Dialect = Callable[[Call, Circumstances], Interpreter]

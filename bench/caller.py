"""One client connection of a measurement: it sends the same request again and notes the answer.

It reads no more of an answer than is needed to know that it is good and where it ends, so that
the generator costs little beside the server that it measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

from bench.wire import END

_EVENT = b"data: {"
_KEPT = max(len(_EVENT) - 1, len(END))  # of a read, in case the next goes on with it
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_GOOD = b"HTTP/1.1 200 "


OnDone = Callable[["Caller"], None]


class BadAnswer(Exception):
    """A server under test answered otherwise than it should: its figures would mean nothing."""


@dataclass(slots=True)
class Tally:
    """What the callers of one measurement have got."""

    calls: int = 0
    events: int = 0
    first_token_ms: list[float] = field(default_factory=list[float])
    failure: BadAnswer | None = None


class Caller(asyncio.Protocol):
    """A connection. `on_done` is told of every complete answer; a failure stands in the tally."""

    __slots__ = (
        "_buffer",
        "_has_begun",
        "_last_word",
        "_on_done",
        "_read_before",
        "_request",
        "_sent_s",
        "_size",
        "_tally",
        "_transport",
        "is_waiting",
    )

    def __init__(
        self, request: bytes, tally: Tally, on_done: OnDone | None, *, last_word: bytes = b""
    ) -> None:
        """`last_word` is in the last event of a stream; without one the answers are plain."""
        self._request = request
        self._tally = tally
        self._on_done = on_done
        self._last_word = last_word
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._read_before = b""
        self._has_begun = False  # a first event, or the first byte of a plain answer, has come
        self._size = 0  # of a plain answer, head included
        self._sent_s = 0.0
        self.is_waiting = False  # for an answer, or for its rest

    def call(self) -> None:
        """Send the request."""
        assert self._transport is not None
        assert not self.is_waiting
        self.is_waiting = True
        self._has_begun, self._buffer, self._read_before, self._size = False, b"", b"", 0
        self._sent_s = perf_counter()  # the loop's own time counts whole milliseconds
        self._transport.write(self._request)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.is_waiting:
            self._fail(f"the connection was lost in an answer: {exc}")

    def data_received(self, data: bytes) -> None:
        if not self.is_waiting:
            self._fail(f"more than an answer came: {data[:200]!r}")
            return
        if self._buffer:
            data = self._buffer + data
        elif not data.startswith(_GOOD):
            self._fail(f"an answer was not 200: {data[:1000]!r}")
            return
        if self._last_word:
            self._take_events(data)
        else:
            self._take_plain(data)

    def _take_events(self, data: bytes) -> None:
        count = data.count(_EVENT)
        if count:
            self._tally.events += count
            self._begin()
        if not data.endswith(END):
            self._buffer = data[-_KEPT:]
            self._read_before = data
        elif self._last_word in data or self._last_word in self._read_before + data:
            self._finish()
        else:
            self._fail(f"a stream broke off: {data[-1000:]!r}")

    def _take_plain(self, data: bytes) -> None:
        self._begin()
        if not self._size:
            head_end = data.find(_HEAD_END)
            if head_end >= 0:
                head = data[:head_end].lower()
                value = head[head.index(_LENGTH) + len(_LENGTH) :].split(b"\r\n", 1)[0]
                self._size = head_end + len(_HEAD_END) + int(value)
        if self._size and len(data) >= self._size:
            self._finish()
        else:
            self._buffer = data

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._tally.first_token_ms.append((perf_counter() - self._sent_s) * 1000)

    def _finish(self) -> None:
        self.is_waiting = False
        self._buffer = b""
        self._tally.calls += 1
        if self._on_done is not None:
            self._on_done(self)

    def _fail(self, what: str) -> None:
        self.is_waiting = False
        self._tally.failure = self._tally.failure or BadAnswer(what)
        self.close()

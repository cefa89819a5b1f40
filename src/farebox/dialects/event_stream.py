"""What every stream of an answer shares, whatever its events mean: cutting what arrives into
events, the failures that end the reading, `[DONE]`, and the limit of what may be kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import msgspec

from farebox.dialects.said import Said
from farebox.dialects.sse import Event, EventTooLarge, Splitter
from farebox.errors import UpstreamFailed


class EventStream(ABC):
    """Feed it what arrives; it returns what may leave now. A subclass reads single events."""

    kind: ClassVar[str] = "event"  # what an upstream should have sent
    started: bool  # an event of the answer was seen
    usage: msgspec.Raw | None  # the last that was reported, whole
    service_tier: str | None
    error: object | None  # what the upstream said went wrong, decoded
    failure: UpstreamFailed | None  # why the rest of the stream is of no use
    finished: bool  # nothing more can come that matters
    is_alike: bool  # what was fed last brought a text as those before did, and nothing else
    text_bytes: int  # of what the model wrote, for an estimate where no usage comes
    said: Said | None  # the text itself, as far as it is kept

    def __init__(self, max_event_bytes: int) -> None:
        self._splitter = Splitter(max_event_bytes)
        self._max_kept_bytes = max_event_bytes
        self._kept_bytes = 0
        self.started = False
        self.usage = None
        self.service_tier = None
        self.error = None
        self.failure = None
        self.finished = False
        self.is_alike = False
        self.text_bytes = 0
        self.said = None

    def keep_text(self) -> None:
        """Keep what the model writes, to be counted if no usage comes."""
        self.said = Said()

    def feed(self, data: bytes) -> bytes:
        """What of the answer may leave now: all that came before a failure, if there is one."""
        try:
            events = self._splitter.feed(data)
        except EventTooLarge as error:
            self.finished = True
            self.failure = UpstreamFailed(
                "The upstream sent a larger event than the gateway takes.", reason="event_too_large"
            )
            self.failure.__cause__ = error
            return b""
        return self._pass_on(events)

    def end(self) -> bytes:
        """The upstream's body ended; whatever had no blank line behind it is read now."""
        self.is_alike = False
        return self._pass_on(self._splitter.close())

    @abstractmethod
    def _take(self, raw: bytes, data: bytes, leaving: list[bytes]) -> None:
        """Read one event, as it came and its data, and add what may leave. Raises UpstreamFailed;
        what cannot be decoded is seen to here.
        """

    def _pass_on(self, events: list[Event]) -> bytes:
        leaving: list[bytes] = []
        try:
            for raw, data in events:
                if self.finished:
                    break
                if data is None:  # a comment is a sign of life; the client gets our own
                    continue
                try:
                    self._take(raw, data, leaving)
                except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                    self._take_unreadable(data, error)
                if self.error is not None:
                    self.finished = True
        except UpstreamFailed as failure:
            self.failure, self.finished = failure, True
        return b"".join(leaving)

    def _take_unreadable(self, data: bytes, error: Exception) -> None:
        text = data.strip()
        if text == b"[DONE]":
            self.finished = True
        elif text:
            raise UpstreamFailed(
                f"The upstream sent an event that is no {self.kind}.", reason="bad_event"
            ) from error

    def _count_kept(self, size_bytes: int) -> None:
        """So much more is kept for the tail. Raises UpstreamFailed beyond the limit."""
        self._kept_bytes += size_bytes
        if self._kept_bytes > self._max_kept_bytes:
            raise UpstreamFailed(
                "The upstream goes on after its answer's end.", reason="tail_too_large"
            )

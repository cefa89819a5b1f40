"""A stream of chat chunks that takes many at a time where they are alike but for their text.

What an event means, and what becomes of it, is told by a subclass: once by the rules, and for those
that are like it (chat_repeats.py) once a read.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import groupby
from typing import ClassVar

from farebox.dialects.chat_mend import Chunk, Mender
from farebox.dialects.chat_repeats import BLANK_LINE, Pattern, Texts, learn
from farebox.dialects.event_stream import EventStream

_CHANCES = 8  # to learn a pattern: the events of some streams are never alike
_MOST_KEPT_BYTES = 4096  # of an event's beginning, which is looked at again with each read


class RepeatingStream(EventStream):
    """A subclass calls _learn() when it has read a chunk that was right as it came."""

    decodes: ClassVar[bool]  # the texts, so that they must be UTF-8

    def __init__(self, mender: Mender, max_event_bytes: int) -> None:
        super().__init__(max_event_bytes)
        self._mender = mender
        self._pattern: Pattern | None = None
        self._chances = _CHANCES

    def feed(self, data: bytes) -> bytes:
        """What of the answer may leave now."""
        pattern, splitter = self._pattern, self._splitter
        if pattern is None or splitter.kept_bytes > _MOST_KEPT_BYTES:
            return super().feed(data)
        events = (splitter.take_kept() + data).split(BLANK_LINE)
        rest = events.pop()
        texts = pattern.read(events, decodes=self.decodes)
        if texts is None or self._mender.all_finished:
            leaving = self._pass_mixed(pattern, events)
        else:
            leaving = self._pass_alike(pattern, texts)
        if rest and not self.finished:
            leaving += super().feed(rest)
        return leaving

    @abstractmethod
    def _pass_alike(self, pattern: Pattern, texts: Texts) -> bytes:
        """What leaves for events of this pattern."""

    def _learn(self, raw: bytes, data: bytes, chunk: Chunk) -> tuple[Pattern, bytes] | None:
        """As chat_repeats.learn(), while it can be of use."""
        if self._chances == 0 or self._mender.all_finished or self.said is not None:
            return None
        self._chances -= 1
        return learn(raw, data, chunk)

    def _pass_mixed(self, pattern: Pattern, events: list[bytes]) -> bytes:
        def is_alike(event: bytes) -> bool:
            return pattern.read([event], decodes=self.decodes) is not None

        leaving: list[bytes] = []
        for alike, run in groupby(events, is_alike):
            if self.finished:
                break
            group = list(run)
            texts = pattern.read(group, decodes=self.decodes) if alike else None
            if texts is None or self._mender.all_finished:
                leaving.append(super().feed(BLANK_LINE.join(group) + BLANK_LINE))
            else:
                leaving.append(self._pass_alike(pattern, texts))
        return b"".join(leaving)

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
_FEW = 3  # events, of which one may be like those that follow
_LAST = 3
_MOST_KEPT_BYTES = 4096  # of an event's beginning, which is looked at again with each read


class RepeatingStream(EventStream):
    """A subclass calls _learn() when it has read a chunk that was right as it came."""

    decodes: ClassVar[bool]  # the texts, so that they must be UTF-8

    def __init__(self, mender: Mender, max_event_bytes: int) -> None:
        super().__init__(max_event_bytes)
        self._mender = mender
        self._pattern: Pattern | None = None
        self._steady: Pattern | None = None  # the same, if whole events of it may come now
        self._chances = _CHANCES

    def feed(self, data: bytes) -> bytes:
        """What of the answer may leave now."""
        steady = self._steady
        if steady is not None and (texts := steady.read_one(data)) is not None:
            self.is_alike = True
            return self._pass_alike(steady, texts)
        self.is_alike = False
        leaving = self._feed_any(data)
        is_steady = not self._splitter.kept and not self._mender.all_finished
        self._steady = self._pattern if is_steady else None
        return leaving

    def _feed_any(self, data: bytes) -> bytes:
        pattern, splitter = self._pattern, self._splitter
        if len(splitter.kept) > _MOST_KEPT_BYTES:
            return super().feed(data)
        if pattern is None:
            return self._feed_first(data)
        events = (splitter.take_kept() + data).split(BLANK_LINE)
        rest = events.pop()
        last: list[bytes] = []  # the finish, the usage and [DONE] often end a read
        while events and len(last) < _LAST and not events[-1].startswith(pattern.head):
            last.insert(0, events.pop())
        if last:
            rest = _joined(last) + rest
        texts = pattern.read(events)
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
        if self._chances == 0 or self._mender.all_finished:
            return None
        if self._pattern is not None and self._pattern.frames(raw[: -len(BLANK_LINE)]):
            return None  # it is known; what was odd is the text
        self._chances -= 1
        return learn(raw, data, chunk, decodes=self.decodes)

    def _feed_first(self, data: bytes) -> bytes:
        """While there is no pattern: a large read is begun with a few events, to learn one."""
        if self._chances == 0:
            return super().feed(data)
        few = data.split(BLANK_LINE, _FEW)
        rest = few.pop()
        if len(few) < _FEW:
            return super().feed(data)
        leaving = super().feed(_joined(few))
        if self.finished or not rest:
            return leaving
        return leaving + (super().feed(rest) if self._pattern is None else self._feed_any(rest))

    def _pass_mixed(self, pattern: Pattern, events: list[bytes]) -> bytes:
        leaving: list[bytes] = []
        for is_framed, run in groupby(events, pattern.frames):
            if self.finished:
                break
            group = list(run)
            texts = pattern.read(group) if is_framed else None
            if texts is not None and not self._mender.all_finished:
                leaving.append(self._pass_alike(pattern, texts))
            elif is_framed and len(group) > 1:
                leaving += [self._pass_mixed(pattern, [event]) for event in group]
            else:
                leaving.append(self._pass_odd(pattern, group))
        return b"".join(leaving)

    def _pass_odd(self, pattern: Pattern, events: list[bytes]) -> bytes:
        few, more = events[:_FEW], events[_FEW:]
        leaving = super().feed(_joined(few))
        if self.finished or not more:
            return leaving
        is_new = self._pattern is not pattern  # then those that follow may be alike
        return leaving + (self._feed_any(_joined(more)) if is_new else super().feed(_joined(more)))


def _joined(events: list[bytes]) -> bytes:
    return BLANK_LINE.join(events) + BLANK_LINE

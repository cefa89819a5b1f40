"""A chat completion's stream on its way to the client: what passes as it came, what must be mended.

An event whose fields are right leaves as the bytes that came. The model's name is answered as the
client asked it; ids, roles and tool-call indexes are mended (chat_mend.py) only where an upstream
breaks the rules that the SDKs' stream helpers rely on. From the first chunk that may end the
answer on, everything is the tail: kept back until the charge is committed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from farebox.core.call import Call
from farebox.dialects.chat import DONE
from farebox.dialects.chat_mend import Chunk, Mender, is_set
from farebox.dialects.chat_repeats import BLANK_LINE, CHANGED, PROBE, Pattern, Texts
from farebox.dialects.repeating_stream import RepeatingStream
from farebox.dialects.said import keep_chunk
from farebox.dialects.sse import event

_CHUNK = msgspec.json.Decoder(Chunk)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode
_MODEL = b'"model"'


class ChatStream(RepeatingStream):
    """One stream. Feed it what arrives; it returns what may leave now, and keeps the tail.

    `finish_reasons` maps a vendor's own words to the standard ones; `failing_finish_reasons` are
    those that mean that the answer broke off.
    """

    kind = "chat chunk"
    decodes = False

    def __init__(
        self,
        call: Call,
        finish_reasons: Mapping[str, str],
        failing_finish_reasons: frozenset[str],
        max_event_bytes: int,
    ) -> None:
        mender = Mender(call.request_id, finish_reasons, failing_finish_reasons)
        super().__init__(mender, max_event_bytes)
        self._model = call.model
        self._model_json = _encode(call.model)
        self._head = b""  # what the last renamed chunk began with, its model's name included
        self._renamed_head = b""
        self._include_usage = call.include_usage
        self._choices = call.choices
        self._tail: list[bytes] = []
        self._usage_sent = False

    def feed(self, data: bytes) -> bytes:
        """What of the answer may leave now."""
        pattern = self._steady
        if pattern is None or self.said is not None:
            return super().feed(data)
        # What would be done for most events of most streams: one a read, the text in it as JSON has
        # most texts. Pattern.read_one() and _pass_alike() in one, which take twice as long.
        piece = text = plain = data[pattern.changing]
        if pattern.inner:
            before, _, more = piece.rpartition(b'"')
            text = before.removesuffix(pattern.inner)
            if len(text) == len(before):
                return super().feed(data)
            plain = text + more
        if data != pattern.head + piece + pattern.end or plain.translate(CHANGED) != plain:
            return super().feed(data)
        self.is_alike = True
        if pattern.service_tier is not None:
            self.service_tier = pattern.service_tier
        self.text_bytes += len(text)
        if pattern.rest is None:
            return pattern.leaving_head + piece + pattern.leaving_tail
        return pattern.leaving_front + data[pattern.rest]

    @property
    def tool_calls(self) -> tuple[tuple[str, int], ...] | None:
        """Chat chunks do not say how often a hosted tool ran."""
        return None

    @property
    def ending(self) -> bool:
        """Whether every choice seen so far has finished: what follows is the tail."""
        return self._mender.all_finished

    @property
    def whole(self) -> bool:
        """Whether every choice that was asked for has finished: only usage and `[DONE]` may
        follow.
        """
        return self.ending and self._mender.finished_choices >= self._choices

    def tail(self, usage_chunk: bytes | None = None) -> bytes:
        """What was kept back, the usage chunk if the client asked and got none yet, and
        `[DONE]`.
        """
        parts = self._tail
        self._tail = []
        if self._include_usage and not self._usage_sent and usage_chunk is not None:
            # It is one of this answer's chunks, so it carries their id.
            mended = self._mender.mend(_CHUNK.decode(usage_chunk), usage_chunk)
            parts.append(event(mended or usage_chunk))
        parts.append(DONE)
        return b"".join(parts)

    def _take(self, raw: bytes, data: bytes, leaving: list[bytes]) -> None:
        passed = self._chunk(raw, data)
        if self._mender.all_finished:
            self._tail.append(passed)
            self._count_kept(len(passed))
            return
        if self._tail:  # a choice that nobody had seen yet: that was not the tail
            leaving += self._tail
            self._tail = []
            self._kept_bytes = 0
        leaving.append(passed)

    def _chunk(self, raw: bytes, data: bytes) -> bytes:
        chunk = _CHUNK.decode(data)
        if is_set(chunk.error):
            self.error = msgspec.json.decode(chunk.error)
            return b""
        self.started = True
        if chunk.service_tier is not None:
            self.service_tier = chunk.service_tier
        if is_set(chunk.usage):
            self.usage = chunk.usage
            if not chunk.choices and not self._include_usage:
                return b""  # the extra chunk that only we asked for
            self._usage_sent = True
        self.text_bytes += chunk.text_bytes()
        if self.said is not None:
            keep_chunk(self.said, chunk)
        mended = self._mender.mend(chunk, data)
        if mended is None and (learned := self._learn(raw, data, chunk)) is not None:
            self._use(*learned, chunk.model)
        if mended is None and chunk.model == self._model:
            return raw
        return self._rename(data if mended is None else mended, chunk.model)

    def _use(self, pattern: Pattern, probe: bytes, model: str | None) -> None:
        """Find out what leaves for an event of this pattern: what leaves for the probe."""
        asis = event(probe)
        leaving = asis if model == self._model else self._rename(probe, model)
        head, _, tail = leaving.partition(PROBE)
        if pattern.middle:
            if not asis.endswith(PROBE + tail):
                return  # the name stands where something else changes
            tail = pattern.tail + BLANK_LINE
        self._pattern = pattern.leaving_as(head, tail)

    def _pass_alike(self, pattern: Pattern, texts: Texts) -> bytes:
        if pattern.service_tier is not None:
            self.service_tier = pattern.service_tier
        self.text_bytes += texts.size_bytes
        if self.said is not None:
            self.said.add_texts(texts.texts)
        pieces = pattern.leaving_between.join(texts.pieces)
        return b"".join((pattern.leaving_head, pieces, pattern.leaving_tail))

    def _rename(self, data: bytes, model: str | None) -> bytes:
        if not self._head or not data.startswith(self._head):
            self._learn_head(data, model)
        if self._head:
            return event(self._renamed_head + data[len(self._head) :])
        fields = _FIELDS.decode(data)
        fields["model"] = msgspec.Raw(self._model_json)
        return event(_encode(fields))

    def _learn_head(self, data: bytes, model: str | None) -> None:
        """Remember how this chunk begins, up to its model's name: the next ones mostly begin
        alike, and need not be decoded to be renamed.
        """
        self._head = b""
        name = _encode(model)
        key = data.find(_MODEL)
        start = data.find(name, key)
        if key < 0 or start < 0 or data[key + len(_MODEL) : start].strip() != b":":
            return
        head = data[: start + len(name)]
        try:
            _FIELDS.decode(head + b"}")  # is whole only if the name stands on the top level
        except msgspec.DecodeError:
            return
        self._head, self._renamed_head = head, data[:start] + self._model_json

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
from farebox.dialects.sse import Event, EventTooLarge, Splitter, event
from farebox.errors import UpstreamFailed

_CHUNK = msgspec.json.Decoder(Chunk)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode
_MODEL = b'"model"'


class ChatStream:
    """One stream. Feed it what arrives; it returns what may leave now, and keeps the tail.

    `finish_reasons` maps a vendor's own words to the standard ones; `failing_finish_reasons` are
    those that mean that the answer broke off.
    """

    def __init__(
        self,
        call: Call,
        finish_reasons: Mapping[str, str],
        failing_finish_reasons: frozenset[str],
        max_event_bytes: int,
    ) -> None:
        self._splitter = Splitter(max_event_bytes)
        self._max_tail_bytes = max_event_bytes
        self._model = call.model
        self._model_json = _encode(call.model)
        self._head = b""  # what the last renamed chunk began with, its model's name included
        self._renamed_head = b""
        self._include_usage = call.include_usage
        self._choices = call.choices
        self._mender = Mender(call.request_id, finish_reasons, failing_finish_reasons)
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self._done = False  # the upstream said [DONE]
        self._usage_sent = False
        self.started = False  # an event of the answer was seen
        self.usage: msgspec.Raw | None = None  # the last that was reported, whole
        self.service_tier: str | None = None
        self.error: object | None = None  # what the upstream said went wrong, decoded
        self.failure: UpstreamFailed | None = None  # why the rest of the stream is of no use
        self.text_bytes = 0  # of what the model wrote, for an estimate where no usage comes

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

    @property
    def finished(self) -> bool:
        """Whether nothing more can come that matters: an error, or the upstream's [DONE]."""
        return self._done or self.error is not None or self.failure is not None

    def feed(self, data: bytes) -> bytes:
        """What of the answer may leave now: all that came before a failure, if there is one."""
        try:
            events = self._splitter.feed(data)
        except EventTooLarge as error:
            self.failure = UpstreamFailed(
                "The upstream sent a larger event than the gateway takes.", reason="event_too_large"
            )
            self.failure.__cause__ = error
            return b""
        return self._pass_on(events)

    def end(self) -> bytes:
        """The upstream's body ended; whatever had no blank line behind it is read now."""
        return self._pass_on(self._splitter.close())

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

    def _pass_on(self, events: list[Event]) -> bytes:
        leaving: list[bytes] = []
        try:
            for raw, data in events:
                if self.finished:
                    break
                if data is not None:  # a comment is a sign of life; the client gets our own
                    self._take(self._event(raw, data), leaving)
        except UpstreamFailed as failure:
            self.failure = failure
        return b"".join(leaving)

    def _take(self, passed: bytes, leaving: list[bytes]) -> None:
        """Put an event with what leaves, or into the tail."""
        if self._mender.all_finished:
            self._tail.append(passed)
            self._tail_bytes += len(passed)
            if self._tail_bytes > self._max_tail_bytes:
                raise UpstreamFailed(
                    "The upstream goes on after its answer's end.", reason="tail_too_large"
                )
            return
        if self._tail:  # a choice that nobody had seen yet: that was not the tail
            leaving += self._tail
            self._tail = []
            self._tail_bytes = 0
        leaving.append(passed)

    def _event(self, raw: bytes, data: bytes) -> bytes:
        try:
            return self._chunk(raw, data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            text = data.strip()
            if text == b"[DONE]":
                self._done = True
            elif text:
                raise UpstreamFailed(
                    "The upstream sent an event that is no chat chunk.", reason="bad_event"
                ) from error
            return b""

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
        self.text_bytes += chunk.text_bytes(data)
        mended = self._mender.mend(chunk, data)
        if mended is None and chunk.model == self._model:
            return raw
        return self._rename(data if mended is None else mended, chunk.model)

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

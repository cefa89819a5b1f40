"""An answer of an upstream that speaks the Messages API, on its way to the client.

An event whose fields are right leaves as the bytes that came. The one that begins a message has our
id and the model as it was asked for, and leaves with the first event of its content, so that until
then another channel may answer. From the one that says why the message ends, everything is the
tail. Source: Anthropic's SDK for Python, `RawMessageStreamEvent` with and without its betas.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects import sse
from farebox.dialects.chat_answer import Answer
from farebox.dialects.chat_mend import NOTHING, is_set
from farebox.dialects.event_stream import EventStream
from farebox.dialects.messages_shell import event
from farebox.dialects.messages_usage import Counts, RawObject, as_asked, runs_of
from farebox.errors import UpstreamFailed

_encode = msgspec.json.encode
_START: Final = "message_start"
_DELTA_OF_MESSAGE: Final = "message_delta"
_EMPTY_INPUT: Final = b"{}"
_QUOTES = 2


class _Event(msgspec.Struct):
    """The fields of an event that the gateway must know; all others pass unread."""

    type: str = ""
    message: msgspec.Raw = NOTHING
    content_block: msgspec.Raw = NOTHING
    delta: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class _Delta(msgspec.Struct):
    stop_reason: str | None = None
    text: msgspec.Raw = NOTHING
    thinking: msgspec.Raw = NOTHING
    partial_json: msgspec.Raw = NOTHING
    content: msgspec.Raw = NOTHING  # of a summary, when the context is compacted


class _Block(msgspec.Struct):
    type: str | None = None
    name: str | None = None
    text: msgspec.Raw = NOTHING
    thinking: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING


class _Message(msgspec.Struct):
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


_EVENT = msgspec.json.Decoder(_Event)
_DELTA = msgspec.json.Decoder(_Delta)
_BLOCK = msgspec.json.Decoder(_Block)
_MESSAGE = msgspec.json.Decoder(_Message)
_FIELDS = msgspec.json.Decoder(RawObject)


class NativeMessageStream(EventStream):
    """One stream, up to its end, which is the tail's."""

    kind = "event of the Messages API"

    def __init__(self, call: Call, max_event_bytes: int) -> None:
        super().__init__(max_event_bytes)
        self._call = call
        self._counts = Counts(call)
        self._start: RawObject | None = None  # the event that begins the message
        self._is_open = False  # whether that has left
        # Events, with the fields of those that tell a usage.
        self._end: list[tuple[bytes, RawObject | None]] = []
        self._is_ending = False
        self._ran: Counter[str] = Counter()

    @property
    def tool_calls(self) -> tuple[tuple[str, int], ...]:
        """How often each hosted tool ran."""
        return self._counts.tool_calls(self._ran)

    @property
    def ending(self) -> bool:
        """Whether the message has said why it ends."""
        return self._is_ending

    @property
    def whole(self) -> bool:
        """The same: the usage comes with that."""
        return self._is_ending

    def feed(self, data: bytes) -> bytes:
        """What of the answer may leave now."""
        leaving = super().feed(data)
        self._reckon()
        return leaving

    def end(self) -> bytes:
        """The same for the end of the upstream's body."""
        leaving = super().end()
        self._reckon()
        return leaving

    def tail(self, usage: Usage) -> bytes:
        """The events that end the message. A usage that is not there, or is not what was charged,
        is that.
        """
        parts = [self._open()]
        for raw, fields in self._end:
            given = NOTHING if fields is None else fields.get("usage", NOTHING)
            if fields is None or (shown := self._counts.shown(given, usage)) is given:
                parts.append(raw)
            else:
                parts.append(_event(_DELTA_OF_MESSAGE, {**fields, "usage": shown}))
        self._end = []
        return b"".join((*parts, event("message_stop")))

    def _reckon(self) -> None:
        self.usage = self._counts.reported(self.text_bytes)
        self.service_tier = self._counts.service_tier

    def _take(self, raw: bytes, data: bytes, leaving: list[bytes]) -> None:
        found = _EVENT.decode(data)
        kind = found.type
        if kind == "ping":
            return  # the client gets ours
        if kind == "error" or (not kind and is_set(found.error)):
            self.error = msgspec.json.decode(found.error) if is_set(found.error) else {}
        elif not kind.isprintable() or not kind:
            raise ValueError("an event without a type")
        elif kind == _START:
            self._begin(found.message, _FIELDS.decode(data))
        elif self._start is None:
            raise ValueError("an event before the message's beginning")
        elif kind == "message_stop":
            self.finished = True
        else:
            self._pass(found, raw, data, leaving)

    def _begin(self, message: msgspec.Raw, fields: RawObject) -> None:
        if self._start is not None:
            raise ValueError("a second beginning")
        given = _FIELDS.decode(message)
        usage = given.get("usage", NOTHING)
        self._counts.learn(usage)
        ours = as_asked(given, self._call, self._counts.so_far(usage))
        self._start = {**fields, "message": msgspec.Raw(_encode(ours))}

    def _pass(self, found: _Event, raw: bytes, data: bytes, leaving: list[bytes]) -> None:
        kind, fields = found.type, None
        if kind == _DELTA_OF_MESSAGE:
            fields = _FIELDS.decode(data)
            if self._note_delta(found):
                fields["usage"] = self._counts.so_far(found.usage)
                raw = _event(kind, fields)
        elif kind == "content_block_delta":
            self.text_bytes += _delta_bytes(_DELTA.decode(found.delta))
        elif kind == "content_block_start":
            block = _BLOCK.decode(found.content_block)
            self.text_bytes += _block_bytes(block)
            self._ran.update(runs_of(block.type, block.name))
        self.started = True
        if not raw.startswith(b"event: %b\n" % kind.encode()):
            raw = _event(kind, _FIELDS.decode(data))  # SDKs pass over what has no name
        if self._is_ending:
            self._end.append((raw, fields))
            self._count_kept(len(raw))
        else:
            leaving.append(self._open() + raw)

    def _note_delta(self, found: _Event) -> bool:
        """Remember what a message's delta tells; whether it leaves now, and lacks counts that
        clients rely on.
        """
        delta = _DELTA.decode(found.delta) if is_set(found.delta) else _Delta()
        self._is_ending = self._is_ending or delta.stop_reason is not None
        self._counts.learn(found.usage, is_last=self._is_ending)
        return not self._is_ending and self._counts.so_far(found.usage) is not found.usage

    def _open(self) -> bytes:
        """What begins the message, once."""
        assert self._start is not None
        if self._is_open:
            return b""
        self._is_open = True
        return _event(_START, self._start)


class NativeMessage:
    """One whole answer: a message object. Raises UpstreamFailed when the body is none that has
    ended.
    """

    def __init__(self, body: bytes, call: Call) -> None:
        self._call = call
        self._counts = Counts(call)
        self._fields: RawObject = {}
        try:
            self.answer = self._read(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UpstreamFailed(
                "The upstream's answer is no finished message.", reason="bad_answer"
            ) from error

    def tail(self, usage: Usage) -> bytes:
        """The message object. A usage that is not there, or is not what was charged, is that."""
        shown = self._counts.shown(self._fields.get("usage", NOTHING), usage)
        return _encode(as_asked(self._fields, self._call, shown))

    def _read(self, body: bytes) -> Answer:
        message = _MESSAGE.decode(body)
        if is_set(message.error):
            return Answer(b"", None, None, 0, msgspec.json.decode(message.error))
        if message.content is None or message.stop_reason is None:
            raise ValueError("no finished message")
        self._fields = _FIELDS.decode(body)
        self._counts.learn(message.usage, is_last=True)
        text_bytes = sum(map(_block_bytes, message.content))
        ran = Counter(tool for b in message.content for tool in runs_of(b.type, b.name))
        return Answer(
            b"",
            self._counts.reported(text_bytes),
            self._counts.service_tier,
            text_bytes,
            tool_calls=self._counts.tool_calls(ran),
        )


def _event(kind: str, fields: RawObject) -> bytes:
    return b"event: " + kind.encode() + b"\n" + sse.event(_encode(fields))


def _delta_bytes(delta: _Delta) -> int:
    parts = (delta.text, delta.thinking, delta.partial_json, delta.content)
    return sum(_length(part) for part in parts if part is not NOTHING)


def _block_bytes(block: _Block) -> int:
    """About the bytes of what the model wrote in a block, as far as it is there."""
    total = len(block.name or "") + _length(block.text) + _length(block.thinking)
    written = bytes(block.input)
    return total if written in (b"", b"null", _EMPTY_INPUT) else total + len(written)


def _length(text: msgspec.Raw) -> int:
    """The bytes of a text in JSON; nothing for what is none."""
    raw = bytes(text)
    if not raw.startswith(b'"'):
        return 0
    if b"\\" in raw:
        return len(str(msgspec.json.decode(raw)).encode(errors="replace"))
    return len(raw) - _QUOTES

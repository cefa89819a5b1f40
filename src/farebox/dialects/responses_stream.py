"""A Responses answer of an upstream that speaks the API itself, on its way to the client.

An event whose fields are right leaves as the bytes that came. Events that carry the response
object are mended (responses_native_object.py); numbers are, where ours differ because events of
ours stand before. What begins a response leaves with the first event of its output, so that until
then another channel may answer; the event that ends it is the tail's. Source: OpenAI's OpenAPI
document, `ResponseStreamEvent`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import cast

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects import sse
from farebox.dialects.chat_answer import Answer
from farebox.dialects.chat_mend import ESCAPE, NOTHING, is_set
from farebox.dialects.event_stream import EventStream
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.responses_native_object import (
    END_TURN,
    FIELDS,
    RESPONSE,
    RawObject,
    Response,
    as_asked,
    text_bytes_of,
    tool_of,
    usage_shown,
    without_end_turn,
)
from farebox.dialects.responses_shell import Object, Shell
from farebox.errors import UpstreamFailed

_encode = msgspec.json.encode
_CREATED = "response.created"
_OPENING = frozenset((_CREATED, "response.in_progress", "response.queued"))
_GOOD = {"response.completed": "completed", "response.incomplete": "incomplete"}
_FAILED = frozenset(("response.failed", "response.cancelled"))
_BAD = ("failed", "cancelled")  # also where the event's type says otherwise
_KEEPALIVE = "keepalive"
_MAX_ITEMS = 10_000  # of one answer: something is remembered of each
_QUOTES = 2


class _Event(msgspec.Struct):
    """The fields of an event that the gateway must know; all others pass unread."""

    type: str = ""
    sequence_number: msgspec.Raw = NOTHING
    response: msgspec.Raw = NOTHING
    item: msgspec.Raw = NOTHING
    output_index: int | None = None
    delta: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING


_EVENT = msgspec.json.Decoder(_Event)


class NativeStream(EventStream):
    """One stream, up to its end, which is the tail's."""

    kind = "event of the Responses API"

    def __init__(
        self, call: Call, shell: Shell, around: Circumstances, max_event_bytes: int
    ) -> None:
        super().__init__(max_event_bytes)
        self._call = call
        self._shell = shell
        self._around = around
        # The events that open a response by type, each with its response.
        self._held: dict[str, tuple[RawObject, RawObject]] = {}
        self._is_open = False
        self._over: Object = {}  # what the client was told of the response before it began
        self._terminal: tuple[str, RawObject, RawObject] | None = None  # as in _held
        self._places: list[int] = []  # in the output, of the finished items, in order
        self._spoken: set[int] = set()  # places of items whose text has come in deltas
        self._ran: Counter[str] = Counter()
        shell.output = []

    @property
    def tool_calls(self) -> tuple[tuple[str, int], ...]:
        """How often each hosted tool ran: each time is an item."""
        return tuple(sorted(self._ran.items()))

    @property
    def ending(self) -> bool:
        """Whether the response has its end."""
        return self._terminal is not None

    @property
    def whole(self) -> bool:
        """The event that ends a response carries its usage too."""
        return self.ending

    def tail(self, usage: Usage) -> bytes:
        """The event that ends the response, with what was charged as its usage."""
        assert self._terminal is not None
        opened = self._open()
        kind, fields, given = self._terminal
        over = {**self._over, "usage": usage_shown(self.usage, usage)}
        if self._places and bytes(given.get("output", b"[]")) in (b"[]", b"null"):
            over["output"] = self._shell.output  # some servers give each item once
        response = as_asked(given, _GOOD[kind], self._call, self._shell, **over)
        return opened + self._numbered(kind, {**fields, "response": response})

    def _take(self, raw: bytes, data: bytes, leaving: list[bytes]) -> None:
        if data.find(END_TURN) >= 0:
            raw = data = without_end_turn(data)
        leaving.append(self._passed(raw, data, _EVENT.decode(data)))

    def _passed(self, raw: bytes, data: bytes, event: _Event) -> bytes:
        kind = event.type
        if kind == "error" or (not kind and is_set(event.error)):
            self.error = _said(data)
            self.usage = event.usage if is_set(event.usage) else None
            return b""
        if not kind or not kind.isprintable():
            raise ValueError("an event without a type")
        if kind in _OPENING:
            return self._opening(kind, FIELDS.decode(data))
        if kind in _GOOD or kind in _FAILED:
            self._end(kind, event.response, FIELDS.decode(data))
            return b""
        if kind == _KEEPALIVE and not self.started:
            return b""
        self.started = True
        self._note(kind, event)
        if not self._is_open:
            FIELDS.decode(data)  # what cannot be read must not open a response that never leaves
        return self._open() + self._right(kind, raw, data, event)

    def _opening(self, kind: str, fields: RawObject) -> bytes:
        response = fields.get("response", NOTHING)
        given = FIELDS.decode(response) if is_set(response) else {}
        if not self._is_open:
            self._held[kind] = fields, given
            return b""
        return self._envelope(kind, fields, given)

    def _open(self) -> bytes:
        """What begins the response, once: as the upstream gave it, or as a ping has."""
        if self._is_open:
            return b""
        self._is_open = True
        if self._shell.opened or next(iter(self._held), None) != _CREATED:
            opened = self._shell.open()
            self._over["created_at"] = self._around.created_s
            return opened
        self._shell.opened = True
        return b"".join(self._envelope(kind, *held) for kind, held in self._held.items())

    def _envelope(self, kind: str, fields: RawObject, given: RawObject) -> bytes:
        over: Object = self._over if "output" in given else {"output": [], **self._over}
        status = kind.removeprefix("response.").replace("created", "in_progress")
        response = as_asked(given, status, self._call, self._shell, **over)
        return self._numbered(kind, {**fields, "response": response})

    def _right(self, kind: str, raw: bytes, data: bytes, event: _Event) -> bytes:
        """The event as it came if its number is the one that is due, else under that one."""
        is_due = bytes(event.sequence_number) == b"%d" % self._shell.sequence
        if is_due and raw.startswith(b"event: " + kind.encode()):
            self._shell.skip()
            return raw
        return self._numbered(kind, FIELDS.decode(data))

    def _numbered(self, kind: str, fields: RawObject | Object) -> bytes:
        data = _encode({**fields, "sequence_number": self._shell.sequence})
        self._shell.skip()
        return b"event: " + kind.encode() + b"\n" + sse.event(data)

    def _note(self, kind: str, event: _Event) -> None:
        """Remember what the charge and a failure's event need of this one."""
        place = len(self._places) if event.output_index is None else event.output_index
        if kind.endswith(".delta") and bytes(event.delta)[:1] == b'"':
            self.text_bytes += _text_length(event.delta)
            self._spoken.add(place)
        elif kind == "response.output_item.done" and is_set(event.item):
            item = cast("Object", msgspec.json.decode(event.item))
            tool = tool_of(event.item)
            if place not in self._spoken:
                self.text_bytes += text_bytes_of(item)
            if self._put(place, item) and tool is not None:
                self._ran[tool] += 1
        if max(len(self._places), len(self._spoken)) > _MAX_ITEMS:
            raise ValueError("more items than any answer has")

    def _put(self, place: int, item: Object) -> bool:
        """Put a finished item where it belongs in the output; whether none was there."""
        at = bisect_left(self._places, place)
        if self._places[at : at + 1] == [place]:
            self._shell.output[at] = item
            return False
        self._places.insert(at, place)
        self._shell.output.insert(at, item)
        return True

    def _end(self, kind: str, raw: msgspec.Raw, fields: RawObject) -> None:
        response, given = RESPONSE.decode(raw), FIELDS.decode(raw)
        self.usage = response.usage if is_set(response.usage) else None
        self.service_tier = self._shell.service_tier = response.service_tier
        is_bad = kind in _FAILED or response.status in _BAD
        if is_bad or is_set(response.error):
            self.error = _error(response)
            return
        if not self._places:  # some servers give everything at the end alone
            for item in response.output or ():
                self.text_bytes += text_bytes_of(msgspec.json.decode(item))
                if (tool := tool_of(item)) is not None:
                    self._ran[tool] += 1
        self.started = True
        self._terminal = kind, fields, given
        self.finished = True


class NativeAnswer:
    """One whole answer: a response object. Raises UpstreamFailed when the body is none that has
    ended.
    """

    def __init__(self, body: bytes, call: Call, shell: Shell) -> None:
        self._call = call
        self._shell = shell
        self._status = ""
        self._fields: RawObject = {}
        try:
            self.answer = self._read(without_end_turn(body) if END_TURN in body else body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UpstreamFailed(
                "The upstream's answer is no finished response.", reason="bad_answer"
            ) from error

    def tail(self, usage: Usage) -> bytes:
        """The response object, with what was charged as its usage."""
        shown = usage_shown(self.answer.usage, usage)
        return _encode(as_asked(self._fields, self._status, self._call, self._shell, usage=shown))

    def _read(self, body: bytes) -> Answer:
        response = RESPONSE.decode(body)
        usage = response.usage if is_set(response.usage) else None
        self._status = response.status or "completed"
        self._shell.service_tier = response.service_tier
        if is_set(response.error) or self._status in _BAD:
            return Answer(b"", usage, response.service_tier, 0, _error(response))
        if response.output is None or self._status not in _GOOD.values():
            raise ValueError("no finished response")
        self._fields = FIELDS.decode(body)
        items = [msgspec.json.decode(item) for item in response.output]
        self._shell.output = items
        ran = Counter(tool for item in response.output if (tool := tool_of(item)) is not None)
        return Answer(
            b"",
            usage,
            response.service_tier,
            sum(map(text_bytes_of, items)),
            tool_calls=tuple(sorted(ran.items())),
        )


def _said(data: bytes) -> object:
    """An error event, flat or nested, without the type that is the event's and not the error's."""
    fields = cast("Object", msgspec.json.decode(data))
    return {name: value for name, value in fields.items() if (name, value) != ("type", "error")}


def _error(response: Response) -> object:
    """What a failed response says of why; nothing, if it does not."""
    return msgspec.json.decode(response.error) if is_set(response.error) else Object()


def _text_length(delta: msgspec.Raw) -> int:
    """About the bytes of a text in JSON; exactly where letters are written as escapes."""
    raw = bytes(delta)
    if ESCAPE in raw:
        return len(str(msgspec.json.decode(raw)).encode(errors="replace"))
    return len(raw) - _QUOTES

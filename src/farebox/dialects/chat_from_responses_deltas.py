"""What a response's events and items are in chat: deltas of one message. How they are sent is
chat_from_responses.py's.

An item's end repeats what its events said; whatever of it did not come before is taken from there,
so that an upstream without deltas is understood too. Source: OpenAI's OpenAPI document,
`ResponseStreamEvent` and `OutputItem`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import msgspec

from farebox.core.call import Call
from farebox.dialects.chat_mend import NOTHING, is_set
from farebox.dialects.chat_to_responses import is_old_form

Delta = dict[str, object]
Logprobs = list[dict[str, object]]
Piece = tuple[Delta, Logprobs | None]
"""A delta, and the log probabilities of its tokens if they were asked for."""

_MAX_PLACES = 10_000  # items and their parts: something is remembered of each
_BETWEEN = "\n\n"  # messages or thoughts that chat has one place for


class Event(msgspec.Struct):
    """The fields of a stream's event that the gateway must know."""

    type: str = ""
    delta: msgspec.Raw = NOTHING
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: str | None = None
    item: msgspec.Raw = NOTHING
    logprobs: msgspec.Raw = NOTHING
    response: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class _TopLogprob(msgspec.Struct):
    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None


class _Logprob(_TopLogprob):
    top_logprobs: list[_TopLogprob] | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[dict[str, object]] | None = None
    logprobs: list[_Logprob] | None = None


class _Item(msgspec.Struct):
    type: str = ""
    id: str | None = None
    status: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class _Kind(msgspec.Struct):
    type: str = ""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class _ToolCall:
    number: int  # counts calls, not items
    custom: bool


_KIND = msgspec.json.Decoder(_Kind)
_ITEM = msgspec.json.Decoder(_Item)
_STRING = msgspec.json.Decoder(str)
_LOGPROBS = msgspec.json.Decoder(list[_Logprob])
_CALLS = ("function_call", "custom_tool_call")
_SPOKEN: Final = {  # event -> what it is a piece of
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "summary",
    "response.reasoning_text.delta": "thought",
    "response.reasoning.delta": "thought",  # by the Open Responses specification
}
_CALLED = ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta")
_CLIENTS_TOOLS = ("tool_search", "local_shell", "shell", "apply_patch", "computer")
_THOUGHTS = ("summary", "thought")


class Deltas:
    """The memory of one response that its deltas need. Whatever is given raises a MsgspecError or
    ValueError if it is not what it says.
    """

    def __init__(self, call: Call) -> None:
        self._own_id = call.request_id.removeprefix("req_")
        self._hosted = call.hosted_tools
        self._wants_logprobs = bytes(call.fields.get("logprobs", NOTHING)) == b"true"
        self._old_form = is_old_form(call)
        self._places: dict[str, int] = {}  # item id -> its place in the output
        self._sent_chars: dict[tuple[str, int, int], int] = {}
        self._starts: dict[tuple[int, int], int] = {}  # of a text part, within all of the content
        self._content_chars = 0
        self._message: int | None = None  # the place of the latest
        self._has_thoughts = False
        self._thoughts: dict[int, str] = {}  # place -> `summary` or `thought`: one of them is sent
        self._calls: dict[int, _ToolCall] = {}
        self._done: set[int] = set()
        self._ran: Counter[str] = Counter()
        self.annotations: list[dict[str, object]] = []  # for the message's end: SDKs take one list
        self.text_bytes = 0  # of what the model wrote

    @property
    def began(self) -> bool:
        """Whether anything of the output has come."""
        return bool(self._sent_chars or self._calls or self._done)

    @property
    def tool_calls(self) -> tuple[tuple[str, int], ...]:
        """How often each hosted tool ran, by the name under which it was offered."""
        return tuple(sorted(self._ran.items()))

    @property
    def finish_reason(self) -> str:
        """Of an answer that is whole."""
        if not self._calls:
            return "stop"
        return "function_call" if self._old_form else "tool_calls"

    def event(self, event: Event) -> list[Piece]:
        """What an event adds to the message."""
        kind = _SPOKEN.get(event.type)
        if kind is not None:
            part = event.summary_index if kind == "summary" else event.content_index
            logprobs = self._logprobs(event.logprobs)
            text = _STRING.decode(event.delta)
            return self._text(kind, self._place(event), part or 0, text, logprobs)
        if event.type in _CALLED:
            return self._arguments(self._place(event), _STRING.decode(event.delta))
        if event.type == "response.output_item.added":
            item = _KIND.decode(event.item)
            place = self._remember(item.id, event.output_index)
            return self._open(place, _ITEM.decode(event.item)) if item.type in _CALLS else []
        if event.type == "response.output_item.done":
            item = _KIND.decode(event.item)
            return self.item(self._remember(item.id, event.output_index), event.item)
        return []

    def item(self, place: int, raw: msgspec.Raw) -> list[Piece]:
        """What a finished item adds to what its events have said."""
        kind = _KIND.decode(raw).type
        if place in self._done:
            return []
        self._done.add(place)
        if kind not in ("message", "reasoning", *_CALLS):
            self._count(kind)
            return []
        item = _ITEM.decode(raw)
        if kind in _CALLS:
            return self._call_done(place, item)
        if kind == "reasoning":
            pieces = self._parts_done("summary", place, item.summary)
            return pieces + self._parts_done("thought", place, item.content)
        return self._parts_done("content", place, item.content)

    def _count(self, kind: str) -> None:
        """Note that a hosted tool ran, of whichever kind these items are."""
        name = kind.removesuffix("_call")
        # `web_search` may have been offered, and priced, as `web_search_preview`.
        offered = next((tool for tool in self._hosted if tool.startswith(name)), None)
        if offered or (name != kind and name not in _CLIENTS_TOOLS):
            self._ran[offered or name] += 1

    def _remember(self, item_id: str | None, output_index: int | None) -> int:
        place = output_index
        if place is None:
            place = self._places.get(item_id or "", len(self._places))
        if max(len(self._places), len(self._calls), len(self._done)) >= _MAX_PLACES:
            raise ValueError("more items than any answer has")
        self._places[item_id or f"#{place}"] = place
        return place

    def _place(self, event: Event) -> int:
        if event.output_index is not None:
            return event.output_index
        return self._places.get(event.item_id or "", max(0, len(self._places) - 1))

    def _text(
        self, kind: str, place: int, part: int, text: str, logprobs: Logprobs | None = None
    ) -> list[Piece]:
        if not text or (kind in _THOUGHTS and self._thoughts.setdefault(place, kind) != kind):
            return []
        key = (kind, place, part)
        before = self._sent_chars.get(key)
        between = self._between(kind, place) if before is None else ""
        self._sent_chars[key] = (before or 0) + len(text)
        if len(self._sent_chars) > _MAX_PLACES:
            raise ValueError("more parts than any answer has")
        if kind == "content":
            self._message = place
            self._starts.setdefault((place, part), self._content_chars + len(between))
            self._content_chars += len(between) + len(text)
        self.text_bytes += len(text.encode())
        name = "reasoning_content" if kind in _THOUGHTS else kind
        return [({name: between + text}, logprobs)]

    def _between(self, kind: str, place: int) -> str:
        """What stands between a text that begins and those before it."""
        if kind in _THOUGHTS:
            had_thoughts, self._has_thoughts = self._has_thoughts, True
            return _BETWEEN if had_thoughts else ""
        another = self._message is not None and self._message != place
        return _BETWEEN if kind == "content" and another else ""

    def _parts_done(self, kind: str, place: int, parts: list[_Part] | None) -> list[Piece]:
        pieces: list[Piece] = []
        for n, part in enumerate(parts or ()):
            of = "refusal" if part.type == "refusal" else kind
            text = part.refusal if of == "refusal" else part.text
            sent = self._sent_chars.get((of, place, n), 0)
            logprobs = None
            if not sent and part.logprobs and self._wants_logprobs:
                logprobs = [_shown(each) for each in part.logprobs]
            pieces += self._text(of, place, n, (text or "")[sent:], logprobs)
            for note in part.annotations or ():
                self._annotate(note, self._starts.get((place, n), 0))
        return pieces

    def _annotate(self, note: dict[str, object], start: int) -> None:
        """Keep a citation of the web; chat has no place for others. Its indexes count in all of
        the content.
        """
        if note.get("type") != "url_citation":
            return
        cited = {name: value for name, value in note.items() if name != "type"}
        for name in ("start_index", "end_index"):
            index = cited.get(name)
            if isinstance(index, int):
                cited[name] = index + start
        self.annotations.append({"type": "url_citation", "url_citation": cited})

    def _open(self, place: int, item: _Item) -> list[Piece]:
        """The beginning of a call: id and name, which SDKs want once."""
        if place in self._calls:
            return []
        number = len(self._calls)
        self._calls[place] = _ToolCall(number, item.type == "custom_tool_call")
        name = item.name or ""
        self.text_bytes += len(name.encode())
        if self._old_form:
            return (
                [({"function_call": {"name": name, "arguments": ""}}, None)] if not number else []
            )
        call: dict[str, object] = {
            "index": number,
            "id": item.call_id or item.id or f"call_{self._own_id}_{number}",
        }
        if item.type == "custom_tool_call":
            call |= {"type": "custom", "custom": {"name": name, "input": ""}}
        else:
            call |= {"type": "function", "function": {"name": name, "arguments": ""}}
        return [({"tool_calls": [call]}, None)]

    def _arguments(self, place: int, text: str) -> list[Piece]:
        call = self._calls.get(place)
        if call is None or not text:
            return []  # of a call without a beginning; its end says everything again
        key = ("call", place, 0)
        self._sent_chars[key] = self._sent_chars.get(key, 0) + len(text)
        self.text_bytes += len(text.encode())
        if self._old_form:
            return [] if call.number else [({"function_call": {"arguments": text}}, None)]
        name, field = ("custom", "input") if call.custom else ("function", "arguments")
        return [({"tool_calls": [{"index": call.number, name: {field: text}}]}, None)]

    def _call_done(self, place: int, item: _Item) -> list[Piece]:
        pieces = self._open(place, item)
        call = self._calls[place]
        text = (item.input if call.custom else item.arguments) or ""
        if not text and not call.custom and item.status != "incomplete":
            text = "{}"  # clients decode the arguments of a call without any, too
        return pieces + self._arguments(place, text[self._sent_chars.get(("call", place, 0), 0) :])

    def _logprobs(self, raw: msgspec.Raw) -> Logprobs | None:
        if not self._wants_logprobs or not is_set(raw):
            return None
        return [_shown(each) for each in _LOGPROBS.decode(raw)] or None


def _shown(given: _Logprob) -> dict[str, object]:
    return {**_token(given), "top_logprobs": [_token(each) for each in given.top_logprobs or ()]}


def _token(given: _TopLogprob) -> dict[str, object]:
    return {"token": given.token, "logprob": given.logprob, "bytes": given.bytes}

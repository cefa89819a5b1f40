"""Mending chat chunks that break the rules which the SDKs' stream helpers rely on. No I/O, no
money.

The rules (openai-python's stream accumulator): id, function name and role are concatenated when
they come twice, so each is sent once; a message has its role from its first delta; tool-call
indexes are whole numbers from 0 without gaps; all chunks of an answer carry one id; a choice has
an index and a delta, a tool call a type and a function. A chunk that keeps them is not touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from farebox.errors import broke_off

NOTHING = msgspec.Raw(b"")  # an absent field; msgspec keeps a JSON null as Raw(b"null")
_NULL = msgspec.Raw(b"null")
_QUOTES = 2
# Something is remembered of each, so that an upstream may not go on for ever with new ones.
_MAX_CHOICES = 128  # as many as can be asked for
_MAX_CALLS = 1000  # of tools, in one choice
ESCAPE = b"\\u"  # six bytes for a letter that mostly has three in UTF-8
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: msgspec.Raw = NOTHING


class Custom(msgspec.Struct, gc=False):
    name: str | None = None
    input: msgspec.Raw = NOTHING


_CUSTOM = msgspec.json.Decoder(Custom)


class ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    type: str | msgspec.UnsetType | None = msgspec.UNSET  # a null is worse than nothing
    function: Function | None = None
    custom: msgspec.Raw = NOTHING


class Delta(msgspec.Struct, gc=False):
    role: str | None = None
    content: msgspec.Raw = NOTHING
    reasoning_content: msgspec.Raw = NOTHING
    reasoning: msgspec.Raw = NOTHING
    refusal: msgspec.Raw = NOTHING
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Delta | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = NOTHING
    stop_reason: msgspec.Raw = NOTHING  # vLLM's: the text that stopped it, or a token's number


class Chunk(msgspec.Struct, gc=False):
    """The fields of a chunk that the gateway must know; all others pass unread."""

    id: str | None = None
    object: str | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = NOTHING
    service_tier: str | None = None
    error: msgspec.Raw = NOTHING

    def text_bytes(self) -> int:
        """About the bytes of what the model wrote in this chunk."""
        total = 0
        for choice in self.choices or ():
            if choice.delta is not None:
                total += text_length(choice.delta)
        return total


def text_length(delta: Delta) -> int:
    """About the bytes of what the model wrote in a delta or a message: those of its JSON strings
    without their quotes. Raises ValidationError for a custom call that is none.
    """
    total = _length(delta.content)
    if delta.reasoning_content is not NOTHING or delta.reasoning is not NOTHING:
        # Some servers give the same thoughts under both names.
        total += max(_length(delta.reasoning_content), _length(delta.reasoning))
    if is_set(delta.refusal):
        total += _length(delta.refusal)
    if delta.function_call is not None:
        function = delta.function_call
        total += len(function.name or "") + _length(function.arguments)
    if not delta.tool_calls:
        return total
    for call in delta.tool_calls:
        if call.function is not None:
            total += len(call.function.name or "") + _length(call.function.arguments)
        elif is_set(call.custom):
            custom = read_custom(call)
            total += len(custom.name or "") + _length(custom.input)
    return total


def read_custom(call: ToolCall) -> Custom:
    """What a call of a custom tool says. Raises ValidationError if that is nothing of the kind."""
    return _CUSTOM.decode(call.custom)


def is_set(raw: msgspec.Raw) -> bool:
    """Whether a field is there and not null."""
    return raw is not NOTHING and raw != _NULL


def is_json(arguments: msgspec.Raw) -> bool:
    """Whether a call's arguments came as JSON; they are JSON in a string."""
    return bytes(arguments)[:1] in (b"{", b"[")


def _length(text: msgspec.Raw) -> int:
    size = len(text) - _QUOTES
    if size <= 0 or text == _NULL:
        return 0
    return max(0, size - 3 * bytes(text).count(ESCAPE))


class _Calls:
    """The tool calls of one choice: which index here stands for which of the upstream's."""

    def __init__(self) -> None:
        self._by_upstream_index: dict[int, int] = {}
        self._by_id: dict[str, int] = {}
        self._ids: list[str | None] = []  # as the upstream gave them
        self.named: list[bool] = []

    def place(self, call: ToolCall) -> tuple[int, bool]:
        """The dense index of a piece of a call, and whether it is the call's first piece."""
        known = self._find(call)
        if known is not None:
            return known, False
        place = len(self.named)
        if place >= _MAX_CALLS:
            raise ValueError("more tool calls than anybody makes")
        self.named.append(False)
        self._ids.append(call.id)
        if call.index is not None:
            self._by_upstream_index[call.index] = place
        if call.id:
            self._by_id[call.id] = place
        return place, True

    def _find(self, call: ToolCall) -> int | None:
        if call.index is None:
            # Without an index a new id begins a call, and anything else goes on with the last one.
            if call.id:
                return self._by_id.get(call.id)
            return len(self.named) - 1 if self.named else None
        known = self._by_upstream_index.get(call.index)
        # Some servers give parallel calls one index. Another id and a name tell them apart.
        if known is not None and call.id and call.function and call.function.name:
            return known if self._ids[known] in (None, "", call.id) else self._by_id.get(call.id)
        return known


class Mender:
    """The memory of one stream that mending needs."""

    def __init__(
        self,
        request_id: str,
        finish_reasons: Mapping[str, str],
        failing_finish_reasons: frozenset[str],
    ) -> None:
        self._own_id = "chatcmpl-" + request_id.removeprefix("req_")
        self._finish_reasons = finish_reasons
        self._failing = failing_finish_reasons
        self._id: str | None = None
        self._roles: set[int] = set()
        self._calls: dict[int, _Calls] = {}
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self.all_finished = False  # whether some choice was seen and none is open

    @property
    def finished_choices(self) -> int:
        """How many choices have finished."""
        return len(self._finished)

    def mend(self, chunk: Chunk, data: bytes) -> bytes | None:
        """The chunk's data as they should be, or None if they are right as they came. Raises
        ValueError for more choices or calls than there can be.
        """
        broken = False
        if self._id is None:
            self._id = chunk.id or self._own_id
        if chunk.id != self._id or chunk.object != "chat.completion.chunk":
            broken = True
        if chunk.choices is None:
            broken = True
        if self.judge(chunk):
            broken = True
        return self._rewrite(chunk, data) if broken else None

    def judge(self, chunk: Chunk) -> bool:
        """Note what a chunk brings, and mend its values as decoded; whether there was need to.
        Raises ValueError as mend() does.
        """
        broken = False
        for position, choice in enumerate(chunk.choices or ()):
            if self._judge(choice, position):
                broken = True
        return broken

    def _judge(self, choice: Choice, position: int) -> bool:
        """Note what a choice brings; mend the decoded values. True if something had to be
        mended.
        """
        broken = False
        n = choice.index
        if n is None:
            n = choice.index = position
            broken = True
        if not 0 <= n < _MAX_CHOICES:
            raise ValueError("a choice that nobody can have asked for")
        if choice.finish_reason is not None:
            broken = self._finish(choice, n) or broken
        elif n not in self._open and n not in self._finished:  # which stays finished
            self._open.add(n)
            self.all_finished = False
        delta = choice.delta
        if delta is None:
            return True
        if n not in self._roles or delta.role:
            broken = self._judge_role(delta, n) or broken
        if delta.tool_calls:
            calls = self._calls.setdefault(n, _Calls())
            for call in delta.tool_calls:
                if self._judge_call(call, calls):
                    broken = True
        return broken

    def _judge_role(self, delta: Delta, n: int) -> bool:
        if n in self._roles:
            delta.role = None
            return True
        self._roles.add(n)
        if delta.role:
            return False
        # llama.cpp leaves it out if the first token is only a part of a character.
        delta.role = "assistant"
        return True

    def _finish(self, choice: Choice, n: int) -> bool:
        reason = choice.finish_reason or ""
        if reason in self._failing:
            raise broke_off(f"finish_{reason}")
        if not reason:  # some vendors write "" for "not yet"
            choice.finish_reason = None
            if n not in self._finished:
                self._open.add(n)
                self.all_finished = False
            return True
        self._open.discard(n)
        self._finished.add(n)
        self.all_finished = not self._open
        standard = self._finish_reasons.get(reason, reason)
        choice.finish_reason = standard
        return standard != reason

    def _judge_call(self, call: ToolCall, calls: _Calls) -> bool:
        upstream_index, upstream_id = call.index, call.id
        call.index, first = calls.place(call)
        broken = call.index != upstream_index
        if first:
            if not call.id:
                call.id = f"call_{self._own_id.removeprefix('chatcmpl-')}_{call.index}"
            if not call.type:
                call.type = "function"
                broken = True
        else:
            if call.id:
                call.id = None
            if call.type is not msgspec.UNSET:
                call.type = msgspec.UNSET
                broken = True
        broken = broken or call.id != upstream_id
        function = call.function
        if function is None:
            return broken or not is_set(call.custom)
        if function.name:
            if calls.named[call.index]:
                function.name = None
                broken = True
            else:
                calls.named[call.index] = True
        return broken or is_json(function.arguments)

    def _rewrite(self, chunk: Chunk, data: bytes) -> bytes:
        """Put the mended values in, and leave everything else as it is."""
        whole = _FIELDS.decode(data)
        whole["id"] = msgspec.Raw(msgspec.json.encode(self._id))
        whole["object"] = msgspec.Raw(b'"chat.completion.chunk"')
        raw_choices: list[dict[str, Any]] = []
        if chunk.choices:
            raw_choices = msgspec.json.decode(whole["choices"])
        for choice, raw in zip(chunk.choices or (), raw_choices, strict=True):
            if "finish_reason" in raw:
                raw["finish_reason"] = choice.finish_reason
            raw["index"] = choice.index
            raw["delta"] = delta = cast("dict[str, Any]", raw.get("delta") or {})
            if choice.delta is not None:
                _rewrite_delta(choice.delta, delta)
        whole["choices"] = msgspec.Raw(msgspec.json.encode(raw_choices))
        return msgspec.json.encode(whole)


def _rewrite_delta(delta: Delta, raw: dict[str, Any]) -> None:
    if delta.role is None:
        raw.pop("role", None)
    else:
        raw["role"] = delta.role
    raw_calls = cast("list[dict[str, Any]]", raw.get("tool_calls") or [])
    for call, raw_call in zip(delta.tool_calls or (), raw_calls, strict=True):
        _rewrite_call(call, raw_call)


def _rewrite_call(call: ToolCall, raw: dict[str, Any]) -> None:
    raw["index"] = call.index
    if call.id is None:
        raw.pop("id", None)
    else:
        raw["id"] = call.id
    if call.type is msgspec.UNSET:
        raw.pop("type", None)
    else:
        raw["type"] = call.type
    if call.function is None:
        if not is_set(call.custom):
            raw["function"] = {}
        return
    function = raw["function"]
    if call.function.name is None:
        function.pop("name", None)
    if is_json(call.function.arguments):
        function["arguments"] = bytes(call.function.arguments).decode()

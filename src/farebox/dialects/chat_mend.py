"""Mending chat chunks that break the rules which the SDKs' stream helpers rely on. No I/O, no
money.

The rules (openai-python's stream accumulator): id, function name and role are concatenated when
they come twice, so each is sent once; tool-call indexes are whole numbers from 0 without gaps; all
chunks of an answer carry one id. A chunk that keeps them is not touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from farebox.errors import UpstreamFailed

NOTHING = msgspec.Raw(b"")  # an absent field; msgspec keeps a JSON null as Raw(b"null")
_QUOTES = 2


class Function(msgspec.Struct):
    name: str | None = None
    arguments: msgspec.Raw = NOTHING


class ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct):
    role: str | None = None
    content: msgspec.Raw = NOTHING
    reasoning_content: msgspec.Raw = NOTHING
    reasoning: msgspec.Raw = NOTHING
    refusal: msgspec.Raw = NOTHING
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct):
    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """The fields of a chunk that the gateway must know; all others pass unread."""

    id: str | None = None
    object: str | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = NOTHING
    service_tier: str | None = None
    error: msgspec.Raw = NOTHING

    def text_bytes(self) -> int:
        """Bytes of what the model wrote in this chunk, as JSON strings without their quotes."""
        return sum(text_length(choice.delta) for choice in self.choices or ())


def text_length(delta: Delta | None) -> int:
    """Bytes of what the model wrote in a delta or a message, as JSON strings without their
    quotes.
    """
    if delta is None:
        return 0
    total = _length(delta.content)
    if delta.reasoning_content is not NOTHING or delta.reasoning is not NOTHING:
        total += _length(delta.reasoning_content) + _length(delta.reasoning)
    if delta.refusal is not NOTHING:
        total += _length(delta.refusal)
    for call in delta.tool_calls or ():
        if call.function is not None:
            total += len(call.function.name or "") + _length(call.function.arguments)
    return total


def is_set(raw: msgspec.Raw) -> bool:
    """Whether a field is there and not null."""
    return len(raw) > 0 and (len(raw) != 4 or bytes(raw) != b"null")


def _length(text: msgspec.Raw) -> int:
    return len(text) - _QUOTES if len(text) > _QUOTES and is_set(text) else 0


class _Calls:
    """The tool calls of one choice: which index here stands for which of the upstream's."""

    def __init__(self) -> None:
        self.by_upstream_index: dict[int, int] = {}
        self.by_id: dict[str, int] = {}
        self.named: list[bool] = []

    def place(self, call: ToolCall) -> tuple[int, bool]:
        """The dense index of a piece of a call, and whether it is the call's first piece."""
        if call.index is not None:
            known = self.by_upstream_index.get(call.index)
            if known is None:
                self.by_upstream_index[call.index] = known = len(self.named)
                self.named.append(False)
                return known, True
            return known, False
        # Without an index a new id begins a call, and anything else goes on with the last one.
        if call.id and call.id in self.by_id:
            return self.by_id[call.id], False
        if call.id or not self.named:
            self.named.append(False)
            if call.id:
                self.by_id[call.id] = len(self.named) - 1
            return len(self.named) - 1, True
        return len(self.named) - 1, False


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
        self._seen: set[int] = set()

    @property
    def all_finished(self) -> bool:
        """Whether some choice was seen and none is open."""
        return bool(self._seen) and not self._open

    def mend(self, chunk: Chunk, data: bytes) -> bytes | None:
        """The chunk's data as they should be, or None if they are right as they came."""
        broken = False
        if self._id is None:
            self._id = chunk.id or self._own_id
        if chunk.id != self._id or chunk.object != "chat.completion.chunk":
            broken = True
        if chunk.choices is None:
            broken = True
        for choice in chunk.choices or ():
            if self._judge(choice):
                broken = True
        return self._rewrite(chunk, data) if broken else None

    def _judge(self, choice: Choice) -> bool:
        """Note what a choice brings; mend the decoded values. True if something had to be
        mended.
        """
        broken = False
        n = choice.index
        self._seen.add(n)
        if choice.finish_reason is None:
            self._open.add(n)
        else:
            broken = self._finish(choice)
        delta = choice.delta
        if delta is None:
            return broken
        if delta.role:
            if n in self._roles:
                delta.role = None
                broken = True
            self._roles.add(n)
        if delta.tool_calls:
            calls = self._calls.setdefault(n, _Calls())
            for call in delta.tool_calls:
                if self._judge_call(call, calls):
                    broken = True
        return broken

    def _finish(self, choice: Choice) -> bool:
        reason = choice.finish_reason or ""
        if reason in self._failing:
            raise UpstreamFailed(
                "The upstream broke its answer off. Try again.",
                reason=f"finish_{reason}",
                code=None,
            )
        if not reason:  # some vendors write "" for "not yet"
            choice.finish_reason = None
            self._open.add(choice.index)
            return True
        self._open.discard(choice.index)
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
        elif call.id:
            call.id = None
        broken = broken or call.id != upstream_id
        function = call.function
        if function is not None:
            if function.name:
                if calls.named[call.index]:
                    function.name = None
                    broken = True
                else:
                    calls.named[call.index] = True
            if bytes(function.arguments)[:1] in (b"{", b"["):
                broken = True  # arguments are JSON in a string; some servers send them as JSON
        return broken

    def _rewrite(self, chunk: Chunk, data: bytes) -> bytes:
        """Decode the whole chunk, put the mended values in, and leave everything else as it is."""
        whole = cast("dict[str, Any]", msgspec.json.decode(data))
        whole["id"] = self._id
        whole["object"] = "chat.completion.chunk"
        if chunk.choices is None:
            whole["choices"] = []
        raw_choices = cast("list[dict[str, Any]]", whole["choices"])
        for choice, raw in zip(chunk.choices or (), raw_choices, strict=True):
            if "finish_reason" in raw:
                raw["finish_reason"] = choice.finish_reason
            if choice.delta is not None and raw.get("delta"):
                _rewrite_delta(choice.delta, raw["delta"])
        return msgspec.json.encode(whole)


def _rewrite_delta(delta: Delta, raw: dict[str, Any]) -> None:
    if delta.role is None:
        raw.pop("role", None)
    raw_calls = cast("list[dict[str, Any]]", raw.get("tool_calls") or [])
    for call, raw_call in zip(delta.tool_calls or (), raw_calls, strict=True):
        _rewrite_call(call, raw_call)


def _rewrite_call(call: ToolCall, raw: dict[str, Any]) -> None:
    raw["index"] = call.index
    if call.id is None:
        raw.pop("id", None)
    else:
        raw["id"] = call.id
    function = raw.get("function")
    if call.function is None or not function:
        return
    if call.function.name is None:
        function.pop("name", None)
    if isinstance(function.get("arguments"), (dict, list)):
        function["arguments"] = msgspec.json.encode(function["arguments"]).decode()

"""What an upstream that speaks the Messages API says of an answer's usage, piece by piece: its
counts, its tier, how often hosted tools ran, and what of it a client is shown. No prices.

Figures of a stream are cumulative: the later one is the whole. Source: Anthropic's SDK for Python,
`Usage` and `MessageDeltaUsage`, with and without their betas.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_mend import NOTHING, is_set
from farebox.dialects.messages import hosted_name
from farebox.dialects.messages_shell import message_id, usage_object
from farebox.dialects.raw import to_raw
from farebox.dialects.usage import BYTES_A_TOKEN, ESTIMATED, read_usage

RawObject = dict[str, msgspec.Raw]

_encode = msgspec.json.encode
_MAX_RUNS = 10_000  # of a tool, in one answer
_ZERO = msgspec.Raw(b"0")
_INPUT: Final = "input_tokens"
_OUTPUT: Final = "output_tokens"
_REQUESTS: Final = "_requests"
_ESTIMATE = b',"%b":%%d,"%b":true}' % (_OUTPUT.encode(), ESTIMATED.encode())
# Tools that the model calls by more names than the one under which they are priced.
_PARTS = {
    "bash_code_execution": "code_execution",
    "text_editor_code_execution": "code_execution",
}


class _Usage(msgspec.Struct):
    """What every usage has, and what it says beside its tokens."""

    output_tokens: int | None = None
    service_tier: str | None = None
    speed: str | None = None
    server_tool_use: dict[str, object] | None = None


_USAGE = msgspec.json.Decoder(_Usage)
_FIELDS = msgspec.json.Decoder(RawObject)


class Counts:
    """What one answer has told of its usage so far."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._told: RawObject = {}
        self._is_last = False  # whether the output that was told is all of it
        self._output_tokens = 0
        self._head = b""  # what was told but for the output, without the brace at its end
        self._tells_input = False
        self._reported: msgspec.Raw | None = None
        self._requests: dict[str, int] = {}
        self.service_tier: str | None = None

    def learn(self, usage: msgspec.Raw, *, is_last: bool = False) -> None:
        """A usage has come: what it says replaces what was said before."""
        if not is_set(usage):
            return
        try:
            fields = _FIELDS.decode(usage)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return
        read = _read(usage)
        self._told |= {name: raw for name, raw in fields.items() if is_set(raw)}
        self._is_last = self._is_last or (is_last and is_set(fields.get(_OUTPUT, NOTHING)))
        self._output_tokens = read.output_tokens or self._output_tokens
        rest = {name: raw for name, raw in self._told.items() if name != _OUTPUT}
        self._head = _encode(rest)[:-1]
        told = read_usage(msgspec.Raw(self._head + b"}")).usage
        # Some tell their input at the end alone, and before it that there was none.
        self._tells_input = _INPUT in self._told and (told is None or told.input_total > 0)
        self._reported = to_raw(self._told) if self._is_last and _INPUT in self._told else None
        if read.speed == "fast":
            self.service_tier = read.speed  # which has a price of its own, as tiers have
        elif read.service_tier is not None and self.service_tier != "fast":
            self.service_tier = read.service_tier
        for name, count in (read.server_tool_use or {}).items():
            if name.endswith(_REQUESTS) and type(count) is int and 0 <= count <= _MAX_RUNS:
                self._requests[name.removesuffix(_REQUESTS)] = count

    def reported(self, text_bytes: int) -> msgspec.Raw | None:
        """The usage to charge for. What was told before the answer's end says little of its output,
        which is then made of the text that has come.
        """
        if self._is_last or not self._tells_input:
            return self._reported
        written = max(self._output_tokens, -(-text_bytes // BYTES_A_TOKEN))
        if self._call.output_cap is not None:
            written = min(written, self._call.output_cap)
        self._reported = msgspec.Raw(self._head + _ESTIMATE % written)
        return self._reported

    def tool_calls(self, ran: Counter[str]) -> tuple[tuple[str, int], ...]:
        """How often hosted tools ran: as the usage says, which leaves out what failed; where it
        says nothing, each call that was seen is one.
        """
        seen = {name: count for name, count in ran.items() if name in self._call.hosted_tools}
        found = {**seen, **self._requests}
        return tuple(sorted((name, count) for name, count in found.items() if count))

    def so_far(self, usage: msgspec.Raw) -> msgspec.Raw:
        """A usage on the way, as it came or with the counts that clients rely on."""
        if _read(usage).output_tokens is not None:
            return usage
        return to_raw({_INPUT: _ZERO, _OUTPUT: _ZERO, **self._told})

    def shown(self, usage: msgspec.Raw, charged: Usage) -> msgspec.Raw:
        """A usage at the end, as it came if it is there and is what was charged, else that."""
        given = usage if _read(usage).output_tokens is not None else NOTHING
        if is_set(given) and self._reported and read_usage(self._reported).usage == charged:
            return given
        more = _FIELDS.decode(given) if is_set(given) else {}
        return to_raw({**more, **usage_object(charged)})


def as_asked(message: RawObject, call: Call, usage: msgspec.Raw) -> RawObject:
    """A message under our id and the model's name as asked, with this usage."""
    return {
        **message,
        "id": to_raw(message_id(call.request_id)),
        "model": to_raw(call.model),
        "usage": usage,
    }


def runs_of(kind: str | None, name: str | None) -> tuple[str, ...]:
    """The hosted tool of which a block of this type and name is a call, if it is one."""
    if kind == "mcp_tool_use":
        return ("mcp_toolset",)
    if kind != "server_tool_use" or name is None:
        return ()
    return (hosted_name(_PARTS.get(name, name)),)


def _read(usage: msgspec.Raw) -> _Usage:
    """What can be read of a usage; nothing of one that is not as it should be."""
    try:
        return _USAGE.decode(usage) if is_set(usage) else _Usage()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _Usage()

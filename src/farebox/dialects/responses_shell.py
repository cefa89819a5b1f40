"""What stands around an answer's items: the response object, its id, and numbered events.

Which items there are is the translations' business. Sources: OpenAI's OpenAPI document, `Response`
and `ResponseStreamEvent`; the Open Responses specification, which wants every key to be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.body import Fields
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.said import in_json
from farebox.errors import BadRequest, FareboxError

_encode = msgspec.json.encode
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
Object = dict[str, Any]

# What a request may say that its response repeats, and what an absent one stands for.
_ECHOED: dict[str, object] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "background": False,
    "temperature": 1,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1,
    "truncation": "disabled",
}
_ECHOED_IF_SAID = ("user",)  # deprecated, and never null
# Codes of ours that a failed response may carry: clients act on these; others they only repeat.
_CODES = frozenset(
    (
        "bio_policy",
        "context_length_exceeded",
        "cyber_policy",
        "data_residency_mismatch",
        "insufficient_quota",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_mode",
        "invalid_image_url",
        "invalid_prompt",
        "misalignment_policy_violation",
        "rate_limit_exceeded",
        "server_is_overloaded",
        "slow_down",
    )
)
_QUOTA = "insufficient_quota"


class Shell:
    """One response. Attempts of several channels share it: what was given out stays so."""

    def __init__(self, call: Call, around: Circumstances) -> None:
        self._body = call.request_id.removeprefix("req_")
        self._call = call
        self._around = around
        self._echo: Object | None = None
        self._sequence = 0
        self._items = 0
        self.id = f"resp_{self._body}"
        self.opened = False
        self.output: list[Object] = []  # the finished items, in their order
        self.service_tier: str | None = None  # as the upstream reported it

    def read(self) -> None:
        """Read what the request says that the response repeats, while it can still be refused.
        Raises BadRequest.
        """
        try:
            self._repeated()
        except RecursionError:
            raise BadRequest(
                "The body is nested too deeply. Keep it below 500 levels.", param="tools"
            ) from None

    def _repeated(self) -> Object:
        if self._echo is None:
            self._echo = _echo(self._call.fields)
        return self._echo

    @property
    def sequence(self) -> int:
        """The number of the next event."""
        return self._sequence

    def includes(self, name: str) -> bool:
        """Whether the client asked for this beyond the usual, such as
        `reasoning.encrypted_content`.
        """
        raw = self._call.fields.get("include")
        return raw is not None and name.encode() in bytes(raw)

    def skip(self) -> None:
        """An event that bears its right number was passed on as it came."""
        self._sequence += 1

    def item_id(self, prefix: str) -> str:
        """An id for an item that nobody else has: `msg_…`, `fc_…`, `rs_…`."""
        self._items += 1
        return f"{prefix}_{self._body}{self._items:02d}"

    def event(self, type: str, **fields: object) -> bytes:
        """One event with the next number."""
        data = _encode({"type": type, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: " + type.encode() + b"\ndata: " + data + b"\n\n"

    def deltas(
        self, type: str, place: Object, texts: Sequence[str], more: Object | None = None
    ) -> bytes:
        """An event with the next number for each text, its `delta`, that stands between `place` and
        `more`.
        """
        number = self._sequence
        self._sequence += len(texts)
        head = f'event: {type}\ndata: {{"type":"{type}","sequence_number":'
        before = f',{_encode(place).decode()[1:-1]},"delta":"'
        after = f'",{_encode(more).decode()[1:]}\n\n' if more else '"}\n\n'
        numbered = enumerate(in_json(texts), number)
        return "".join([f"{head}{n}{before}{text}{after}" for n, text in numbered]).encode()

    def open(self) -> bytes:
        """`response.created` and `response.in_progress`; nothing when they have been given out."""
        if self.opened:
            return b""
        self.opened = True
        response = self.object("in_progress", output=[])
        return self.event("response.created", response=response) + self.event(
            "response.in_progress", response=response
        )

    def ping(self) -> bytes:
        """An event that means nothing. A comment would not keep Codex waiting, and the SDKs want
        `response.created` before all others.
        """
        return self.open() + self.event("keepalive")

    def finish(self, status: str, **more: Any) -> bytes:
        """The event that ends the response: `response.completed`, `.incomplete` or `.failed`."""
        # The object is made first: what goes before it is numbered before it.
        opened = self.open()
        return opened + self.event(f"response.{status}", response=self.object(status, **more))

    def fail(self, error: FareboxError, usage: Usage) -> bytes:
        """`response.failed`: the only event of a failure that Codex understands. `usage` was
        charged.
        """
        told = None if usage == Usage() else usage_object(usage, 0)
        return self.finish("failed", error=error_of(error), usage=told)

    def object(
        self,
        status: str,
        *,
        usage: Object | None = None,
        error: Object | None = None,
        incomplete: str | None = None,
        output: list[Object] | None = None,
        **over: object,
    ) -> Object:
        """The whole response object: every key there is, those of the request repeated.

        `incomplete` is the reason of a status `incomplete`; `over` replaces keys.
        """
        done = status in ("completed", "incomplete", "failed", "cancelled")
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._around.created_s,
            "completed_at": self._around.now_s() if done else None,
            "status": status,
            "error": error,
            "incomplete_details": {"reason": incomplete} if incomplete else None,
            "model": self._call.model,
            "output": self.output if output is None else output,
            **self._repeated(),
            **({"service_tier": self.service_tier} if self.service_tier else {}),
            "usage": usage,
            **over,
        }


def usage_object(usage: Usage, reasoning_tokens: int) -> Object:
    """Usage with both detail objects, each with its keys: Codex fails on an empty one."""
    output = usage.output + usage.audio_output
    return {
        "input_tokens": usage.input_total,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": min(reasoning_tokens, output)},
        "total_tokens": usage.input_total + output,
    }


def error_of(error: FareboxError) -> Object:
    """The error of a failed response: code and message."""
    code = error.code if error.code in _CODES else "server_error"
    if error.type == _QUOTA:
        code = _QUOTA
    elif code == "server_error" and error.type == "rate_limit_error":
        code = "rate_limit_exceeded"
    elif code == "server_error" and error.fault == "client":
        code = "invalid_prompt"
    return {"code": code, "message": error.message}


def _echo(fields: Fields) -> Object:
    echo: Object = {}
    for name, default in _ECHOED.items():
        value = fields.get(name)
        echo[name] = value if _is_said(value) else default
    echo |= {name: fields[name] for name in _ECHOED_IF_SAID if _is_said(fields.get(name))}
    echo["text"] = _text(fields)
    echo["tools"] = _tools(fields)
    echo["reasoning"] = {"effort": None, "summary": None, **_members(fields.get("reasoning"))}
    return echo


def _is_said(value: msgspec.Raw | None) -> bool:
    return value is not None and bytes(value) != b"null"


def _text(fields: Fields) -> Object:
    text: Object = {"format": {"type": "text"}, "verbosity": "medium"}
    text |= _members(fields.get("text"))
    form = text["format"]
    if isinstance(form, msgspec.Raw):
        given = _members(form)
        if not _is_said(form):
            text["format"] = {"type": "text"}
        elif _type_of(given) == b'"json_schema"':
            text["format"] = {"description": "", "strict": False, **given}
    return text


def _tools(fields: Fields) -> list[object]:
    raw = fields.get("tools", b"")
    tools = _LIST.decode(raw) if bytes(raw).startswith(b"[") else []
    return [_tool(tool) for tool in tools]


def _tool(tool: msgspec.Raw) -> object:
    known = _members(tool)
    if _type_of(known) != b'"function"':
        return tool
    return {"description": None, "parameters": None, "strict": None, **known}


def _type_of(members: Mapping[str, msgspec.Raw]) -> bytes:
    return bytes(members.get("type", b""))


def _members(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    """Of an object, as they came: what is nested in them costs nothing."""
    return _MEMBERS.decode(raw) if raw is not None and bytes(raw).startswith(b"{") else {}

"""A response object as an upstream gave it, made into the one that was asked for: id, model, what
the request said, the usage that was charged. What else it says stays the bytes that came.

Source: OpenAI's OpenAPI document, `Response`, `ResponseUsage`; the Open Responses specification,
which wants every key to be there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_mend import NOTHING, is_set
from farebox.dialects.responses_shell import Object, Shell, usage_object

RawObject = dict[str, msgspec.Raw]
# What an upstream is not told, or is told otherwise, is repeated as the client said it.
_OURS = (
    "created_at",  # by our clock, which also says how long a response is kept
    "completed_at",
    "store",
    "background",
    "previous_response_id",
    "metadata",
    "user",
    "prompt_cache_key",
    "safety_identifier",
    "instructions",
    "max_output_tokens",
)
# Codex goes on for ever where it reads false under this name, which OpenAI's own backend sets.
END_TURN = b'"end_turn"'
_TOOLS_THAT_RUN = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
    "mcp_call": "mcp",
}


class Response(msgspec.Struct):
    """What the gateway must know of a response object."""

    status: str | None = None
    error: msgspec.Raw = NOTHING
    output: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = NOTHING
    service_tier: str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int
    cache_write_tokens: int


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int


class _Usage(msgspec.Struct):
    input_tokens: int
    input_tokens_details: _InputDetails
    output_tokens: int
    output_tokens_details: _OutputDetails
    total_tokens: int


class _Item(msgspec.Struct):
    type: str | None = None


RESPONSE = msgspec.json.Decoder(Response)
FIELDS = msgspec.json.Decoder(RawObject)
_USAGE = msgspec.json.Decoder(_Usage)
_ITEM = msgspec.json.Decoder(_Item)


def as_asked(given: RawObject, status: str, call: Call, shell: Shell, **over: object) -> Object:
    """The response object for the client, who asked `call`. `over` replaces what was given."""
    ours = shell.object(status)
    said = {name: value for name, value in given.items() if name in ours or name not in _OURS}
    whole: Object = {**said, "id": shell.id, "model": call.model}
    whole |= {name: ours[name] for name in _OURS if name in ours}
    if "text" in call.fields:  # a schema may have gone to the vendor as a text
        whole["text"] = ours["text"]
    if not is_set(given.get("service_tier", NOTHING)):
        whole["service_tier"] = ours["service_tier"]
    return {**whole, **{name: ours[name] for name in ours if name not in whole}, **over}


def usage_shown(reported: msgspec.Raw | None, charged: Usage) -> msgspec.Raw | Object:
    """The usage as it was reported, if it has all keys and is what was charged; else that."""
    if reported is not None:
        try:
            read = _USAGE.decode(reported)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return usage_object(charged, _reasoning_tokens(reported))
        output = charged.output + charged.audio_output
        if (read.input_tokens, read.output_tokens) == (charged.input_total, output):
            return reported
        return usage_object(charged, max(0, read.output_tokens_details.reasoning_tokens))
    return usage_object(charged, 0)


def _reasoning_tokens(reported: msgspec.Raw) -> int:
    try:
        count = msgspec.json.decode(reported)["output_tokens_details"]["reasoning_tokens"]
    except (msgspec.MsgspecError, ValueError, RecursionError, LookupError, TypeError):
        return 0
    return count if type(count) is int and count > 0 else 0


def tool_of(item: msgspec.Raw) -> str | None:
    """The hosted tool whose run this item tells of, by the name under which it is priced."""
    return _TOOLS_THAT_RUN.get(_ITEM.decode(item).type or "")


def text_bytes_of(item: object) -> int:
    """About the bytes of what the model wrote in a finished item."""
    if not isinstance(item, dict):
        return 0
    fields = cast("Object", item)
    total = sum(_length(fields.get(name)) for name in ("name", "arguments", "input", "code"))
    # A summary is told beside the thoughts, or in their place.
    return total + _lengths(fields.get("content")) + _lengths(fields.get("summary"))


def _lengths(parts: object) -> int:
    if not isinstance(parts, list):
        return 0
    found = (cast("Object", part) for part in cast("list[object]", parts) if isinstance(part, dict))
    return sum(_length(part.get("text")) + _length(part.get("refusal")) for part in found)


def _length(text: object) -> int:
    return len(text.encode(errors="replace")) if isinstance(text, str) else 0


def without_end_turn(data: bytes) -> bytes:
    """An event or a response object, as JSON, without `end_turn`: neither its own, nor those of
    its response and items.
    """
    _strip(value := msgspec.json.decode(data))
    return msgspec.json.encode(value)


def _strip(value: object) -> None:
    if not isinstance(value, dict):
        return
    fields = cast("Object", value)
    fields.pop("end_turn", None)
    output = fields.get("output")
    inner: Iterable[object] = cast("list[object]", output) if isinstance(output, list) else ()
    for each in (*inner, fields.get("response"), fields.get("item")):
        _strip(each)

"""The Responses API as clients ask for it: a body becomes a Call.

Streams and answers are responses_stream.py's and responses_from_chat.py's; what stands in a store
is the server's. Source: OpenAI's OpenAPI document, `CreateResponse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import msgspec
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.body import Fields, decode_fields, read_count, read_field
from farebox.dialects.chat import read_model
from farebox.dialects.chat_envelope import MAX_TOKENS, hosted_name, refuse_near_names
from farebox.dialects.chat_weight import Weight, weigh_input
from farebox.dialects.responses_usual import words_of
from farebox.errors import BadRequest

LEAST_OUTPUT_TOKENS = 16
_MAX_METADATA = 16
_MAX_METADATA_KEY_CHARS = 64
_MAX_METADATA_VALUE_CHARS = 512
_MAX_TOP_LOGPROBS = 20

# What the price, the hold, the choice of a model, or what is kept hangs on.
_COUNTED = frozenset(
    (
        "model",
        "input",
        "max_output_tokens",
        "stream",
        "service_tier",
        "tools",
        "tool_choice",
        "store",
        "background",
        "previous_response_id",
        "conversation",
        "prompt",
    )
)
# Tools that run at the client; whatever else there is runs at the vendor, who may charge for it.
CLIENTS_TOOLS = frozenset(
    (
        "function",
        "custom",
        "namespace",
        "tool_search",
        "local_shell",
        "shell",
        "apply_patch",
        "computer",
    )
)
_WIRES = ("responses", "chat")
_TO_COMPACT = ("chat", "responses")
_TRIGGER = b"compaction_trigger"
_EMPTY = msgspec.Raw(b"[]")
_NULL = msgspec.Raw(b"null")


class _Typed(msgspec.Struct, frozen=True):
    type: str


class _Judged(NamedTuple):
    """What is said of an input without a look at the rest."""

    weight: Weight
    words: frozenset[bytes] | None  # of responses_usual.words_of()
    wires: tuple[str, ...]


def parse(body: bytes, request_id: str, hops: tuple[str, ...] = ()) -> Call:
    """A Call from a request's body. Raises BadRequest, with the parameter that is wrong."""
    fields = decode_fields(body)
    refuse_near_names(fields, _COUNTED)
    model = read_model(fields)
    _check_input(fields)
    _check_state(fields)
    _check_metadata(fields)
    _read_flag(fields, "parallel_tool_calls")
    logprobs = read_field(fields, "top_logprobs", int, "a whole number") or 0
    if not 0 <= logprobs <= _MAX_TOP_LOGPROBS:
        raise _invalid("top_logprobs", f"between 0 and {_MAX_TOP_LOGPROBS}", logprobs)
    read_field(fields, "include", list[str], "a list of strings")
    tools = read_field(fields, "tools", list[_Typed], "a list of objects with a type") or []
    hosted = tuple(sorted({hosted_name(tool.type) for tool in tools} - CLIENTS_TOOLS))
    weight, words, wires = _judge(fields, len(body))
    return Call(
        request_id=request_id,
        dialect="responses",
        model=model,
        fields=fields,
        stream=_read_flag(fields, "stream"),
        output_cap=_read_cap(fields),
        text_bytes=weight.text_bytes,
        table_tokens=weight.table_tokens,
        service_tier=read_field(fields, "service_tier", str, "a string"),
        hosted_tools=hosted,
        may_drop_tools=not (hosted and _is_forced(fields, tools)),
        hops=hops,
        wires=wires,
        message_words=words,
    )


def with_input(call: Call, items: Sequence[msgspec.Raw]) -> Call:
    """The same call with these items as its input, such as those of a conversation so far."""
    raw = msgspec.Raw(msgspec.json.encode(items))
    size_bytes = sum(map(len, call.fields.values())) - len(call.fields.get("input", b"")) + len(raw)
    fields = {**call.fields, "input": raw}
    weight, words, wires = _judge(fields, size_bytes)
    return replace(
        call,
        fields=fields,
        text_bytes=weight.text_bytes,
        table_tokens=weight.table_tokens,
        wires=wires,
        message_words=words,
    )


def read_items(fields: Fields) -> list[msgspec.Raw]:
    """The input as a list of items, undecoded; a text is a message of the user's. Raises
    BadRequest.
    """
    raw = bytes(fields.get("input", _EMPTY))
    if raw.startswith(b'"'):
        message = {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": msgspec.json.decode(raw)}],
        }
        return [msgspec.Raw(msgspec.json.encode(message))]
    return read_field(fields, "input", list[msgspec.Raw], "a string or a list of items") or []


def asks_to_compact(fields: Fields) -> bool:
    """Whether the last item of the input asks for a summary in place of an answer."""
    raw = bytes(fields.get("input", _EMPTY))
    if _TRIGGER not in raw or not raw.startswith(b"["):
        return False
    items = read_field(fields, "input", list[msgspec.Raw], "a list of items") or []
    try:
        return msgspec.json.decode(items[-1], type=_Typed).type == _TRIGGER.decode()
    except msgspec.MsgspecError:
        return False


def _judge(fields: Fields, size_bytes: int) -> _Judged:
    """An input, that of a request whose body has this size."""
    items = fields.get("input", _EMPTY)
    # `messages` is no field of this API, but a server that speaks both might look at it.
    words = words_of(items) if "messages" not in fields else None
    if words is not None:
        return _Judged(Weight(size_bytes), words, _WIRES)
    weight = weigh_input(size_bytes, items)
    return _Judged(weight, None, _TO_COMPACT if asks_to_compact(fields) else _WIRES)


def _check_input(fields: Fields) -> None:
    # Only the first letter is looked at: an input may be megabytes.
    first = bytes(memoryview(fields.get("input", _NULL))[:1])
    if first == b"n":
        if fields.get("previous_response_id") is None and fields.get("instructions") is None:
            raise BadRequest(
                "'input' is missing: send a text, or a list of items such as"
                ' [{"role": "user", "content": "…"}].',
                param="input",
                code="missing_required_parameter",
            )
    elif first not in (b'"', b"["):
        raise BadRequest(
            "'input' must be a text, or a list of items such as"
            ' {"role": "user", "content": "…"}.',
            param="input",
            code="invalid_value",
        )


def _check_state(fields: Fields) -> None:
    """What is kept here and what would be kept at a vendor."""
    previous = read_field(fields, "previous_response_id", str, "a response's id")
    if bytes(fields.get("conversation", b"null")) != b"null":
        told = "'conversation' is not served here. Use previous_response_id, or send the items."
        if previous is not None:
            told = "'conversation' and 'previous_response_id' exclude each other. " + told
        raise BadRequest(told, param="conversation", code="unsupported_parameter")
    if bytes(fields.get("prompt", b"null")) != b"null":
        raise BadRequest(
            "'prompt' names a template that lies in an account at the vendor that all callers "
            "share. Send its text as instructions and input.",
            param="prompt",
            code="unsupported_value",
        )
    store = read_field(fields, "store", bool, "true or false")
    if _read_flag(fields, "background") and store is False:
        raise BadRequest(
            "'background' needs the response to be kept: leave 'store' out, or set it to true.",
            param="background",
            code="invalid_value",
        )


def _check_metadata(fields: Fields) -> None:
    metadata = read_field(fields, "metadata", dict[str, str], "an object of strings") or {}
    if len(metadata) > _MAX_METADATA:
        raise _invalid("metadata", f"an object of at most {_MAX_METADATA} keys", len(metadata))
    for key, value in metadata.items():
        if len(key) > _MAX_METADATA_KEY_CHARS or len(value) > _MAX_METADATA_VALUE_CHARS:
            raise BadRequest(
                f"The key {key[:_MAX_METADATA_KEY_CHARS]!r} of 'metadata' is too long: keys have "
                f"at most {_MAX_METADATA_KEY_CHARS} characters, values at most "
                f"{_MAX_METADATA_VALUE_CHARS}.",
                param="metadata",
                code="invalid_value",
            )


def _read_flag(fields: Fields, name: str) -> bool:
    return read_field(fields, name, bool, "true or false") or False


def _read_cap(fields: Fields) -> int | None:
    cap = read_field(fields, "max_output_tokens", int, "a whole number")
    if cap is not None and cap < LEAST_OUTPUT_TOKENS:
        raise _invalid("max_output_tokens", f"at least {LEAST_OUTPUT_TOKENS}", cap)
    return read_count(fields, "max_output_tokens", MAX_TOKENS)


def _is_forced(fields: Fields, tools: list[_Typed]) -> bool:
    """Whether an answer without the hosted tools is not what was asked for."""
    raw = bytes(fields.get("tool_choice", b"null"))
    if raw == b'"required"':
        return all(tool.type not in CLIENTS_TOOLS for tool in tools)
    if not raw.startswith(b"{"):
        return False
    choice = cast(
        "dict[str, object]", read_field(fields, "tool_choice", dict[str, object], "an object")
    )
    kind = choice.get("type")
    if kind == "allowed_tools":
        allowed = choice.get("tools")
        return choice.get("mode") == "required" and all(
            isinstance(tool, dict)
            and cast("dict[str, object]", tool).get("type") not in CLIENTS_TOOLS
            for tool in (cast("list[object]", allowed) if isinstance(allowed, list) else ())
        )
    return isinstance(kind, str) and kind not in CLIENTS_TOOLS


def _invalid(name: str, wanted: str, value: object) -> BadRequest:
    return BadRequest(f"{name!r} must be {wanted}, not {value}.", param=name, code="invalid_value")

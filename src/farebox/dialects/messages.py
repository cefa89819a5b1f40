"""The Messages API as clients ask for it: a body becomes a Call, of a message or of a count.

What becomes of it for chat is messages_to_chat.py's, streams and answers are those of the files
that begin with `messages_from_chat` and of messages_stream.py. Source: Anthropic's SDK for Python,
`MessageCreateParams` and `MessageCountTokensParams`, with and without their betas.
"""

from __future__ import annotations

import re

import msgspec

from farebox.core.call import Call
from farebox.dialects.body import Fields, decode_fields, hides_letters, read_field
from farebox.dialects.chat import check_messages, read_model
from farebox.dialects.chat_envelope import MAX_TOKENS, refuse_near_names
from farebox.dialects.chat_weight import Weight, weigh_blocks
from farebox.dialects.messages_usual import words_of
from farebox.errors import BadRequest

_WIRES = ("messages", "chat", "responses")
_NULL = msgspec.Raw(b"null")
_BLANK = b" \t\r\n"

# What the price, the hold, the choice of a model, or the account at a vendor hangs on.
_COUNTED = frozenset(
    (
        "model",
        "messages",
        "system",
        "max_tokens",
        "stream",
        "service_tier",
        "speed",
        "inference_geo",
        "fallbacks",
        "fallback_credit_token",
        "billing_policy",
        "tools",
        "tool_choice",
        "mcp_servers",
        "cache_control",
        "container",
        "thread",
        "user_profile_id",
        "workspace_id",
    )
)
_TIERS = {"auto": "auto", "standard_only": "standard"}
_VERSION = re.compile(r"_\d{8}$")
# Tools that run at the client, by their names without a version; `custom` are its own. Whatever
# else there is runs at the vendor, who may charge for it.
CLIENTS_TOOLS = frozenset(
    (
        "custom",
        "bash",
        "text_editor",
        "memory",
        "computer",
        "computer_toolset",
        "browser_toolset",
    )
)
_MCP = "mcp_toolset"


class _Tool(msgspec.Struct, frozen=True):
    type: str | None = None
    name: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None


class _Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


def parse(body: bytes, request_id: str, hops: tuple[str, ...] = ()) -> Call:
    """A Call from a request's body. Raises BadRequest, with the parameter that is wrong."""
    fields = _read_fields(body)
    return _call(body, fields, request_id, hops, _read_cap(fields))


def parse_count(body: bytes, request_id: str, hops: tuple[str, ...] = ()) -> Call:
    """The same for a request to count tokens, which needs no `max_tokens`."""
    return _call(body, _read_fields(body), request_id, hops, None)


def hosted_name(kind: str) -> str:
    """The name under which a tool is priced: without the date of its version."""
    name = _VERSION.sub("", kind)
    return "tool_search" if name.startswith("tool_search_tool") else name


def _read_fields(body: bytes) -> Fields:
    fields = decode_fields(body)
    refuse_near_names(fields, _COUNTED)
    check_messages(fields)
    _check_system(fields)
    _check_dearer(fields)
    read_field(fields, "metadata", _Metadata, 'an object such as {"user_id": "…"}')
    return fields


def _call(
    body: bytes, fields: Fields, request_id: str, hops: tuple[str, ...], cap: int | None
) -> Call:
    tools = read_field(fields, "tools", list[_Tool], "a list of tools") or []
    hosted = {hosted_name(tool.type or "custom") for tool in tools} - CLIENTS_TOOLS
    if read_field(fields, "mcp_servers", list[msgspec.Raw], "a list of servers"):
        hosted.add(_MCP)
    words = words_of(fields)
    size_bytes = len(body)
    weight = weigh_blocks(size_bytes, fields["messages"]) if words is None else Weight(size_bytes)
    return Call(
        request_id=request_id,
        dialect="messages",
        model=read_model(fields),
        fields=fields,
        stream=read_field(fields, "stream", bool, "true or false") or False,
        output_cap=cap,
        text_bytes=weight.text_bytes,
        table_tokens=weight.table_tokens,
        service_tier=_read_tier(fields),
        hosted_tools=tuple(sorted(hosted)),
        may_drop_tools=not (hosted and _is_forced(fields, tools)),
        # A call for no tokens fills a vendor's cache, which no other dialect can ask for.
        wires=("messages",) if cap == 0 else _WIRES,
        writes_1h=_may_write_1h(body),
        hops=hops,
        message_words=words,
    )


def _check_system(fields: Fields) -> None:
    if bytes(memoryview(fields.get("system", _NULL))[:1]) not in (b'"', b"[", b"n"):
        raise BadRequest(
            "'system' must be a text, or a list of text blocks such as"
            ' {"type": "text", "text": "…"}.',
            param="system",
            code="invalid_value",
        )


def _check_dearer(fields: Fields) -> None:
    """What a vendor charges more for than the model's price, or spends on another model."""
    geo = read_field(fields, "inference_geo", str, "a string")
    if geo not in (None, "global"):
        raise BadRequest(
            f"'inference_geo' can only be 'global' here, not {geo[:100]!r}. Leave it out.",
            param="inference_geo",
            code="unsupported_value",
        )
    if bytes(fields.get("fallbacks", _NULL)).translate(None, _BLANK) not in (b"null", b"[]"):
        raise BadRequest(
            "'fallbacks' names other models, which are not served by way of this one. Leave it "
            "out, and ask another model yourself.",
            param="fallbacks",
            code="unsupported_value",
        )


def _read_cap(fields: Fields) -> int:
    cap = read_field(fields, "max_tokens", int, "a whole number")
    if cap is None:
        raise BadRequest(
            "'max_tokens' is missing: say how many tokens the answer may have at most, such as "
            "1024.",
            param="max_tokens",
            code="missing_required_parameter",
        )
    if not 0 <= cap <= MAX_TOKENS:
        raise BadRequest(
            f"'max_tokens' must be between 1 and {MAX_TOKENS}, or 0 to fill a cache, not {cap}.",
            param="max_tokens",
            code="invalid_value",
        )
    return cap


def _read_tier(fields: Fields) -> str | None:
    """The service tier in the words of prices: speed is one of them."""
    tier = read_field(fields, "service_tier", str, "a string")
    if tier is not None and tier not in _TIERS:
        raise _invalid("service_tier", "auto or standard_only", tier)
    speed = read_field(fields, "speed", str, "a string")
    if speed not in (None, "standard", "fast"):
        raise _invalid("speed", "standard or fast", speed)
    if speed == "fast":
        return speed
    return None if tier is None else _TIERS[tier]


def _is_forced(fields: Fields, tools: list[_Tool]) -> bool:
    """Whether an answer without the hosted tools is not what was asked for. Where there are no
    others, it is not: Claude Code takes what comes back for what was found.
    """
    choice = read_field(fields, "tool_choice", _Choice, "an object with a type")
    kind = None if choice is None else choice.type
    clients = [t for t in tools if hosted_name(t.type or "custom") in CLIENTS_TOOLS]
    if choice is not None and kind == "tool":
        return all(tool.name != choice.name for tool in clients)
    return kind != "none" and not clients


def _may_write_1h(body: bytes) -> bool:
    # Too often rather than too seldom, and without a look at megabytes of values: it only makes
    # what is held greater.
    if b'"1h"' in body:
        return True
    # Each look at all of a body takes its time, and there are no escapes in most.
    return b"\\u00" in body and (b"\\u0031" in body or hides_letters(body))


def _invalid(name: str, wanted: str, value: str) -> BadRequest:
    return BadRequest(
        f"{name!r} must be {wanted}, not {value[:100]!r}.", param=name, code="invalid_value"
    )

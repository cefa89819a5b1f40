"""Chat Completions as clients ask for it: a body becomes a Call; errors in OpenAI's shape.

Streams and answers are chat_stream.py's and chat_answer.py's. Source: OpenAI's OpenAPI document,
`CreateChatCompletionRequest` and `ErrorResponse`.
"""

from __future__ import annotations

import re

import msgspec

from farebox.core.call import Call
from farebox.dialects.body import Fields, decode_fields, read_count, read_field
from farebox.dialects.chat_usual import (
    MAX_CHOICES,
    MAX_MODEL_CHARS,
    MAX_TOKENS,
    Asked,
    StreamOptions,
    read_usual,
)
from farebox.dialects.chat_weight import Weight, weigh
from farebox.errors import BadRequest, FareboxError

PING = b": ping\n\n"  # a comment: a data event would reach user code as a chunk without choices
DONE = b"data: [DONE]\n\n"
_LIST_OF_OBJECTS = re.compile(rb"\[\s*\{")


# What the price, the hold or the choice of a model hangs on.
_COUNTED = frozenset(
    (
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "stream",
        "stream_options",
        "service_tier",
        "tools",
        "web_search_options",
        "modalities",
        "store",
    )
)


class _Tool(msgspec.Struct, frozen=True):
    type: str


def parse(body: bytes, request_id: str, hops: tuple[str, ...] = ()) -> Call:
    """A Call from a request's body. Raises BadRequest, with the parameter that is wrong."""
    usual = read_usual(body)
    if usual is None:
        fields = decode_fields(body)
        refuse_near_names(fields, _COUNTED)
        asked = _read(fields)
        weight, words = weigh(body, fields["messages"]), None
    else:
        fields, asked, words = usual
        refuse_near_names(fields, _COUNTED)
        weight = Weight(len(body))
    options, stream = asked.stream_options, asked.stream or False
    caps = [cap for cap in (asked.max_completion_tokens, asked.max_tokens) if cap is not None]
    return Call(
        request_id=request_id,
        dialect="chat",
        model=asked.model,
        fields=fields,
        stream=stream,
        include_usage=bool(stream and options and options.include_usage),
        output_cap=min(caps) if caps else None,
        choices=asked.n or 1,
        text_bytes=weight.text_bytes,
        table_tokens=weight.table_tokens,
        service_tier=asked.service_tier,
        hosted_tools=_hosted_tools(fields),
        wires=("chat", "responses"),
        audio_output="audio" in (asked.modalities or ()),
        hops=hops,
        message_words=words,
    )


def _read(fields: Fields) -> Asked:
    """Field by field, so that it can be said which one is wrong. Raises BadRequest."""
    model = read_model(fields)
    check_messages(fields)
    return Asked(
        model=model,
        stream_options=read_field(fields, "stream_options", StreamOptions, "an object"),
        stream=read_field(fields, "stream", bool, "true or false"),
        max_completion_tokens=read_count(fields, "max_completion_tokens", MAX_TOKENS),
        max_tokens=read_count(fields, "max_tokens", MAX_TOKENS),
        n=read_count(fields, "n", MAX_CHOICES),
        service_tier=read_field(fields, "service_tier", str, "a string"),
        modalities=read_field(fields, "modalities", list[str], "a list of strings"),
    )


def read_model(fields: Fields) -> str:
    """The model's name as the client wrote it. Raises BadRequest."""
    model = read_field(fields, "model", str, "a model's id")
    if not model:
        raise BadRequest(
            'You must name a model: "model": "…". GET /v1/models lists what there is.',
            param="model",
            code="missing_required_parameter",
        )
    if len(model) > MAX_MODEL_CHARS:
        raise BadRequest(
            f"'model' must have at most {MAX_MODEL_CHARS} characters, not {len(model)}.",
            param="model",
            code="invalid_value",
        )
    return model


def refuse_near_names(fields: Fields, counted: frozenset[str]) -> None:
    """Raises BadRequest for a key that is one of these but for its case."""
    # What is priced must be what is sent, and some upstreams, such as all that are written in Go,
    # take "MAX_TOKENS" for max_tokens.
    for name in fields:
        if name not in counted and name.casefold() in counted:
            raise BadRequest(
                f"The key {name!r} is not known. Write {name.casefold()!r}.",
                param=name,
                code="unknown_parameter",
            )


def check_messages(fields: Fields) -> None:
    """Raises BadRequest for what is no list of messages. Only its beginning is looked at, since it
    may be megabytes; what is in it is for others to judge.
    """
    raw = fields.get("messages")
    if raw is None:
        raise BadRequest(
            '\'messages\' is missing: send a list such as [{"role": "user", "content": "…"}].',
            param="messages",
            code="missing_required_parameter",
        )
    if _LIST_OF_OBJECTS.match(memoryview(raw)) is None:
        raise BadRequest(
            "'messages' must be a list of at least one message such as"
            ' {"role": "user", "content": "…"}.',
            param="messages",
            code="invalid_value",
        )


def _hosted_tools(fields: Fields) -> tuple[str, ...]:
    """Tools that run at the vendor, for which it may charge by the call: what is no function of
    the client's.
    """
    if "tools" not in fields and "web_search_options" not in fields:
        return ()
    tools = read_field(fields, "tools", list[_Tool], "a list of objects with a type") or []
    hosted = {hosted_name(tool.type) for tool in tools} - {"function", "custom"}
    if read_field(fields, "web_search_options", dict[str, msgspec.Raw], "an object") is not None:
        hosted.add("web_search")
    return tuple(sorted(hosted))


def hosted_name(kind: str) -> str:
    """The name under which a tool is priced: without the date or `preview` of a version."""
    for name in ("web_search", "computer"):
        if kind.startswith(name):
            return name
    return kind


def error_object(error: FareboxError) -> dict[str, object]:
    """OpenAI's error object: message, type, param, code."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def error_body(error: FareboxError) -> bytes:
    """The body of an error answer."""
    return msgspec.json.encode(error_object(error))


def error_event(error: FareboxError) -> bytes:
    """The event that ends a stream which failed: the SDKs raise on it, and no `[DONE]` follows."""
    return b"data: " + error_body(error) + b"\n\n"

"""Chat Completions as clients ask for it: a body becomes a Call; errors in OpenAI's shape.

Streams and answers are chat_stream.py's and chat_answer.py's. Source: OpenAI's OpenAPI document,
`CreateChatCompletionRequest` and `ErrorResponse`.
"""

from __future__ import annotations

import re

import msgspec

from farebox.core.call import Call
from farebox.dialects.body import Fields, decode_fields, read_count, read_field
from farebox.dialects.chat_envelope import (
    COUNTED,
    MAX_CHOICES,
    MAX_MODEL_CHARS,
    MAX_TOKENS,
    Asked,
    StreamOptions,
    read_envelope,
    refuse_near_names,
)
from farebox.dialects.chat_usual import KNOWN, KnownEnvelopes, read_usual
from farebox.dialects.chat_weight import weigh
from farebox.errors import BadRequest, FareboxError

PING = b": ping\n\n"  # a comment: a data event would reach user code as a chunk without choices
DONE = b"data: [DONE]\n\n"
_WIRES = ("chat", "responses")
_LIST_OF_OBJECTS = re.compile(rb"\[\s*\{")


def parse(
    body: bytes, request_id: str, hops: tuple[str, ...] = (), known: KnownEnvelopes = KNOWN
) -> Call:
    """A Call from a request's body. Raises BadRequest, with the parameter that is wrong."""
    usual = read_usual(body, known)
    if usual is not None:
        envelope, fields, words = usual
        text_bytes, table_tokens = len(body), 0
    else:
        fields = decode_fields(body)
        refuse_near_names(fields, COUNTED)
        asked = _read(fields)
        weight, words = weigh(body, fields["messages"]), None
        text_bytes, table_tokens = weight.text_bytes, weight.table_tokens
        envelope = read_envelope(fields, asked)
    # By position: a name costs as much as its value.
    return Call(
        request_id,
        "chat",
        envelope.model,
        fields,
        envelope.stream,
        envelope.include_usage,
        envelope.output_cap,
        envelope.choices,
        text_bytes,
        table_tokens,
        envelope.service_tier,
        envelope.hosted_tools,
        _WIRES,
        envelope.audio_output,
        hops,
        words,
        envelope.number,
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

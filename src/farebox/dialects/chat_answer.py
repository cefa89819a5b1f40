"""A chat completion's whole answer: checked, answered under the model's name as asked, its usage
read, tool calls mended where clients could not use them.

Source: OpenAI's OpenAPI document, `CreateChatCompletionResponse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_mend import ESCAPE, NOTHING, Delta, is_json, is_set, text_length
from farebox.dialects.said import Said
from farebox.errors import UpstreamFailed, broke_off


class _Choice(msgspec.Struct, gc=False):
    message: Delta | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = NOTHING
    service_tier: str | None = None
    error: msgspec.Raw = NOTHING


_ANSWER = msgspec.json.Decoder(_Answer)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW_LIST = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_encode = msgspec.json.encode


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer as it goes to the client, and what billing must know of it."""

    body: bytes
    usage: msgspec.Raw | None
    service_tier: str | None
    text_bytes: int
    error: object | None = None  # what the upstream said went wrong, in an answer with status 200
    tool_calls: tuple[tuple[str, int], ...] | None = None  # of hosted tools; None: it did not say
    said: Said | None = None  # the text, if no usage was reported


def read_answer(
    body: bytes,
    call: Call,
    finish_reasons: Mapping[str, str],
    failing_finish_reasons: frozenset[str],
) -> Answer:
    """The answer for the client. Raises UpstreamFailed when the body is no chat completion."""
    try:
        return _read(body, call, finish_reasons, failing_finish_reasons)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UpstreamFailed(
            "The upstream's answer is no chat completion.", reason="bad_answer"
        ) from error


def _read(
    body: bytes,
    call: Call,
    finish_reasons: Mapping[str, str],
    failing_finish_reasons: frozenset[str],
) -> Answer:
    answer = _ANSWER.decode(body)
    if answer.error is not NOTHING and is_set(answer.error):
        return Answer(b"", None, None, 0, msgspec.json.decode(answer.error))
    if answer.choices is None:
        raise msgspec.ValidationError("no choices")
    escaped, text_bytes, changed = body.find(ESCAPE) >= 0, 0, False
    for choice in answer.choices:
        reason = choice.finish_reason or ""
        if reason in failing_finish_reasons:
            raise broke_off(f"finish_{reason}")
        message = choice.message
        if message is not None:
            changed = changed or (bool(message.tool_calls) and _has_broken_call(message))
            text_bytes += text_length(message, escaped)
        changed = changed or reason in finish_reasons
    if changed or answer.model != call.model:
        fields = _FIELDS.decode(body)
        fields["model"] = msgspec.Raw(_encode(call.model))
        if changed:
            fields["choices"] = _standard(
                fields["choices"], answer.choices, finish_reasons, call.request_id
            )
        body = _encode(fields)
    if is_set(answer.usage):
        return Answer(body, answer.usage, answer.service_tier, text_bytes)
    return Answer(body, None, answer.service_tier, text_bytes, said=_said(answer.choices))


def _said(choices: list[_Choice]) -> Said:
    said = Said()
    for n, choice in enumerate(choices):
        said.add(n, choice.message)
    return said


def _has_broken_call(message: Delta | None) -> bool:
    if message is None or not message.tool_calls:
        return False
    return any(
        not call.id or (call.function is not None and is_json(call.function.arguments))
        for call in message.tool_calls
    )


def _standard(
    choices: msgspec.Raw, typed: list[_Choice], finish_reasons: Mapping[str, str], request_id: str
) -> msgspec.Raw:
    raw_choices = _RAW_LIST.decode(choices)
    for choice, raw in zip(typed, raw_choices, strict=True):
        standard = finish_reasons.get(choice.finish_reason or "")
        if standard is not None:
            raw["finish_reason"] = msgspec.Raw(_encode(standard))
        if _has_broken_call(choice.message):
            message = cast("dict[str, Any]", msgspec.json.decode(raw["message"]))
            _mend_calls(message["tool_calls"], request_id)
            raw["message"] = msgspec.Raw(_encode(message))
    return msgspec.Raw(_encode(raw_choices))


def _mend_calls(calls: list[dict[str, Any]], request_id: str) -> None:
    # A client must name the id with the result, and decodes the arguments itself.
    for n, call in enumerate(calls):
        call["id"] = call.get("id") or f"call_{request_id.removeprefix('req_')}_{n}"
        function = cast("dict[str, Any]", call.get("function") or {})
        if isinstance(function.get("arguments"), (dict, list)):
            function["arguments"] = _encode(function["arguments"]).decode()


def usage_chunk(call: Call, usage: Usage, created_s: int) -> bytes:
    """The last chunk of a stream for a client that asked for usage where the upstream gave none."""
    return _encode(
        {
            "id": "chatcmpl-" + call.request_id.removeprefix("req_"),
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": call.model,
            "choices": [],
            "usage": {
                "prompt_tokens": usage.input_total,
                "completion_tokens": usage.output + usage.audio_output,
                "total_tokens": usage.input_total + usage.output + usage.audio_output,
            },
        }
    )

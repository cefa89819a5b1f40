"""A chat completion's whole answer: checked, answered under the model's name as asked, its usage
read, tool calls mended where clients could not use them.

Source: OpenAI's OpenAPI document, `CreateChatCompletionResponse`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_mend import NOTHING, Delta, is_json, is_set, read_custom, text_length
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
_MODEL = b'"model":'
_BEHIND = b"," + _MODEL  # another key


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer as it goes to the client, and what billing must know of it."""

    body: bytes
    usage: msgspec.Raw | None
    service_tier: str | None
    counted_bytes: int  # of what the model wrote beside the messages
    error: object | None = None  # what the upstream said went wrong, in an answer with status 200
    tool_calls: tuple[tuple[str, int], ...] | None = None  # of hosted tools; None: it did not say
    messages: Sequence[Delta] = ()  # looked into only where usage is lacking

    @property
    def text_bytes(self) -> int:
        """Of what the model wrote, for an estimate."""
        return self.counted_bytes + sum(map(text_length, self.messages))

    @property
    def said(self) -> Said | None:
        """The text, if no usage was reported."""
        if self.usage is not None:
            return None
        said = Said()
        for n, message in enumerate(self.messages):
            said.add(n, message)
        return said


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
        raise ValueError("no choices")
    messages: list[Delta] = []
    changed = False
    for choice in answer.choices:
        reason, message = choice.finish_reason or "", choice.message
        if reason in failing_finish_reasons:
            raise broke_off(f"finish_{reason}")
        if reason in finish_reasons:
            changed = True
        if message is not None:
            messages.append(message)
            if message.tool_calls and _has_broken_call(message):
                changed = True
    if changed:
        body = _standard(body, call, answer.choices, finish_reasons)
    elif answer.model != call.model:
        body = _rename(body, answer.model, call.model)
    usage = answer.usage if is_set(answer.usage) else None
    return Answer(body, usage, answer.service_tier, 0, None, None, messages)


def _rename(body: bytes, name: str | None, model: str) -> bytes:
    """The same answer under another name."""
    before, found, after = body.partition(_BEHIND + _encode(name))
    # A key before which no second object begins is the outermost's: in a text its quotes would be
    # escaped.
    if found and before.rfind(b"{") == 0 and body.count(_MODEL) == 1:
        return b"".join((before, _BEHIND, _encode(model), after))
    fields = _FIELDS.decode(body)
    fields["model"] = msgspec.Raw(_encode(model))
    return _encode(fields)


def _has_broken_call(message: Delta) -> bool:
    """Raises ValidationError for a custom call that is none."""
    broken = False
    for call in message.tool_calls or ():
        if not call.id or (call.function is not None and is_json(call.function.arguments)):
            broken = True
        if call.function is None and is_set(call.custom):
            read_custom(call)
    return broken


def _standard(
    body: bytes, call: Call, typed: list[_Choice], finish_reasons: Mapping[str, str]
) -> bytes:
    fields = _FIELDS.decode(body)
    fields["model"] = msgspec.Raw(_encode(call.model))
    raw_choices = _RAW_LIST.decode(fields["choices"])
    for choice, raw in zip(typed, raw_choices, strict=True):
        standard = finish_reasons.get(choice.finish_reason or "")
        if standard is not None:
            raw["finish_reason"] = msgspec.Raw(_encode(standard))
        if choice.message is not None and _has_broken_call(choice.message):
            message = cast("dict[str, Any]", msgspec.json.decode(raw["message"]))
            _mend_calls(message["tool_calls"], call.request_id)
            raw["message"] = msgspec.Raw(_encode(message))
    fields["choices"] = msgspec.Raw(_encode(raw_choices))
    return _encode(fields)


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

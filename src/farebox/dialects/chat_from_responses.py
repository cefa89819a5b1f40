"""A response of the Responses API as a chat completion: its stream as chunks, its object as a whole
answer.

What single events and items become is chat_from_responses_deltas.py's. Sources: OpenAI's OpenAPI
document, `ResponseStreamEvent`, `Response`, `CreateChatCompletionStreamResponse`.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat import DONE
from farebox.dialects.chat_answer import Answer
from farebox.dialects.chat_from_responses_deltas import Deltas, Event, Logprobs, Piece
from farebox.dialects.chat_mend import NOTHING, is_set
from farebox.dialects.event_stream import EventStream
from farebox.dialects.sse import event
from farebox.errors import UpstreamFailed, broke_off

_encode = msgspec.json.encode
_TERMINAL = ("completed", "incomplete", "failed", "cancelled")


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    error: msgspec.Raw = NOTHING
    incomplete_details: _Incomplete | None = None
    output: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = NOTHING
    service_tier: str | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    output_tokens_details: _OutputDetails | None = None


_EVENT = msgspec.json.Decoder(Event)
_RESPONSE = msgspec.json.Decoder(_Response)
_USAGE = msgspec.json.Decoder(_Usage)


def usage_object(usage: Usage, reported: msgspec.Raw | None) -> dict[str, object]:
    """Chat's usage of what was charged; how much of it was reasoning, the upstream has said."""
    output = usage.output + usage.audio_output
    reasoning = min(_reasoning_tokens(reported), output)
    return {
        "prompt_tokens": usage.input_total,
        "completion_tokens": output,
        "total_tokens": usage.input_total + output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
            "audio_tokens": usage.audio_input,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": usage.audio_output,
        },
    }


def _reasoning_tokens(reported: msgspec.Raw | None) -> int:
    try:
        details = None if reported is None else _USAGE.decode(reported).output_tokens_details
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return 0
    return max(0, (details and details.reasoning_tokens) or 0)


class ChatFromResponses(EventStream):
    """One stream: feed it a response's events, it returns the chunks that may leave now. From the
    event that ends the response on, they are kept for the tail.
    """

    kind = "event of the Responses API"

    def __init__(self, call: Call, created_s: int, max_event_bytes: int) -> None:
        super().__init__(max_event_bytes)
        self._deltas = Deltas(call)
        self._include_usage = call.include_usage
        self._head: dict[str, object] = _head(call, created_s, "chat.completion.chunk")
        self._has_role = False
        self._tail: list[bytes] = []
        self.ending = False

    @property
    def tool_calls(self) -> tuple[tuple[str, int], ...] | None:
        """How often each hosted tool ran: each time is an item."""
        return self._deltas.tool_calls

    @property
    def whole(self) -> bool:
        """The event that ends a response carries its usage too."""
        return self.ending

    def tail(self, usage: Usage) -> bytes:
        """What was kept back, the usage chunk if the client asked for it, and `[DONE]`."""
        parts, self._tail = self._tail, []
        if self._include_usage:
            shown = usage_object(usage, self.usage)
            parts.append(event(_encode({**self._head, "choices": (), "usage": shown})))
        return b"".join((*parts, DONE))

    def _take(self, raw: bytes, data: bytes, leaving: list[bytes]) -> None:
        del raw
        try:
            leaving += self._chunks(_EVENT.decode(data), data)
        finally:
            self.text_bytes = self._deltas.text_bytes

    def _chunks(self, given: Event, data: bytes) -> list[bytes]:
        kind = given.type.removeprefix("response.")
        if given.type == "error" or (not kind and is_set(given.error)):
            self.error = _said(msgspec.json.decode(data))
        elif kind in _TERMINAL:
            self._end(kind, given.response)
        else:
            chunks = [self._chunk(piece) for piece in self._deltas.event(given)]
            self.started = self.started or self._deltas.began
            return self._with_role(chunks)
        return []

    def _end(self, kind: str, raw: msgspec.Raw) -> None:
        response = _RESPONSE.decode(raw)
        status = response.status or kind
        self.usage = response.usage if is_set(response.usage) else None
        self.service_tier = response.service_tier
        self.error = _error(response, status)
        if self.error is not None:
            return
        chunks: list[bytes] = []
        if not self._deltas.began:  # some servers give everything at the end alone
            for place, item in enumerate(response.output or ()):
                chunks += [self._chunk(piece) for piece in self._deltas.item(place, item)]
        if self._deltas.annotations:
            chunks.append(self._chunk(({"annotations": self._deltas.annotations}, None)))
        if self.service_tier is not None:
            self._head["service_tier"] = self.service_tier
        chunks.append(self._chunk(({}, None), _finish_reason(response, status, self._deltas)))
        self._tail = self._with_role(chunks)
        self.started = self.ending = self.finished = True

    def _with_role(self, chunks: list[bytes]) -> list[bytes]:
        """A message has its role first, before whatever comes of it."""
        if not chunks or self._has_role:
            return chunks
        self._has_role = True
        first: Piece = ({"role": "assistant", "content": "", "refusal": None}, None)
        return [self._chunk(first), *chunks]

    def _chunk(self, piece: Piece, finish: str | None = None) -> bytes:
        delta, logprobs = piece
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": _logprobs(logprobs),
            "finish_reason": finish,
        }
        usage = {"usage": None} if self._include_usage else {}
        return event(_encode({**self._head, "choices": [choice], **usage}))


def read_responses_answer(body: bytes, call: Call, created_s: int) -> Answer:
    """A response object as a chat completion without its usage, which with_usage() adds. Raises
    UpstreamFailed when the body is no finished response.
    """
    try:
        return _read(body, call, created_s)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UpstreamFailed(
            "The upstream's answer is no finished response.", reason="bad_answer"
        ) from error


def with_usage(answer: Answer, usage: Usage) -> bytes:
    """The whole completion, for a call that was charged for `usage`."""
    shown = _encode(usage_object(usage, answer.usage))
    return answer.body.removesuffix(b"}") + b',"usage":' + shown + b"}"


def _read(body: bytes, call: Call, created_s: int) -> Answer:
    response = _RESPONSE.decode(body)
    usage = response.usage if is_set(response.usage) else None
    status = response.status or "completed"
    error = _error(response, status)
    if error is not None:
        return Answer(b"", usage, response.service_tier, 0, error)
    if response.output is None or status not in _TERMINAL:
        raise ValueError("no finished response")
    deltas = Deltas(call)
    pieces = [piece for n, item in enumerate(response.output) for piece in deltas.item(n, item)]
    message = _message(pieces)
    if deltas.annotations:
        message["annotations"] = deltas.annotations
    choice = {
        "index": 0,
        "message": message,
        "logprobs": _logprobs([each for _, given in pieces for each in given or ()]),
        "finish_reason": _finish_reason(response, status, deltas),
    }
    whole = {**_head(call, created_s, "chat.completion"), "choices": [choice]}
    if response.service_tier is not None:
        whole["service_tier"] = response.service_tier
    return Answer(
        _encode(whole),
        usage,
        response.service_tier,
        deltas.text_bytes,
        tool_calls=deltas.tool_calls,
    )


def _message(pieces: list[Piece]) -> dict[str, Any]:
    """All deltas of a message as the message."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    for delta, _ in pieces:
        for name, value in cast("dict[str, Any]", delta).items():
            if name == "tool_calls":
                _add_call(message.setdefault(name, []), value[0])
            elif name == "function_call":
                old = message.setdefault(name, {"arguments": ""})
                old["name"] = old.get("name") or value["name"]
                old["arguments"] += value["arguments"]
            else:
                message[name] = (message.get(name) or "") + value
    return message


def _add_call(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    if "id" in piece:
        calls.append({name: value for name, value in piece.items() if name != "index"})
        return
    call = calls[int(piece["index"])]
    inner, field = ("custom", "input") if "custom" in piece else ("function", "arguments")
    call[inner][field] += piece[inner][field]


def _head(call: Call, created_s: int, kind: str) -> dict[str, object]:
    return {
        "id": "chatcmpl-" + call.request_id.removeprefix("req_"),
        "object": kind,
        "created": created_s,
        "model": call.model,
    }


def _logprobs(content: Logprobs | None) -> dict[str, object] | None:
    return {"content": content, "refusal": None} if content else None


def _finish_reason(response: _Response, status: str, deltas: Deltas) -> str:
    if status == "completed":
        return deltas.finish_reason
    details = response.incomplete_details
    return "content_filter" if details and details.reason == "content_filter" else "length"


def _error(response: _Response, status: str) -> object | None:
    """What went wrong, decoded, if anything did. Raises UpstreamFailed if nobody says what."""
    if is_set(response.error):
        return _said(msgspec.json.decode(response.error))
    if status in ("failed", "cancelled"):
        raise broke_off(status)
    return None


def _said(error: object) -> object:
    """An error without the type `error`, which is its event's and not its own."""
    if isinstance(error, dict):
        fields = cast("dict[str, object]", error)
        return {name: value for name, value in fields.items() if (name, value) != ("type", "error")}
    return error

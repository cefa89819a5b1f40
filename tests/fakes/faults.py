"""Misbehaviour on demand, chosen by the model's name (what stands behind its last `/`).

Instead of an answer:

    close-before-head      the connection is closed
    hang-before-head       silence, until the caller leaves
    slow-head              the head comes after 0.5 s
    fail-NNN               that status, with the vendor's error body; fail-429 and fail-503 ask for
                           7 s of patience, fail-429-ms for 1500 ms, fail-402 and fail-1113 say that
                           the account is empty
    refuse-400             the caller's fault, in the vendor's own shape
    context-400            the same: more tokens than the context takes
    leak-400, leak-500     a message with the key and the address of the upstream in it
    redirect-302           elsewhere
    html-200, bad-json-200, empty-200, list-200    status 200 with something else
    error-200              status 200 with an error object
    hop-loop               the request is sent on to `FakeUpstream.loop_to`, if that is set

In the body of a JSON answer or of a stream:

    truncated              the body ends before it is complete
    reset-mid-stream       the connection is reset half-way
    hang-mid-stream        silence half-way
    slow                   0.05 s between pieces
    bytewise               one byte a piece

In a stream only; a JSON answer is then as it should be:

    early-end              a clean end half-way: no finish reason, no [DONE]
    no-done, no-finish, no-usage, bad-usage, zero-usage
    hang-after-usage       everything but [DONE], then silence
    error-event            an error object half-way, then the end
    error-first            an error object as the only event
    endless                a word each 0.01 s, for ever
    crlf, nospace, bom, multiline, comments, bigline (a 5 MB event)
    garbage-event          an event that is not JSON, half-way
    usage-with-choices     the usage in the chunk with the finish reason
    usage-early            the usage in each chunk, growing
    repeated-ids           role, id, type and name of tool calls in each chunk
    index-from-one, missing-index    of tool calls
    foreign-finish         a finish reason that only this vendor has
    failing-finish         a finish reason that means a failure
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.answers import Answer, as_chunks, as_json
from tests.fakes.personas import Persona
from tests.fakes.shapes import Problem

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Sleep:
    """Wait, then go on."""

    seconds: float


@dataclass(frozen=True)
class Hang:
    """Say nothing more until the caller leaves."""


@dataclass(frozen=True)
class Close:
    """Close without a proper end of the body."""


@dataclass(frozen=True)
class Reset:
    """Reset the connection."""


@dataclass(frozen=True)
class Repeat:
    """Send these bytes again and again until the caller leaves."""

    data: bytes
    seconds: float


Step = bytes | Sleep | Hang | Close | Reset | Repeat
Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Reply:
    """A status, headers and the steps of a body; the body ends properly after the last one."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    steps: tuple[Step, ...] = ()
    before: Step = b""  # in front of the head
    stream: bool = False


def fault_of(model: object) -> str:
    """The part of a model's name that chooses a fault."""
    return str(model).rsplit("/", 1)[-1]


def reply_instead(fault: str, persona: Persona, base_url: str) -> Reply | None:
    """The reply of a fault that has no answer."""
    if fault in ("close-before-head", "hang-before-head"):
        return Reply(before=Close() if fault.startswith("close") else Hang())
    if fault in _BODIES:
        content_type = "text/html" if fault == "html-200" else "application/json"
        return Reply(200, (("content-type", content_type),), (_BODIES[fault],))
    if fault == "error-200":
        return Reply(steps=(persona.error(Problem(500, "Something broke inside.")),))
    if fault == "redirect-302":
        return Reply(302, (("location", "http://127.0.0.1:1/elsewhere"), ("content-length", "0")))
    problem = _problem(fault, persona, base_url)
    if problem is None:
        return None
    headers = (("content-type", "application/json"), *_PATIENCE.get(fault, ()))
    return Reply(problem.status, headers, (persona.error(problem),))


_BODIES = {
    "html-200": b"<!doctype html><title>Bad gateway</title>",
    "bad-json-200": b'{"id":"chatcmpl-fake","choices":[{"index":0,',
    "empty-200": b"",
    "list-200": b"[1,2,3]",
}
_PATIENCE: dict[str, tuple[tuple[str, str], ...]] = {
    "fail-429": (("retry-after", "7"),),
    "fail-503": (("retry-after", "7"),),
    "fail-429-ms": (("retry-after-ms", "1500"),),
}


def _problem(fault: str, persona: Persona, base_url: str) -> Problem | None:
    leak = f"The key {persona.key} was refused at {base_url}/chat/completions."
    named = {
        "refuse-400": Problem(
            400, "'temperature' must be below 2.", "invalid_value", "temperature"
        ),
        "context-400": Problem(
            400,
            "This model's maximum context length is 8192 tokens, but 9000 were given.",
            "context_length_exceeded" if persona.name == "openai" else None,
            "messages",
        ),
        "leak-400": Problem(400, leak),
        "leak-500": Problem(500, leak),
        "fail-401": persona.unauthorized,
        "fail-402": Problem(402, "Insufficient Balance", "insufficient_quota"),
        "fail-1113": Problem(429, "Your account is in arrears, please recharge.", "1113"),
        "fail-404": Problem(404, "The model does not exist.", "model_not_found", "model"),
        "fail-429-ms": Problem(429, "Slow down, org-abcdef123.", "rate_limit_exceeded"),
        "fail-429": Problem(429, "Slow down, org-abcdef123.", "rate_limit_exceeded"),
    }
    if fault in named:
        return named[fault]
    match = re.fullmatch(r"fail-([345]\d\d)", fault)
    return Problem(int(match[1]), "Something broke inside.") if match else None


def good_reply(answer: Answer, *, stream: bool) -> Reply:
    """The answer as its vendor gives it."""
    if not stream:
        return Reply(steps=(json.dumps(as_json(answer), ensure_ascii=False).encode(),))
    comments = (b": keep-alive\n\n",) if answer.persona.comments else ()
    return _stream(as_chunks(answer), before=comments)


def reply_with(fault: str, answer: Answer, *, stream: bool) -> Reply:
    """The answer, spoilt by the fault if it is one."""
    reply = good_reply(answer, stream=stream)
    if fault == "slow-head":
        return replace(reply, before=Sleep(0.5))
    if stream and fault in _CHUNKS:
        return _stream(_CHUNKS[fault](as_chunks(answer), answer))
    return replace(reply, steps=spoilt(fault, reply.steps, stream=stream))


def spoilt(fault: str, steps: Steps, *, stream: bool) -> Steps:
    """The steps of a body, spoilt by the fault if it is one of bytes."""
    spoil = _ANY.get(fault) or (_BYTES.get(fault) if stream else None)
    return spoil(steps) if spoil else steps


def _stream(chunks: list[dict[str, Any]], before: tuple[bytes, ...] = ()) -> Reply:
    events = [b"data: " + _dump(chunk) + b"\n\n" for chunk in chunks]
    headers = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))
    return Reply(200, headers, (*before, *events, DONE), stream=True)


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def half(steps: Steps) -> Steps:
    """The first half of a stream's pieces, or of the one piece that there is."""
    if len(steps) == 1 and isinstance(steps[0], bytes):
        return (steps[0][: len(steps[0]) // 2],)
    return steps[: max(2, len(steps) // 2)]


def _bytewise(steps: Steps) -> Steps:
    return tuple(bytes([b]) for step in steps if isinstance(step, bytes) for b in step)


def _slow(steps: Steps) -> Steps:
    return tuple(part for step in steps for part in (step, Sleep(0.05)))


def _each(change: Callable[[bytes], bytes]) -> Callable[[Steps], Steps]:
    return lambda steps: tuple(change(s) if isinstance(s, bytes) else s for s in steps)


def _multiline(event: bytes) -> bytes:
    # The lines of an event are joined by a line feed, which JSON allows between members.
    return event.replace(b',"choices"', b',\ndata: "choices"', 1)


def _event(value: object) -> bytes:
    return b"data: " + _dump(value) + b"\n\n"


_ERROR = {"error": {"message": "The engine died.", "type": "server_error", "code": "engine_died"}}
_WORD = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
_CHUNK = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1, "model": "m"}

_ANY: dict[str, Callable[[Steps], Steps]] = {
    "truncated": lambda steps: (*half(steps), b"data: {" if len(steps) > 1 else b"", Close()),
    "reset-mid-stream": lambda steps: (*half(steps), Sleep(0.05), Reset()),
    "hang-mid-stream": lambda steps: (*half(steps), Hang()),
    "slow": _slow,
    "bytewise": _bytewise,
}

_BYTES: dict[str, Callable[[Steps], Steps]] = {
    "early-end": half,
    "no-done": lambda steps: steps[:-1],
    "hang-after-usage": lambda steps: (*steps[:-1], Hang()),
    "error-event": lambda steps: (*half(steps), _event(_ERROR)),
    "error-first": lambda _: (_event(_ERROR),),
    "garbage-event": lambda steps: (*half(steps), b"data: {oops\n\n", *steps[len(half(steps)) :]),
    "endless": lambda steps: (
        steps[0], Repeat(_event({**_CHUNK, "choices": [_WORD]}), 0.01)
    ),
    "crlf": _each(lambda event: event.replace(b"\n", b"\r\n")),
    "nospace": _each(lambda event: event.replace(b"data: ", b"data:", 1)),
    "bom": lambda steps: (b"\xef\xbb\xbf", *steps),
    "multiline": _each(_multiline),
    "comments": _each(lambda event: b": ping\n\n\n" + event),
}  # fmt: skip


Chunks = list[dict[str, Any]]


def _each_call(change: Callable[[dict[str, Any]], None]) -> Callable[[Chunks, Answer], Chunks]:
    def changed(chunks: Chunks, answer: Answer) -> Chunks:
        for chunk in chunks:
            for choice in chunk["choices"]:
                for call in choice["delta"].get("tool_calls", ()):
                    change(call)
        return chunks

    return changed


def _repeat_ids(chunks: Chunks, answer: Answer) -> Chunks:
    for chunk in chunks:
        for choice in chunk["choices"]:
            choice["delta"]["role"] = "assistant"
            for call in choice["delta"].get("tool_calls", ()):
                at = call["index"]
                call |= {"id": answer.persona.call_id.format(n=at), "type": "function"}
                call["function"]["name"] = answer.tools[at]
    return chunks


def _finish(reasons: dict[str, str]) -> Callable[[Chunks, Answer], Chunks]:
    def changed(chunks: Chunks, answer: Answer) -> Chunks:
        for chunk in chunks:
            for choice in chunk["choices"]:
                if choice["finish_reason"]:
                    choice["finish_reason"] = reasons.get(answer.persona.name, "eos_token")
        return chunks

    return changed


def _without(name: str) -> Callable[[Chunks, Answer], Chunks]:
    def changed(chunks: Chunks, answer: Answer) -> Chunks:
        return [
            {k: v for k, v in chunk.items() if k != name} for chunk in chunks if chunk["choices"]
        ]

    return changed


def _no_finish(chunks: Chunks, answer: Answer) -> Chunks:
    for chunk in chunks:
        for choice in chunk["choices"]:
            choice["finish_reason"] = None
    return chunks


def _usage(value: object) -> Callable[[Chunks, Answer], Chunks]:
    def changed(chunks: Chunks, answer: Answer) -> Chunks:
        return [{**c, "usage": value} if c.get("usage") is not None else c for c in chunks]

    return changed


def _usage_with_choices(chunks: Chunks, answer: Answer) -> Chunks:
    kept = _without("usage")(chunks, answer)
    return [*kept[:-1], {**kept[-1], "usage": answer.usage}]


def _usage_early(chunks: Chunks, answer: Answer) -> Chunks:
    usage = answer.usage or {}
    total = usage.get("completion_tokens", 0)
    kept = _without("usage")(chunks, answer)
    return [
        {**chunk, "usage": {**usage, "completion_tokens": total * (at + 1) // len(kept)}}
        for at, chunk in enumerate(kept)
    ]


def _bigline(chunks: Chunks, answer: Answer) -> Chunks:
    big = {"index": 0, "delta": {"content": "x" * 5_000_000}, "finish_reason": None}
    return [chunks[0], {**chunks[0], "choices": [big]}, *chunks[1:]]


_ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

_CHUNKS: dict[str, Callable[[Chunks, Answer], Chunks]] = {
    "no-finish": _no_finish,
    "no-usage": _without("usage"),
    "bad-usage": _usage({"prompt_tokens": "many", "completion_tokens": -5, "total_tokens": None}),
    "zero-usage": _usage(_ZERO),
    "usage-with-choices": _usage_with_choices,
    "usage-early": _usage_early,
    "bigline": _bigline,
    "repeated-ids": _repeat_ids,
    "index-from-one": _each_call(lambda call: call.update(index=call["index"] + 1)),
    "missing-index": _each_call(lambda call: call.pop("index")),
    "foreign-finish": _finish({"zai": "sensitive", "zhipu": "model_context_window_exceeded"}),
    "failing-finish": _finish(
        {
            "deepseek": "insufficient_system_resource",
            "zai": "network_error",
            "zhipu": "network_error",
        }
    ),
}

FAULTS = frozenset(
    {*_BODIES, *_ANY, *_BYTES, *_CHUNKS, "close-before-head", "hang-before-head", "slow-head"}
    | {"error-200", "redirect-302", "hop-loop", "refuse-400", "context-400", "leak-400", "leak-500"}
    | {"fail-401", "fail-402", "fail-404", "fail-429", "fail-429-ms", "fail-500", "fail-503"}
    | {"fail-1113"}
)

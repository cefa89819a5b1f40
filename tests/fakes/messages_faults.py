"""How a Messages answer goes out, and its misbehaviour, chosen by the model's name.

The faults of faults.py that come instead of an answer, and those of a body's bytes, are the same
here (truncated, reset-mid-stream, hang-mid-stream, slow, bytewise, slow-head, early-end, crlf,
nospace, bom, comments, garbage-event, hang-before-head, fail-429, html-200 …). Of its own:

    fail-529               Anthropic is overloaded
    credit-400             the account is empty, which Anthropic says with status 400
    context-400            the same words as Anthropic's

In a stream only:

    no-terminal            everything but what ends the message, then a clean end
    no-stop                the message's last delta, but no message_stop
    hang-after-usage       the whole answer, then silence
    overloaded-mid-stream  the event `error` half-way, then the end
    error-event            the same of another error
    error-first            the event `error` as the only one
    error-after-start      the same behind message_start
    endless                a delta each 0.01 s, for ever
    no-usage, zero-usage, bad-usage    in every usage there is
    no-last-usage          message_start has one, and the last delta none
    late-usage             the last delta is followed by another, which has the usage
    bigline                a delta of 2 MB
    multiline              an event's JSON in two lines of data
    no-event-lines         only the lines of data
    with-done              `data: [DONE]` behind message_stop
    foreign-events         pings and events that nobody knows, in between
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.fakes.faults import Hang, Repeat, Reply, Sleep, Steps, fault_of, half, spoilt
from tests.fakes.messages import Message, message_object, message_to
from tests.fakes.messages_events import Event, as_sse, events_of
from tests.fakes.messages_rules import anthropic_error, refuses
from tests.fakes.personas import Body, Persona
from tests.fakes.shapes import Problem

Events = list[Event]
_BIG_BYTES = 2 * 1024 * 1024


def reply_to_messages(persona: Persona, body: Body, headers: dict[str, str]) -> Reply:
    """The reply to a request: a refusal, or the answer, spoilt if the model's name says so."""
    fault = fault_of(body.get("model"))
    problem = OWN_PROBLEMS.get(fault) or refuses(persona, body, headers)
    if problem is not None:
        return Reply(problem.status, steps=(anthropic_error(problem),))
    message = message_to(persona, body)
    stream = body.get("stream") is True
    reply = _streamed(fault, message) if stream else _in_one_piece(fault, message)
    own = _BYTES.get(fault) if stream else None
    steps = own(reply.steps) if own else spoilt(fault, reply.steps, stream=stream)
    return replace(reply, steps=steps, before=Sleep(0.5) if fault == "slow-head" else b"")


def _in_one_piece(fault: str, message: Message) -> Reply:
    if fault in _USAGES:
        message = replace(message, usage=_USAGES[fault])
    return Reply(steps=(json.dumps(message_object(message), ensure_ascii=False).encode(),))


def _streamed(fault: str, message: Message) -> Reply:
    if fault in _USAGES:
        message = replace(message, usage=_USAGES[fault])
    events = events_of(message)
    if fault in _EVENTS:
        events = _EVENTS[fault](events)
    headers = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
    return Reply(200, headers, tuple(map(as_sse, events)), stream=True)


def _error(kind: str, message: str) -> Event:
    error = {"type": kind, "message": message}
    return {"type": "error", "error": error, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}


def _half(events: Events) -> Events:
    return events[: max(4, len(events) // 2)]


def _without_usage(event: Event) -> Event:
    return {name: value for name, value in event.items() if name != "usage"}


def _late_usage(events: Events) -> Events:
    delta = {"stop_reason": None, "stop_sequence": None}
    return [*events[:-2], _without_usage(events[-2]), {**events[-2], "delta": delta}, events[-1]]


def _bigline(events: Events) -> Events:
    delta = {"type": "text_delta", "text": "x" * _BIG_BYTES}
    for at, event in enumerate(events):
        if event.get("delta", {}).get("type") == "text_delta":
            return [*events[:at], {**event, "delta": delta}, *events[at:]]
    return events


def _foreign(events: Events) -> Events:
    between: Events = [{"type": "ping"}, {"type": "x_vendor_note", "delta": "a", "note": ["中"]}]
    inner = (e for event in events[1:-1] for e in (*between, event))
    return [events[0], *inner, events[-1]]


def _two_lines(event: bytes) -> bytes:
    # The lines of an event are joined by a line feed, which JSON allows between members.
    return event.replace(b'",', b'",\ndata: ', 1)


def _without_event_line(event: bytes) -> bytes:
    return event[event.index(b"\n") + 1 :]


def _each(change: Callable[[bytes], bytes]) -> Callable[[Steps], Steps]:
    return lambda steps: tuple(change(s) if isinstance(s, bytes) else s for s in steps)


def _endless(steps: Steps) -> Steps:
    delta = {"type": "text_delta", "text": "word "}
    word = as_sse({"type": "content_block_delta", "index": 0, "delta": delta})
    return (*half(steps), Repeat(word, 0.01))


OWN_PROBLEMS = {
    "fail-529": Problem(529, "Overloaded"),
    "credit-400": Problem(
        400, "Your credit balance is too low to access the Anthropic API. Please go to Billing."
    ),
    "context-400": Problem(400, "prompt is too long: 210000 tokens > 200000 maximum"),
}
_USAGES: dict[str, Any] = {
    "no-usage": None,
    "zero-usage": {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0},
    "bad-usage": {"input_tokens": "many", "output_tokens": -5},
}
_ENGINE = _error("api_error", "The engine died.")
_EVENTS: dict[str, Callable[[Events], Events]] = {
    "no-terminal": lambda events: events[:-2],
    "no-stop": lambda events: events[:-1],
    "error-event": lambda events: [*_half(events), _ENGINE],
    "overloaded-mid-stream": lambda events: [
        *_half(events),
        _error("overloaded_error", "Overloaded"),
    ],
    "error-first": lambda events: [_ENGINE],
    "error-after-start": lambda events: [events[0], _ENGINE],
    "no-last-usage": lambda events: [*events[:-2], _without_usage(events[-2]), events[-1]],
    "late-usage": _late_usage,
    "bigline": _bigline,
    "foreign-events": _foreign,
}
_BYTES: dict[str, Callable[[Steps], Steps]] = {
    "hang-after-usage": lambda steps: (*steps, Hang()),
    "endless": _endless,
    "multiline": _each(_two_lines),
    "no-event-lines": _each(_without_event_line),
    "with-done": lambda steps: (*steps, b"data: [DONE]\n\n"),
    # Chat's faults of these names are of its own events.
    **dict.fromkeys(("error-event", "error-first"), lambda steps: steps),
}

FAULTS = frozenset({*OWN_PROBLEMS, *_USAGES, *_EVENTS, *_BYTES})

"""How a Responses answer goes out, and its misbehaviour, chosen by the model's name.

The faults of faults.py that come instead of an answer, and those of a body's bytes, are the same
here (truncated, reset-mid-stream, hang-mid-stream, slow, bytewise, slow-head, early-end, crlf,
nospace, bom, comments, garbage-event, hang-before-head, fail-429, html-200 …). Of a stream's own:

    no-terminal            everything but the terminal event, then a clean end
    hang-after-usage       the whole answer, then silence
    slow-first-event       the head at once, the first event 0.5 s later
    failed-at-once         response.failed after response.in_progress, without usage
    failed-mid-stream      response.failed half-way; its usage stands there and nowhere else
    incomplete             response.incomplete at the end; the same of its usage
    error-event            the flat event `error` half-way, then the end
    error-event-nested     the same with an object `error` inside
    error-first            the flat event `error` as the only one
    endless                a delta each 0.01 s, for ever
    no-usage, zero-usage, bad-usage, short-usage, empty-details    in the terminal event
    bigline                a delta of 2 MB
    multiline              an event's JSON in two lines of data
    no-event-lines         only the lines of data
    with-done              `data: [DONE]` behind the terminal event
    no-deltas              only what is added and done
    foreign-events         keep-alives and events that nobody knows, in between
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.fakes.faults import Hang, Repeat, Reply, Sleep, Steps, fault_of, half, spoilt
from tests.fakes.personas import Body, Persona
from tests.fakes.responses import Answer, answer_for, response_object
from tests.fakes.responses_events import Event, as_sse, events_of, numbered, opening, terminal
from tests.fakes.responses_rules import refuses

Events = list[Event]
_BIG_BYTES = 2 * 1024 * 1024


def reply_to(persona: Persona, body: Body) -> Reply:
    """The reply to a request: a refusal, or the answer, spoilt if the model's name says so."""
    problem = refuses(persona, body)
    if problem is not None:
        return Reply(problem.status, steps=(persona.error(problem),))
    fault = fault_of(body["model"])
    answer = answer_for(persona, body)
    stream = body.get("stream") is True
    reply = _streamed(fault, answer) if stream else _in_one_piece(answer)
    own = _BYTES.get(fault) if stream else None
    steps = own(reply.steps) if own else spoilt(fault, reply.steps, stream=stream)
    return replace(reply, steps=steps, before=Sleep(0.5) if fault == "slow-head" else b"")


def _in_one_piece(answer: Answer) -> Reply:
    return Reply(steps=(json.dumps(response_object(answer), ensure_ascii=False).encode(),))


def _streamed(fault: str, answer: Answer) -> Reply:
    events = events_of(answer)
    if fault in _EVENTS:
        events = numbered(_EVENTS[fault](events, answer))
    headers = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
    return Reply(200, headers, tuple(map(as_sse, events)), stream=True)


_ENGINE = {"code": "server_error", "message": "The engine died."}


def _failed_at_once(events: Events, answer: Answer) -> Events:
    failed = replace(answer, items=(), status="failed", error=_ENGINE, usage=None)
    return [*opening(answer), terminal(failed)]


def _failed_mid_stream(events: Events, answer: Answer) -> Events:
    begun = events[: max(3, len(events) // 2)]
    items = tuple(e["item"] for e in begun if e["type"] == "response.output_item.done")
    failed = replace(answer, items=items, status="failed", error=_ENGINE)
    return [*begun, terminal(failed)]


def _incomplete(events: Events, answer: Answer) -> Events:
    cut = replace(answer, status="incomplete", reason="max_output_tokens")
    return [*events[:-1], terminal(cut)]


def _error_event(error: Event) -> Callable[[Events, Answer], Events]:
    return lambda events, answer: [*events[: max(3, len(events) // 2)], error]


def _usage(change: Callable[[dict[str, Any]], Any]) -> Callable[[Events, Answer], Events]:
    def changed(events: Events, answer: Answer) -> Events:
        response = events[-1]["response"]
        usage = change(dict(response["usage"] or {}))
        return [*events[:-1], {**events[-1], "response": {**response, "usage": usage}}]

    return changed


def _zero(usage: dict[str, Any]) -> dict[str, Any]:
    details = {name: dict.fromkeys(v, 0) for name, v in usage.items() if isinstance(v, dict)}
    return {**dict.fromkeys(usage, 0), **details}


def _bad(usage: dict[str, Any]) -> dict[str, Any]:
    return {"input_tokens": "many", "output_tokens": -5, "total_tokens": None}


def _short(usage: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if not isinstance(value, dict)}


def _empty_details(usage: dict[str, Any]) -> dict[str, Any]:
    return {name: {} if isinstance(value, dict) else value for name, value in usage.items()}


def _bigline(events: Events, answer: Answer) -> Events:
    for at, event in enumerate(events):
        if event["type"].endswith("output_text.delta"):
            return [*events[:at], {**event, "delta": "x" * _BIG_BYTES}, *events[at:]]
    return events


def _no_deltas(events: Events, answer: Answer) -> Events:
    return [event for event in events if not event["type"].endswith(".delta")]


def _foreign(events: Events, answer: Answer) -> Events:
    between = [{"type": "keepalive"}, {"type": "response.x_vendor.note", "note": ["中"]}]
    return [
        *events[:2],
        *(e for event in events[2:-1] for e in (*between, event)),
        *between,
        events[-1],
    ]


def _without_event_line(event: bytes) -> bytes:
    return event[event.index(b"\n") + 1 :]


def _two_lines(event: bytes) -> bytes:
    # The lines of an event are joined by a line feed, which JSON allows between members.
    return event.replace(b',"sequence_number"', b',\ndata: "sequence_number"', 1)


def _each(change: Callable[[bytes], bytes]) -> Callable[[Steps], Steps]:
    return lambda steps: tuple(change(s) if isinstance(s, bytes) else s for s in steps)


def _endless(steps: Steps) -> Steps:
    delta = {"item_id": "msg_endless", "output_index": 0, "content_index": 0, "logprobs": []}
    name = "response.output_text.delta"
    word = as_sse({"type": name, "sequence_number": 9, **delta, "delta": "word "})
    return (*half(steps), Repeat(word, 0.01))


_FLAT = {"type": "error", **_ENGINE, "param": None}
_NESTED = {"type": "error", "error": {"type": "server_error", **_ENGINE, "param": None}}

_EVENTS: dict[str, Callable[[Events, Answer], Events]] = {
    "no-terminal": lambda events, _: events[:-1],
    "failed-at-once": _failed_at_once,
    "failed-mid-stream": _failed_mid_stream,
    "incomplete": _incomplete,
    "error-event": _error_event(_FLAT),
    "error-event-nested": _error_event(_NESTED),
    "error-first": lambda events, answer: [_FLAT],
    "no-usage": _usage(lambda _: None),
    "zero-usage": _usage(_zero),
    "bad-usage": _usage(_bad),
    "short-usage": _usage(_short),
    "empty-details": _usage(_empty_details),
    "bigline": _bigline,
    "no-deltas": _no_deltas,
    "foreign-events": _foreign,
}

_BYTES: dict[str, Callable[[Steps], Steps]] = {
    "hang-after-usage": lambda steps: (*steps, Hang()),
    "slow-first-event": lambda steps: (Sleep(0.5), *steps),
    "endless": _endless,
    "multiline": _each(_two_lines),
    "no-event-lines": _each(_without_event_line),
    "with-done": lambda steps: (*steps, b"data: [DONE]\n\n"),
    # Chat's faults of these names are of its own events.
    **dict.fromkeys(("error-event", "error-first"), lambda steps: steps),
}

FAULTS = frozenset({*_EVENTS, *_BYTES})

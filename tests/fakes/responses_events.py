"""The stream of a Responses answer: which events come in which order, each with its number.

The order is that of OpenAI's reference, "Streaming events". There is no [DONE].
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.fakes.answers import pieces
from tests.fakes.responses import Answer, response_object
from tests.fakes.responses_items import Item

Event = dict[str, Any]


def events_of(answer: Answer) -> list[Event]:
    """All events of an answer, with `sequence_number` from 0."""
    return numbered(
        (
            *opening(answer),
            *(e for at, item in enumerate(answer.items) for e in _item_events(item, at)),
            terminal(answer),
        )
    )


def numbered(events: Iterable[Event]) -> list[Event]:
    """The events, counted anew."""
    return [
        {"type": event["type"], "sequence_number": n, **_without_number(event)}
        for n, event in enumerate(events)
    ]


def _without_number(event: Event) -> Event:
    return {name: event[name] for name in event if name != "sequence_number"}


def opening(answer: Answer) -> tuple[Event, Event]:
    """What every stream begins with."""
    started = response_object(answer, started=True)
    return (
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
    )


def terminal(answer: Answer) -> Event:
    """The one event that ends a stream."""
    return {"type": f"response.{answer.status}", "response": response_object(answer)}


def as_sse(event: Event) -> bytes:
    """The event on the wire."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def _item_events(item: Item, at: int) -> Iterator[Event]:
    place: dict[str, Any] = {"item_id": item["id"], "output_index": at}
    begun, inside = _INSIDE[item["type"]](item, place)
    # An item of these types has no status.
    if item["type"] not in ("reasoning", "compaction"):
        begun["status"] = "in_progress"
    yield {"type": "response.output_item.added", "output_index": at, "item": {**item, **begun}}
    yield from inside
    yield {"type": "response.output_item.done", "output_index": at, "item": item}


def _message(item: Item, place: dict[str, Any]) -> tuple[Item, list[Event]]:
    here = {**place, "content_index": 0}
    part = item["content"][0]
    empty = {**part, "text": "", "annotations": []}
    events: list[Event] = [{"type": "response.content_part.added", **here, "part": empty}]
    for word in pieces(part["text"]):
        delta = {**here, "delta": word, "logprobs": []}
        events.append({"type": "response.output_text.delta", **delta})
    for n, note in enumerate(part["annotations"]):
        added = {**here, "annotation_index": n, "annotation": note}
        events.append({"type": "response.output_text.annotation.added", **added})
    done = {**here, "text": part["text"], "logprobs": []}
    events.append({"type": "response.output_text.done", **done})
    events.append({"type": "response.content_part.done", **here, "part": part})
    return {"content": []}, events


def _reasoning(item: Item, place: dict[str, Any]) -> tuple[Item, list[Event]]:
    here = {**place, "summary_index": 0}
    part = item["summary"][0]
    name = "response.reasoning_summary"
    events: list[Event] = [{"type": f"{name}_part.added", **here, "part": {**part, "text": ""}}]
    words = pieces(part["text"])
    events += [{"type": f"{name}_text.delta", **here, "delta": word} for word in words]
    events.append({"type": f"{name}_text.done", **here, "text": part["text"]})
    events.append({"type": f"{name}_part.done", **here, "part": part})
    # OpenAI shows a blob at the start too; the one at the end is another, and the one that counts.
    begun = {"encrypted_content": "gAAAAbegun"} if "encrypted_content" in item else {}
    return {"summary": [], **begun}, events


def _function_call(item: Item, place: dict[str, Any]) -> tuple[Item, list[Event]]:
    name = "response.function_call_arguments"
    text = item["arguments"]
    events = [{"type": f"{name}.delta", **place, "delta": part} for part in _two(text)]
    events.append({"type": f"{name}.done", **place, "name": item["name"], "arguments": text})
    return {"arguments": ""}, events


def _custom_tool_call(item: Item, place: dict[str, Any]) -> tuple[Item, list[Event]]:
    name = "response.custom_tool_call_input"
    events = [{"type": f"{name}.delta", **place, "delta": part} for part in _two(item["input"])]
    events.append({"type": f"{name}.done", **place, "input": item["input"]})
    return {"input": ""}, events


def _two(text: str) -> tuple[str, ...]:
    return tuple(part for part in (text[:5], text[5:]) if part)


def _web_search_call(item: Item, place: dict[str, Any]) -> tuple[Item, list[Event]]:
    name = "response.web_search_call"
    states = ("in_progress", "searching", "completed")
    return {}, [{"type": f"{name}.{state}", **place} for state in states]


def _compaction(item: Item, place: dict[str, Any]) -> tuple[Item, list[Event]]:
    return {}, []


_INSIDE = {
    "message": _message,
    "reasoning": _reasoning,
    "function_call": _function_call,
    "custom_tool_call": _custom_tool_call,
    "web_search_call": _web_search_call,
    "compaction": _compaction,
}

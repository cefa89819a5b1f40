"""The order of events: a right stream has nothing wrong, and each slip has its sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.order import check_order, final_response
from tests.conformance.standin import StandIn

Events = list[dict[str, Any]]


def _stream() -> Events:
    """created, item 0 (reasoning), item 1 (a message with one part), completed: ten events."""
    body = {"model": "m", "input": "think: Hm.\nsay: Hello.", "stream": True}
    _, events = StandIn().answer("POST", "/v1/responses", body)
    assert isinstance(events, list)
    return events


def _problems(events: Events) -> list[str]:
    return check_order([(event["type"], event) for event in events])


def _drop(at: int) -> Callable[[Events], None]:
    return lambda events: events.__delitem__(at)


def _change(at: int, **fields: Any) -> Callable[[Events], None]:
    return lambda events: events[at].update(fields)


def _numbered(events: Events) -> Events:
    return [{**event, "sequence_number": at} for at, event in enumerate(events)]


def test_a_right_stream_has_nothing_wrong() -> None:
    """Nor has it with a keep-alive in it, which counts as an event; the response is the last's."""
    events = _stream()
    assert _problems(events) == []
    assert final_response([("", event) for event in events]) == events[-1]["response"]
    assert _problems(_numbered([events[0], {"type": "keepalive"}, *events[1:]])) == []


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        (_drop(0), "the first event is 'response.output_item.added', not 'response.created'"),
        (_drop(-1), "there must be exactly one terminal event, not 0: []"),
        (lambda e: e.append(e[-1]), "exactly one terminal event, not 2"),
        (lambda e: e.append({"type": "late"}), "'late' came after the terminal event"),
        (lambda e: e.insert(1, e[0]), "response.created came more than once"),
        (_drop(1), "output_index 0): the item was not added before, or is done twice"),
        (_drop(2), "items [0] were added and never done"),
        (_change(3, output_index=2), "the next item is number 1"),
        (_drop(4), "response.output_text.delta, output_index 1): no such part is open"),
        (lambda e: e.insert(4, e[4]), "the part is open already"),
        (_drop(5), "the deltas add up to 'lo.', and text is 'Hello.'"),
        (_drop(7), "deltas without their done"),
        (_drop(8), "parts are still open"),
        (_change(6, item_id="other"), "item_id is 'other', the open item's is 'msg_1'"),
        (_change(9, item={"id": "other"}), "the item's id is 'other', and was 'msg_1'"),
        (_change(9, item={"id": "msg_1"}), "output is not the items of output_item.done"),
        (_change(0, response={"id": "other"}), "the response has several ids"),
        (_change(0, response={"output": [1]}), "response.created: its output is not empty"),
        (_change(10, response={"status": "failed"}), "response's status is 'failed'"),
    ],
)
def test_each_slip_is_told(slip: Callable[[Events], None], told: str) -> None:
    """In a sentence that names the event."""
    events = _stream()
    slip(events)
    problems = _problems(_numbered(events))
    assert any(told in problem for problem in problems), problems


def test_numbers_and_names_are_compared() -> None:
    """sequence_number counts from 0 by one, and the event line repeats the type."""
    events = _stream()
    events[3]["sequence_number"] = 4
    assert _problems(events) == ["event 3 (response.output_item.added): sequence_number is 4"]
    named = [("", event) for event in _stream()]
    assert check_order(named[:1])[0] == (
        "event 0: the event line says '', the data's type is 'response.created'"
    )


def test_no_events_at_all_is_wrong() -> None:
    """An empty stream is not a right one."""
    assert check_order([]) == ["there are no events"]

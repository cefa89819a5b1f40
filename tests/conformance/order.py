"""The order of a response's events, which no schema says: what was opened is closed, once each.

The rules are those of OpenAI's "Streaming events" reference and of its SDK's stream helper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Data = dict[str, Any]

KEEPALIVE = "keepalive"
TERMINAL = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
# Within an item: what a delta's texts add up to, in which field of which event.
_SUMS = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.reasoning_summary_text": "text",
    "response.reasoning_text": "text",
    "response.reasoning": "text",
}
# Parts, and what must lie between their added and done.
_PARTS = {
    "response.content_part": "content_index",
    "response.reasoning_summary_part": "summary_index",
}
_IN_PART = {
    "response.output_text": "response.content_part",
    "response.refusal": "response.content_part",
    "response.reasoning_summary_text": "response.reasoning_summary_part",
}


def check_order(events: Sequence[tuple[str, Data]]) -> list[str]:
    """What is wrong with the order of these events (name of the `event:` line, data), as
    sentences; none if all is well."""
    if not events:
        return ["there are no events"]
    return [*_numbers(events), *_frame([data for _, data in events]), *_items(events)]


def final_response(events: Sequence[tuple[str, Data]]) -> Data | None:
    """The response of the terminal event."""
    for _, data in reversed(events):
        if data.get("type") in TERMINAL and isinstance(data.get("response"), dict):
            return data["response"]
    return None


def _numbers(events: Sequence[tuple[str, Data]]) -> Iterator[str]:
    for at, (name, data) in enumerate(events):
        kind = data.get("type")
        if name != kind:
            yield f"event {at}: the event line says {name!r}, the data's type is {kind!r}"
        if data.get("sequence_number") != at:
            yield f"event {at} ({kind}): sequence_number is {data.get('sequence_number')!r}"


def _frame(datas: Sequence[Data]) -> Iterator[str]:
    spoken = [data for data in datas if data.get("type") != KEEPALIVE]
    kinds = [str(data.get("type")) for data in spoken]
    if kinds[:1] != ["response.created"]:
        yield f"the first event is {kinds[0] if kinds else None!r}, not 'response.created'"
    if kinds.count("response.created") > 1:
        yield "response.created came more than once"
    ends = [kind for kind in kinds if kind in TERMINAL]
    if len(ends) != 1:
        yield f"there must be exactly one terminal event, not {len(ends)}: {ends}"
    elif kinds[-1] not in TERMINAL:
        yield f"{kinds[-1]!r} came after the terminal event {ends[0]!r}"
    for data in spoken:
        wanted = TERMINAL.get(data["type"]) if isinstance(data.get("type"), str) else None
        status = (data.get("response") or {}).get("status") if wanted else None
        if status != wanted:
            yield f"{data['type']}: the response's status is {status!r}"
    first = (spoken[0].get("response") or {}) if spoken else {}
    if first.get("output"):
        yield "response.created: its output is not empty"
    ids = {each["id"] for each in (data.get("response") or {} for data in spoken) if "id" in each}
    if len(ids) > 1:
        yield f"the response has several ids: {sorted(map(str, ids))}"


@dataclass
class _Item:
    """An output item between its added and its done."""

    id: Any
    sums: dict[tuple[str, Any], str] = field(default_factory=dict[tuple[str, Any], str])
    open_parts: set[tuple[str, Any]] = field(default_factory=set[tuple[str, Any]])


def _items(events: Sequence[tuple[str, Data]]) -> Iterator[str]:
    opened: dict[Any, _Item] = {}
    done: dict[Any, Any] = {}
    count = 0
    for at, (_, data) in enumerate(events):
        kind, index = str(data.get("type")), data.get("output_index")
        where = f"event {at} ({kind}, output_index {index})"
        if kind == "response.output_item.added":
            if index != count:
                yield f"{where}: the next item is number {count}"
            count += 1
            opened[index] = _Item((data.get("item") or {}).get("id"))
        elif kind == "response.output_item.done":
            item = opened.pop(index, None)
            if item is None:
                yield f"{where}: the item was not added before, or is done twice"
            else:
                yield from (f"{where}: {text}" for text in _closed(item, data))
            done[index] = data.get("item")
        elif "output_index" in data:
            item = opened.get(index)
            if item is None:
                yield f"{where}: no such item is open"
            else:
                yield from (f"{where}: {text}" for text in _within(item, kind, data))
    if opened:
        yield f"items {sorted(opened, key=str)} were added and never done"
    final = final_response(events)
    if final is not None and final.get("output") != [done[index] for index in sorted(done)]:
        yield "the final response's output is not the items of output_item.done, in their order"


def _closed(item: _Item, data: Data) -> Iterator[str]:
    identity = (data.get("item") or {}).get("id")
    if identity != item.id:
        yield f"the item's id is {identity!r}, and was {item.id!r} when it was added"
    if item.open_parts:
        yield f"parts are still open: {sorted(str(part) for part in item.open_parts)}"
    if item.sums:
        yield f"deltas without their done: {sorted(str(key) for key in item.sums)}"


def _within(item: _Item, kind: str, data: Data) -> Iterator[str]:
    if "item_id" in data and data["item_id"] != item.id:
        yield f"item_id is {data['item_id']!r}, the open item's is {item.id!r}"
    stem, _, step = kind.rpartition(".")
    place = data.get("content_index", data.get("summary_index"))
    if stem in _PARTS and step in {"added", "done"}:
        part = (stem, data.get(_PARTS[stem]))
        if (part in item.open_parts) == (step == "added"):
            yield f"the part is {'open already' if step == 'added' else 'not open'}"
        item.open_parts ^= {part}
    elif stem in _SUMS and step in {"delta", "done"}:
        if stem in _IN_PART and (_IN_PART[stem], place) not in item.open_parts:
            yield "no such part is open"
        if step == "delta":
            item.sums[stem, place] = item.sums.get((stem, place), "") + str(data.get("delta"))
            return
        said, whole = item.sums.pop((stem, place), ""), data.get(_SUMS[stem])
        if said != whole:
            yield f"the deltas add up to {said!r}, and {_SUMS[stem]} is {whole!r}"

"""Responses made of a chat upstream's chunks, for tests: what leaves, and what must hold of it."""

from __future__ import annotations

import json
from typing import Any, cast

from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent

from farebox.core.usage import Usage
from farebox.dialects.interpreter import Circumstances, Endings
from farebox.dialects.recall import Recall
from farebox.dialects.responses import parse
from farebox.dialects.responses_from_chat import FromChat
from farebox.dialects.responses_from_chat_answer import WholeFromChat
from farebox.dialects.responses_shell import Shell
from farebox.dialects.responses_to_chat import to_chat
from farebox.dialects.seal import Seal
from tests.dialects import feeding

MIB = 1024 * 1024
ENDINGS = Endings({"sensitive": "content_filter"}, frozenset({"network_error"}))
USAGE = Usage(uncached_input=6, cache_read=3, output=5)
SEAL = Seal(b"s" * 32)


def circumstances(recall: Recall | None = None, seal: Seal = SEAL) -> Circumstances:
    """Account 1, at a fixed time."""
    return Circumstances(1, 1_790_000_000, seal, recall or Recall(), lambda: 1_790_000_009)


class Passed(feeding.Passed):
    """What a stream of a response gave."""

    @property
    def ending(self) -> bool:
        """Whether it ended as a response does."""
        return feeding.is_good(self.stream)

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events in order, decoded; each is checked to be named by its type."""
        return events(self.sent + self.tail)

    @property
    def types(self) -> list[str]:
        """Their types, without `response.`."""
        return [event["type"].removeprefix("response.") for event in self.events]

    @property
    def response(self) -> dict[str, Any]:
        """The response object of the last event."""
        return self.events[-1]["response"]

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items as `output_item.done` gave them."""
        done = [event for event in self.events if event["type"] == "response.output_item.done"]
        return [event["item"] for event in sorted(done, key=lambda each: each["output_index"])]


def events(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream, whose names must be their types."""
    found: list[dict[str, Any]] = []
    for raw in data.split(b"\n\n"):
        if not raw:
            continue
        name, value = raw.split(b"\n")
        event = json.loads(value.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        found.append(event)
    return found


def translate(
    parts: list[bytes], recall: Recall | None = None, usage: Usage = USAGE, **fields: Any
) -> Passed:
    """Feed a stream as the relay does, to the end or until nothing more can matter."""
    around = circumstances(recall)
    body = {"model": "m", "input": "hi", "stream": True, **fields}
    call = parse(json.dumps(body).encode(), "req_abc")
    stream = FromChat(Shell(call, around), to_chat(call, around), around, ENDINGS, MIB)
    return Passed.of(stream, parts, usage)


def whole(completion: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The response object that a whole chat completion makes."""
    around = circumstances()
    call = parse(json.dumps({"model": "m", "input": "hi", **fields}).encode(), "req_abc")
    answering = WholeFromChat(
        json.dumps(completion).encode(), Shell(call, around), to_chat(call, around), around, ENDINGS
    )
    return json.loads(answering.tail(USAGE))


def check(passed: Passed) -> Response:
    """What holds of every good stream; the response that the SDK's own helper makes of it."""
    found = passed.events
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert passed.types[:2] == ["created", "in_progress"]
    assert found[-1]["type"] in ("response.completed", "response.incomplete")
    assert [event for event in found[:-1] if event["type"] == found[-1]["type"]] == []
    assert passed.response["output"] == passed.items
    _check_order(found)
    state = ResponseStreamState(input_tools=[], text_format=omit)
    for event in found:
        made = construct_type(type_=ResponseStreamEvent, value=event)
        state.handle_event(cast("ResponseStreamEvent", made))
    return construct_type(type_=Response, value=passed.response)  # type: ignore[return-value]


def _check_order(found: list[dict[str, Any]]) -> None:
    """Items are added in order, and nothing of one comes before it or after it is done."""
    added: dict[int, dict[str, Any]] = {}
    done: set[int] = set()
    for event in found:
        if event["type"] == "response.output_item.added":
            assert event["output_index"] == len(added)
            added[event["output_index"]] = event["item"]
        elif "output_index" in event:
            index = event["output_index"]
            assert index in added
            assert index not in done
            assert event.get("item_id", added[index]["id"]) == added[index]["id"]
            if event["type"] == "response.output_item.done":
                assert event["item"]["id"] == added[index]["id"]
                done.add(index)
    assert done == set(added)

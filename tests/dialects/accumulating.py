"""Messages made of a chat upstream's chunks, for tests: what leaves, what must hold of it, and what
Anthropic's own SDK makes of it.
"""

from __future__ import annotations

import json
from typing import Any, cast

from anthropic._models import construct_type
from anthropic._streaming import SSEDecoder
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_tools import Tool
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.messages_from_chat import MessageFromChat, WholeMessageFromChat
from farebox.dialects.messages_to_chat import MessagesToChat
from farebox.dialects.recall import Recall
from farebox.dialects.seal import Seal
from tests.dialects import feeding, responding
from tests.dialects.responding import ENDINGS, MIB, USAGE

TOOLS = {"look": Tool("function", "look"), "long_0123": Tool("function", "a/long name")}


class FixedSeal(Seal):
    """A seal that gives one text the same blob each time."""

    def __init__(self) -> None:
        super().__init__(b"s" * 32, bytes)


SEAL = FixedSeal()


def circumstances(recall: Recall | None = None) -> Circumstances:
    """Account 1, at a fixed time, with a seal whose blobs are known."""
    return responding.circumstances(recall, SEAL)


def sent_for(
    call: Call, *, shows: bool = True, omits: bool = False, stops: tuple[str, ...] = ()
) -> MessagesToChat:
    """What was sent in the call's place, as far as its answer hangs on it."""
    chat = Call(call.request_id, "chat", "up", {}, stream=call.stream)
    return MessagesToChat(chat, (), TOOLS, shows, omits, stops)


def inputs(message: dict[str, Any]) -> list[Any]:
    """The names and inputs of a message's calls."""
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    return [(call["name"], call["input"]) for call in calls]


class Passed(feeding.Passed):
    """What a stream of a message gave."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events in order, decoded; each is checked to be named by its type."""
        return events(self.sent + self.tail)

    @property
    def types(self) -> list[str]:
        """Their types; of a delta, its own."""
        return [event.get("delta", {}).get("type", event["type"]) for event in self.events]

    @property
    def ending(self) -> dict[str, Any]:
        """Why the message stopped."""
        return self.events[-2]["delta"]


def events(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream as the SDK reads them, whose names must be their types."""
    found: list[dict[str, Any]] = []
    for read in SSEDecoder().iter_bytes(iter([data])):
        value = json.loads(read.data)
        assert read.event == value["type"]
        found.append(value)
    return found


def feed(stream: Any, parts: list[bytes], usage: Usage = USAGE) -> Passed:
    """Feed a stream as the relay does, to the end or until nothing more can matter."""
    return Passed.of(stream, parts, usage)


def translate(
    parts: list[bytes],
    recall: Recall | None = None,
    *,
    limit: int = MIB,
    usage: Usage = USAGE,
    **sent: Any,
) -> Passed:
    """What becomes of a stream; `sent` as sent_for()."""
    call = Call("req_abc", "messages", "m", {}, stream=True)
    around = circumstances(recall)
    stream = MessageFromChat(call, sent_for(call, **sent), around, ENDINGS, limit)
    return feed(stream, parts, usage)


def whole(completion: dict[str, Any], recall: Recall | None = None, **sent: Any) -> dict[str, Any]:
    """The message that a whole chat completion makes."""
    call = Call("req_abc", "messages", "m", {})
    answering = WholeMessageFromChat(
        json.dumps(completion).encode(),
        call,
        sent_for(call, **sent),
        circumstances(recall),
        ENDINGS,
    )
    return json.loads(answering.tail(USAGE))


def accumulated(passed: Passed) -> dict[str, Any]:
    """The message that the SDK's stream helper makes of a good stream, whose order is checked."""
    assert passed.failure is None
    check_order(passed.events)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in passed.events:
        made = cast("Any", construct_type(type_=RawMessageStreamEvent, value=event))
        snapshot = accumulate_event(event=made, current_snapshot=snapshot, json_bufs=buffers)
    return shown(snapshot)


def read_by_sdk(message: dict[str, Any]) -> dict[str, Any]:
    """A whole message as the SDK reads it."""
    return shown(construct_type(type_=Message, value=message))


def shown(message: Any) -> dict[str, Any]:
    """A message of the SDK's as JSON. A stream has no place for the split of cache writes."""
    found = json.loads(message.model_dump_json(exclude_none=True, warnings=False))
    found["usage"].pop("cache_creation", None)
    return found


def check_order(found: list[dict[str, Any]]) -> None:
    """A message begins and ends once; its blocks stand one behind the other, by rising index."""
    assert found[0]["type"] == "message_start"
    assert [event["type"] for event in found[-2:]] == ["message_delta", "message_stop"]
    inner = [event for event in found[1:-2] if event["type"] != "ping"]
    index, is_open = -1, False
    for event in inner:
        kind = event["type"].removeprefix("content_block_")
        assert kind in ("start", "delta", "stop")
        assert is_open == (kind != "start")
        index += kind == "start"
        is_open = kind != "stop"
        assert event["index"] == index
    assert not is_open

"""What a chat model writes, piece by piece, as the items and events of a response.

A state machine: an item of reasoning or a message is open until something else begins; tool calls
are open until the end, since their pieces may be mixed. Which chunk means what is
responses_from_chat.py's. Source: OpenAI's OpenAPI document, `ResponseStreamEvent`.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from farebox.dialects.chat_pieces import NamelessCalls
from farebox.dialects.chat_tools import Tool
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.responses_shell import Object, Shell
from farebox.dialects.responses_to_chat import ToChat

_LEAST_ID_CHARS = 12  # of a tool call: some upstreams begin anew with `call_0` in every answer
# Of each kind of tool: its call's type, the prefix of ids, and where is what the model wrote.
_CALLS = {
    "function": ("function_call", "fc", "arguments"),
    "custom": ("custom_tool_call", "ctc", "input"),
    "tool_search": ("tool_search_call", "tsc", "arguments"),
}
_PLAIN_FUNCTION = Tool("function", "")


@dataclass(slots=True)
class _Part:
    """An open piece of text: of a message (`output_text`, `refusal`) or of reasoning."""

    kind: str
    texts: list[str] = field(default_factory=list[str])
    logprobs: list[Any] = field(default_factory=list[Any])

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def as_dict(self) -> Object:
        if self.kind == "output_text":
            return {
                "type": "output_text",
                "text": self.text,
                "annotations": [],
                "logprobs": self.logprobs,
            }
        name = "refusal" if self.kind == "refusal" else "text"
        return {"type": self.kind, name: self.text}


@dataclass(slots=True)
class _Open:
    """An item that is being written, and its place in the output."""

    index: int
    item: Object
    part: _Part | None = None
    pieces: list[str] = field(default_factory=list[str])  # of a call's arguments
    tool: Tool = _PLAIN_FUNCTION


class Items:
    """The output of one attempt. Methods give the events that their piece makes."""

    def __init__(self, shell: Shell, sent: ToChat, around: Circumstances, *, seals: bool) -> None:
        """`seals`: the client wants its reasoning back in a form that it can return."""
        self._shell = shell
        self._sent = sent
        self._around = around
        self._seals = seals
        self._output: list[Object] = []
        self._writing: _Open | None = None  # reasoning, or a message
        self._calls: dict[int, _Open] = {}
        self._nameless = NamelessCalls()
        self._call_ids: set[str] = set()  # as the client knows them
        self._done_places: list[int] = []  # of the finished items, in order
        self._reasoning: list[str] = []
        shell.output = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written yet."""
        return not self._output

    def reason(self, *texts: str) -> bytes:
        """Pieces of reasoning, which is shown as its summary."""
        events = b"" if self._is_writing("reasoning") else self._begin_reasoning()
        writing = self._writing
        assert writing is not None
        assert writing.part is not None
        writing.part.texts += texts
        place = {"item_id": writing.item["id"], "output_index": writing.index, "summary_index": 0}
        return events + self._shell.deltas("response.reasoning_summary_text.delta", place, texts)

    def say(self, *texts: str, logprobs: Sequence[Any] = ()) -> bytes:
        """Pieces of the message's text; with `logprobs` it is one."""
        return self._write("output_text", texts, {"logprobs": logprobs}, logprobs)

    def refuse(self, text: str) -> bytes:
        """A piece of a refusal."""
        return self._write("refusal", (text,), {})

    def call(self, n: int, id: str | None, name: str | None, arguments: str) -> bytes:
        """A piece of the tool call `n`; the first one has the id and the name."""
        events = b""
        if n not in self._calls:
            named = self._nameless.take(n, id, name, arguments)
            if named is None:
                return b""
            call_id, name, arguments = named
            events = self._close_writing("completed") + self._begin_call(n, call_id, name)
        call = self._calls[n]
        if not arguments:
            return events
        call.pieces.append(arguments)
        if call.tool.kind != "function":
            return events  # what is in the JSON is told when it is whole
        return events + self._call_event("function_call_arguments.delta", call, delta=arguments)

    def close(self, status: str) -> bytes:
        """End all that is open: `completed`, or `incomplete` for what was cut off."""
        events = self._close_writing(status)
        for n in sorted(self._calls):
            events += self._end_call(self._calls[n], status)
        if self._reasoning and self._calls:
            ids = [str(call.item["call_id"]) for call in self._calls.values()]
            self._around.recall.note(self._around.account_id, ids, "".join(self._reasoning))
        return events

    def say_nothing(self) -> bytes:
        """An empty message: what clients expect of an answer without any item."""
        return self._write("output_text", ("",), None) + self.close("completed")

    # Reasoning and messages.

    def _is_writing(self, kind: str) -> bool:
        return self._writing is not None and self._writing.item["type"] == kind

    def _begin(self, item: Object) -> tuple[_Open, bytes]:
        opened = _Open(len(self._output), item)
        self._output.append(item)
        # The first item of all opens the response.
        return opened, self._shell.open() + self._shell.event(
            "response.output_item.added", output_index=opened.index, item=item
        )

    def _begin_reasoning(self) -> bytes:
        closed = self._close_writing("completed")
        item: Object = {"type": "reasoning", "id": self._shell.item_id("rs"), "summary": []}
        self._writing, added = self._begin(item)
        self._writing.part = _Part("summary_text")
        return (
            closed
            + added
            + self._shell.event(
                "response.reasoning_summary_part.added",
                item_id=item["id"],
                output_index=self._writing.index,
                summary_index=0,
                part={"type": "summary_text", "text": ""},
            )
        )

    def _write(
        self, kind: str, texts: Sequence[str], more: Object | None, logprobs: Sequence[Any] = ()
    ) -> bytes:
        events = b"" if self._is_writing("message") else self._begin_message()
        writing = self._writing
        assert writing is not None
        if writing.part is None or writing.part.kind != kind:
            events += self._close_part(writing) + self._begin_part(writing, kind)
        assert writing.part is not None
        writing.part.texts += texts
        writing.part.logprobs += logprobs
        if more is None:
            return events
        place = self._place_of_part(writing)
        return events + self._shell.deltas(f"response.{kind}.delta", place, texts, more)

    def _begin_message(self) -> bytes:
        closed = self._close_writing("completed")
        item: Object = {
            "type": "message",
            "id": self._shell.item_id("msg"),
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        self._writing, added = self._begin(item)
        return closed + added

    def _begin_part(self, writing: _Open, kind: str) -> bytes:
        writing.part = _Part(kind)
        return self._part_event("content_part.added", writing, part=writing.part.as_dict())

    def _place_of_part(self, writing: _Open) -> Object:
        return {
            "item_id": writing.item["id"],
            "output_index": writing.index,
            "content_index": len(cast("list[Any]", writing.item["content"])),
        }

    def _part_event(self, name: str, writing: _Open, **fields: object) -> bytes:
        return self._shell.event(f"response.{name}", **self._place_of_part(writing), **fields)

    def _close_part(self, writing: _Open) -> bytes:
        part = writing.part
        if part is None:
            return b""
        done = part.as_dict()
        told: Object = {"refusal": part.text}
        if part.kind == "output_text":
            told = {"text": part.text, "logprobs": part.logprobs}
        events = self._part_event(f"{part.kind}.done", writing, **told)
        events += self._part_event("content_part.done", writing, part=done)
        cast("list[Any]", writing.item["content"]).append(done)
        writing.part = None
        return events

    def _close_writing(self, status: str) -> bytes:
        writing, self._writing = self._writing, None
        if writing is None:
            return b""
        if writing.item["type"] == "reasoning":
            return self._close_reasoning(writing)
        events = self._close_part(writing)
        writing.item["status"] = status
        return events + self._done(writing)

    def _close_reasoning(self, writing: _Open) -> bytes:
        assert writing.part is not None
        text, part = writing.part.text, writing.part.as_dict()
        self._reasoning.append(text)
        place = {"item_id": writing.item["id"], "output_index": writing.index, "summary_index": 0}
        events = self._shell.event("response.reasoning_summary_text.done", **place, text=text)
        events += self._shell.event("response.reasoning_summary_part.done", **place, part=part)
        writing.item["summary"] = [part]
        if self._seals:
            sealed = self._around.seal.seal(self._around.account_id, "reasoning", text)
            writing.item["encrypted_content"] = sealed
        return events + self._done(writing)

    def _done(self, opened: _Open) -> bytes:
        # What is done stands in the response's output, also where others before it are still open.
        at = bisect(self._done_places, opened.index)
        self._done_places.insert(at, opened.index)
        self._shell.output.insert(at, opened.item)
        return self._shell.event(
            "response.output_item.done", output_index=opened.index, item=opened.item
        )

    # Tool calls.

    def _begin_call(self, n: int, call_id: str | None, name: str) -> bytes:
        tool = self._sent.tools.get(name) or Tool("function", name)
        if call_id is None or len(call_id) < _LEAST_ID_CHARS or call_id in self._call_ids:
            call_id = self._shell.item_id("call")
        self._call_ids.add(call_id)
        opened, added = self._begin(self._call_item(tool, call_id))
        opened.tool = tool
        self._calls[n] = opened
        return added

    def _call_item(self, tool: Tool, call_id: str) -> Object:
        kind, prefix, written = _CALLS[tool.kind]
        item: Object = {
            "type": kind,
            "id": self._shell.item_id(prefix),
            "call_id": call_id,
            "status": "in_progress",
        }
        if tool.kind == "tool_search":
            return item | {"execution": "client", written: {}}
        item |= {"name": tool.name, written: ""}
        if tool.namespace is not None:
            item["namespace"] = tool.namespace
        return item

    def _call_event(self, kind: str, call: _Open, **fields: object) -> bytes:
        return self._shell.event(
            f"response.{kind}", item_id=call.item["id"], output_index=call.index, **fields
        )

    def _end_call(self, call: _Open, status: str) -> bytes:
        written, events = "".join(call.pieces), b""
        call.item["status"] = status
        if call.tool.kind == "tool_search":
            call.item["arguments"] = _search(written)
        elif call.tool.kind == "custom":
            told = call.item["input"] = unwrap(written)
            if told:
                events = self._call_event("custom_tool_call_input.delta", call, delta=told)
            events += self._call_event("custom_tool_call_input.done", call, input=told)
        else:
            if not written and status == "completed":
                written = "{}"  # a tool without arguments; clients decode them as JSON
                events = self._call_event("function_call_arguments.delta", call, delta=written)
            call.item["arguments"] = written
            events += self._call_event(
                "function_call_arguments.done", call, name=call.tool.name, arguments=written
            )
        return events + self._done(call)


def unwrap(written: str) -> str:
    """The text for a custom tool, of the arguments that a model wrote for it: the value of
    `input`, or of the only text there is. Models also write the text as it is, without JSON.
    """
    try:
        value: object = msgspec.json.decode(written)
    except (msgspec.MsgspecError, RecursionError):
        return written
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        values = cast("Object", value)
        if isinstance(values.get("input"), str):
            return str(values["input"])
        texts = [each for each in values.values() if isinstance(each, str)]
        if len(values) == len(texts) == 1:
            return texts[0]
    return written


def _search(written: str) -> Object:
    try:
        value: object = msgspec.json.decode(written)
    except (msgspec.MsgspecError, RecursionError):
        value = written
    return cast("Object", value) if isinstance(value, dict) else {"query": written}

"""A chat completion's stream as the events of a response.

Chunks are mended by chat_mend.py's rules and become items in responses_from_chat_items.py; here is
what a stream is beyond that: its beginning, its end, its tail, its usage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import msgspec

from farebox.core.usage import Usage
from farebox.dialects.chat_mend import (
    NOTHING,
    Choice,
    Chunk,
    Delta,
    Function,
    Mender,
    ToolCall,
    is_set,
)
from farebox.dialects.event_stream import EventStream
from farebox.dialects.interpreter import Circumstances, Endings
from farebox.dialects.responses_from_chat_items import Items
from farebox.dialects.responses_shell import Object, Shell, usage_object
from farebox.dialects.responses_to_chat import ToChat
from farebox.errors import broke_off

_CHUNK = msgspec.json.Decoder(Chunk)
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_SEALED = "reasoning.encrypted_content"


class FromChat(EventStream):
    """One stream, up to its end, which is the tail's."""

    kind = "chat chunk"

    def __init__(
        self,
        shell: Shell,
        sent: ToChat,
        around: Circumstances,
        endings: Endings,
        max_event_bytes: int,
    ) -> None:
        super().__init__(max_event_bytes)
        self._shell = shell
        self._maker = Maker(shell, sent, around)
        self._mender = Mender(sent.call.request_id, endings.standard, endings.failing)
        # What came with or behind the finish reason. It becomes events, and gets numbers, in the
        # tail: until then there may be pings, or a failure in its place.
        self._kept: list[Piece] = []

    @property
    def tool_calls(self) -> tuple[tuple[str, int], ...]:
        """No hosted tool is ever sent to an upstream that speaks chat."""
        return ()

    @property
    def ending(self) -> bool:
        """Whether the answer has a finish reason."""
        return self._mender.all_finished

    @property
    def whole(self) -> bool:
        """The same: there is one choice."""
        return self.ending

    def tail(self, usage: Usage) -> bytes:
        """What was kept, the ends of all open items, and the event that ends the response."""
        self._shell.service_tier = self.service_tier
        kept = b"".join(map(self._maker.put, self._kept))
        closed, status, more = self._maker.close()
        told = usage_object(usage, reasoning_tokens(self.usage))
        return kept + closed + self._shell.finish(status, usage=told, **more)

    def _take(self, raw: bytes, data: bytes, leaving: list[bytes]) -> None:
        del raw
        pieces = self._chunk(data)
        if not self.ending:
            leaving += map(self._maker.put, pieces)
        elif pieces:
            self._kept += pieces
            self._count_kept(len(data))

    def _chunk(self, data: bytes) -> list[Piece]:
        chunk = _CHUNK.decode(data)
        if is_set(chunk.error):
            self.error = msgspec.json.decode(chunk.error)
            return []
        self.started = True
        self.service_tier = chunk.service_tier or self.service_tier
        if is_set(chunk.usage):
            self.usage = chunk.usage
        self.text_bytes += chunk.text_bytes(data)
        self._mender.judge(chunk)
        found = [self._maker.read(each) for each in chunk.choices or () if each.index == 0]
        if self.ending:
            self._maker.check()
        return [piece for piece in found if piece is not None]


@dataclass(frozen=True, slots=True)
class Piece:
    """What a choice brings, all of it read: only this may open a response."""

    reasoning: str
    content: str
    refusal: str
    calls: tuple[tuple[int, str | None, str | None, str], ...]  # index, id, name, arguments
    logprobs: list[Any]


class Maker:
    """Choices of a chat answer become items, until it is closed. Also serves whole answers."""

    def __init__(self, shell: Shell, sent: ToChat, around: Circumstances) -> None:
        self._shell = shell
        self._around = around
        self._items = Items(shell, sent, around, seals=shell.includes(_SEALED))
        self._summary: list[str] | None = [] if sent.compacts else None
        self._finish: str | None = None
        self._named: set[int] = set()
        self._nameless: set[int] = set()  # calls whose arguments came first

    def check(self) -> None:
        """Raises UpstreamFailed if what was written is no answer: no summary where one is wanted,
        or arguments for a tool that was never named.
        """
        if self._summary is not None and not "".join(self._summary).strip():
            raise broke_off("no_summary")
        if not self._nameless <= self._named:
            raise broke_off("no_tool_name")

    def read(self, choice: Choice) -> Piece | None:
        """A piece of the answer, if there is anything in it. Raises ValueError or MsgspecError."""
        self._finish = choice.finish_reason or self._finish
        delta = choice.delta or Delta()
        content = _text(delta.content)
        if self._summary is not None:
            self._summary.append(content)
            return None
        reasoning = _text(delta.reasoning_content) or _text(delta.reasoning)
        refusal = _text(delta.refusal)
        calls = tuple(map(_call, delta.tool_calls or ()))
        for index, _, name, arguments in calls:
            if name:
                self._named.add(index)
            elif arguments:
                self._nameless.add(index)
        if not (reasoning or content or refusal or calls):
            return None
        return Piece(reasoning, content, refusal, calls, _logprobs(choice))

    def put(self, piece: Piece) -> bytes:
        """The events that a piece makes."""
        items, made = self._items, b""
        if piece.reasoning:
            made += items.reason(piece.reasoning)
        if piece.content:
            made += items.say(piece.content, piece.logprobs)
        if piece.refusal:
            made += items.refuse(piece.refusal)
        for call in piece.calls:
            made += items.call(*call)
        return made

    def close(self) -> tuple[bytes, str, Object]:
        """The events that end all items, the response's status, and what else its object says."""
        if self._summary is not None:
            return self._summarise(), "completed", {}
        reason = _INCOMPLETE.get(self._finish or "")
        if reason is not None:
            return self._items.close("incomplete"), "incomplete", {"incomplete": reason}
        if self._items.is_empty:
            return self._items.say_nothing(), "completed", {}
        return self._items.close("completed"), "completed", {}

    def _summarise(self) -> bytes:
        summary = "".join(self._summary or ())
        item = {
            "type": "compaction",
            "id": self._shell.item_id("cmp"),
            "encrypted_content": self._around.seal.seal(
                self._around.account_id, "compaction", summary
            ),
        }
        opened = self._shell.open()
        self._shell.output = [item]
        added = self._shell.event("response.output_item.added", output_index=0, item=item)
        done = self._shell.event("response.output_item.done", output_index=0, item=item)
        return opened + added + done


def reasoning_tokens(usage: msgspec.Raw | None) -> int:
    """The tokens of reasoning that a chat usage object names; 0 if it does not."""
    if usage is None:
        return 0
    try:
        reported = cast("Object", msgspec.json.decode(usage))
        details = cast("Object", reported.get("completion_tokens_details") or {})
        count = details.get("reasoning_tokens")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, AttributeError):
        return 0
    return count if isinstance(count, int) and count > 0 else 0


def _text(raw: msgspec.Raw) -> str:
    """A piece of text; some upstreams give a message's content as a list of parts."""
    if not is_set(raw) or raw is NOTHING:
        return ""
    value: object = msgspec.json.decode(raw)
    if isinstance(value, str):
        return value
    parts = cast("list[object]", value) if isinstance(value, list) else []
    texts = [cast("Object", part).get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _call(call: ToolCall) -> tuple[int, str | None, str | None, str]:
    """Its index, id, name and arguments, as far as they are in this piece."""
    function = call.function or Function()
    return call.index or 0, call.id, function.name, _arguments(function.arguments)


def _arguments(raw: msgspec.Raw) -> str:
    """A piece of a call's arguments: JSON in a string, or, of some upstreams, JSON itself."""
    if not is_set(raw):
        return ""
    data = bytes(raw)
    if data[:1] == b'"':
        return str(msgspec.json.decode(raw))
    return data.decode()


def _logprobs(choice: Choice) -> list[Any]:
    if not is_set(choice.logprobs):
        return []
    value: object = msgspec.json.decode(choice.logprobs)
    content = cast("Object", value).get("content") if isinstance(value, dict) else None
    return cast("list[Any]", content) if isinstance(content, list) else []

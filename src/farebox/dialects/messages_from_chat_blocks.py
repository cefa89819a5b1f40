"""What a chat model writes, piece by piece, as the blocks of a message and their events.

A state machine. Blocks stand strictly one behind the other, but pieces of several tool calls may
come mixed: the front, the first block that is open, leaves as it comes, and those behind it wait.
Which chunk means what is messages_from_chat.py's. Source: Anthropic's SDK for Python,
`RawMessageStreamEvent` and `ContentBlock`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from farebox.core.call import Call
from farebox.dialects.chat_pieces import NamelessCalls
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.messages_shell import event
from farebox.dialects.messages_to_chat import MessagesToChat
from farebox.dialects.said import in_json
from farebox.dialects.values import Object

# Ids of calls that may stay: of letters that these clients' API takes back, and not so short that
# they are likely to come twice, for some upstreams begin anew with `call_0` in every answer.
_ID = re.compile(r"[A-Za-z0-9_-]{12,}")
_BLANK = " \t\r\n"
_MAX_LOOKS = 64  # at whether a call's arguments are whole, since each reads all of them


class _Block:
    """A block of text, and what the model wrote for it. `source` tells a refusal from the rest."""

    def __init__(self, source: str, start: Object) -> None:
        """`start` is the block as its first event gives it."""
        self.source = source
        self.start = start
        self.is_closed = False
        self._pieces: list[str] = []
        self._given = 0  # pieces that have left

    @property
    def is_whole(self) -> bool:
        """Whether it can have its end when another block has begun."""
        return True

    @property
    def written(self) -> str:
        """All of it."""
        return "".join(self._pieces)

    def take(self, text: str) -> None:
        """A piece more."""
        self._pieces.append(text)

    def delta(self) -> Object | None:
        """What has come and not left yet, if it may leave."""
        text = self._take_new()
        return {"type": "text_delta", "text": text} if text else None

    def last_delta(self) -> Object | None:
        """What is left for its end."""
        return self.delta()

    def done(self) -> Object:
        """The block with all that is in it."""
        return {**self.start, "text": self.written}

    def frame(self) -> Object | None:
        """What delta() gives for an empty text, if it gives any for one that is not."""
        return {"type": "text_delta", "text": ""}

    def give(self, texts: Sequence[str]) -> None:
        """So much more has come, and has left."""
        self._pieces += texts
        self._given = len(self._pieces)

    def _take_new(self) -> str:
        text = "".join(self._pieces[self._given :])
        self._given = len(self._pieces)
        return text


class _Thinking(_Block):
    """Reasoning with its signature: itself, sealed. To those who omit it the text never leaves."""

    def __init__(self, seal: Callable[[str], str], *, is_omitted: bool) -> None:
        super().__init__("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        self._seal = seal
        self._is_omitted = is_omitted
        self._signature = ""

    def delta(self) -> Object | None:
        text = "" if self._is_omitted else self._take_new()
        return {"type": "thinking_delta", "thinking": text} if text else None

    def frame(self) -> Object | None:
        return None if self._is_omitted else {"type": "thinking_delta", "thinking": ""}

    def last_delta(self) -> Object | None:
        self._signature = self._seal(self.written)
        return {"type": "signature_delta", "signature": self._signature}

    def done(self) -> Object:
        shown = "" if self._is_omitted else self.written
        return {**self.start, "thinking": shown, "signature": self._signature}


class _ToolUse(_Block):
    """A tool call. Its arguments leave as they are written, if they begin as an object does."""

    def __init__(self, id: str, name: str) -> None:
        start: Object = {"type": "tool_use", "id": id, "name": name, "input": {}}
        super().__init__("call", start)
        self._first = ""  # letter that is not blank
        self._looks = 0

    @property
    def is_whole(self) -> bool:
        if not self._pieces or not self._pieces[-1].rstrip(_BLANK).endswith("}"):
            return False
        self._looks += 1
        return self._looks <= _MAX_LOOKS and isinstance(_decoded(self.written), dict)

    def take(self, text: str) -> None:
        super().take(text)
        self._first = self._first or text.lstrip(_BLANK)[:1]

    def delta(self) -> Object | None:
        text = self._take_new() if self._first == "{" else ""
        return {"type": "input_json_delta", "partial_json": text} if text else None

    def last_delta(self) -> Object | None:
        if self._first == "{":
            return self.delta()
        return {"type": "input_json_delta", "partial_json": bytes(as_input(self.written)).decode()}

    def done(self) -> Object:
        return {**self.start, "input": as_input(self.written)}


class Blocks:
    """The content of one attempt. Methods give the events that their piece makes."""

    def __init__(self, call: Call, sent: MessagesToChat, around: Circumstances) -> None:
        self._own_id = call.request_id.removeprefix("req_")
        self._sent = sent
        self._around = around
        self._open: deque[_Block] = deque()  # the front, and those that wait behind it
        self._calls: dict[int, _ToolUse] = {}
        self._nameless = NamelessCalls()
        self._call_ids: list[str] = []  # as the client knows them
        self._thoughts: list[str] = []
        self.content: list[Object] = []  # the blocks that have their end
        self.has_refused = False

    @property
    def has_calls(self) -> bool:
        """Whether the client is to run a tool."""
        return bool(self._calls)

    def think(self, *texts: str) -> bytes:
        """Pieces of reasoning, which nobody sees who did not ask for it."""
        self._thoughts += texts
        if not (self._sent.shows_thinking or self._sent.omits_thinking):
            return b""
        return self._write("thinking", texts)

    def say(self, *texts: str) -> bytes:
        """Pieces of text."""
        return self._write("text", texts)

    def refuse(self, text: str) -> bytes:
        """A piece of a refusal, which is text in a block of its own."""
        self.has_refused = True
        return self._write("refusal", (text,))

    def call(self, n: int, id: str | None, name: str | None, arguments: str) -> bytes:
        """A piece of the tool call `n`; the first one has the id and the name."""
        events = b""
        if n not in self._calls:
            named = self._nameless.take(n, id, name, arguments)
            if named is None:
                return b""
            call_id, name, arguments = named
            self._calls[n] = self._tool_use(call_id, name)
            events = self._begin(self._calls[n])
        block = self._calls[n]
        if not arguments or block.is_closed:
            return events  # what comes behind an object's end is no part of it
        return events + self._add(block, arguments)

    def close(self) -> bytes:
        """End all that is open. Reasoning is remembered by the calls that it led to."""
        events = b""
        while self._open:
            events += self._close_front()
        if self._thoughts and self._call_ids:
            text = "".join(self._thoughts)
            self._around.recall.note(self._around.account_id, self._call_ids, text)
        return events

    def _write(self, source: str, texts: Sequence[str]) -> bytes:
        if self._open and self._open[-1].source == source:
            return self._add_texts(self._open[-1], texts)
        if source == "thinking":
            block = _Thinking(self._seal, is_omitted=self._sent.omits_thinking)
        else:
            block = _Block(source, {"type": "text", "text": ""})
        return self._begin(block) + self._add_texts(block, texts)

    def _seal(self, text: str) -> str:
        return self._around.seal.seal(self._around.account_id, "reasoning", text)

    def _tool_use(self, call_id: str | None, name: str) -> _ToolUse:
        if call_id is None or _ID.fullmatch(call_id) is None or call_id in self._call_ids:
            call_id = f"toolu_{self._own_id}{len(self._call_ids) + 1:02d}"
        self._call_ids.append(call_id)
        tool = self._sent.tools.get(name)
        return _ToolUse(call_id, name if tool is None else tool.name)

    # The queue of blocks.

    def _begin(self, block: _Block) -> bytes:
        self._open.append(block)
        return self._start_front() if len(self._open) == 1 else self._go_on()

    def _add(self, block: _Block, text: str) -> bytes:
        block.take(text)
        return self._delta(block.delta()) + self._go_on() if block is self._open[0] else b""

    def _add_texts(self, block: _Block, texts: Sequence[str]) -> bytes:
        if len(texts) == 1 or block is not self._open[0]:
            return b"".join([self._add(block, text) for text in texts])
        block.give(texts)
        head, empty, tail = self._delta(block.frame()).decode().rpartition('""')
        if not empty:
            return b""
        between = f'"{tail}{head}"'
        return f'{head}"{between.join(in_json(texts))}"{tail}'.encode()

    def _go_on(self) -> bytes:
        """The next block becomes the front, as often as the front is whole and there is one."""
        events = b""
        while len(self._open) > 1 and self._open[0].is_whole:
            events += self._close_front()
        return events

    def _start_front(self) -> bytes:
        block = self._open[0]
        index = len(self.content)
        started = event("content_block_start", index=index, content_block=block.start)
        return started + self._delta(block.delta())

    def _close_front(self) -> bytes:
        block = self._open.popleft()
        block.is_closed = True
        events = self._delta(block.last_delta())
        events += event("content_block_stop", index=len(self.content))
        self.content.append(block.done())
        return events + self._start_front() if self._open else events

    def _delta(self, delta: Object | None) -> bytes:
        if delta is None:
            return b""
        return event("content_block_delta", index=len(self.content), delta=delta)


def as_input(written: str) -> msgspec.Raw:
    """A tool's input, which must be an object, of the arguments that a model wrote: they are JSON
    in chat, and nobody has checked them. What is none is wrapped, so that the client's own check
    can tell the model what it wrote.
    """
    value = _decoded(written)
    if isinstance(value, dict):
        return msgspec.Raw(written.encode())  # numbers stay as they were written
    if value is None and written.strip(_BLANK) in ("", "null"):
        return msgspec.Raw(b"{}")  # a tool without arguments
    if value is None:
        return msgspec.Raw(msgspec.json.encode({"input": written}))
    return msgspec.Raw(msgspec.json.encode({"value": msgspec.Raw(written.encode())}))


def _decoded(written: str) -> object:
    """JSON as a value; None also for what is none."""
    try:
        return msgspec.json.decode(written)
    except (msgspec.MsgspecError, RecursionError):
        return None

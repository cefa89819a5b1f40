"""What a chat model writes, piece by piece, for dialects whose answers are made of other events.

Chunks are mended by chat_mend.py's rules and read here; what a piece becomes is the dialect's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec

from farebox.core.call import Call
from farebox.dialects.chat_answer import Answer, read_answer
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
from farebox.dialects.chat_repeats import Pattern, Texts
from farebox.dialects.interpreter import Endings
from farebox.dialects.repeating_stream import RepeatingStream
from farebox.dialects.said import arguments_of, keep_chunk, text_of, texts_of
from farebox.dialects.values import Object
from farebox.errors import UpstreamFailed, broke_off

_CHUNK = msgspec.json.Decoder(Chunk)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a choice brings, all of it read: only this may open an answer."""

    reasoning: str
    content: str
    refusal: str
    calls: tuple[tuple[int, str | None, str | None, str], ...]  # index, id, name, arguments
    logprobs: list[Any]


class Maker(Protocol):
    """What makes an answer of pieces, until it is closed."""

    def read(self, choice: Choice) -> Piece | None:
        """The piece in a choice, if there is anything in it. Raises ValueError or MsgspecError."""
        ...

    def put(self, piece: Piece) -> bytes:
        """The events that a piece makes."""
        ...

    def put_texts(self, field: str, texts: list[str]) -> bytes:
        """The events of pieces that have only a text, which is in `field` of each delta."""
        ...

    def check(self) -> None:
        """Raises UpstreamFailed if what was written by its end is no answer."""
        ...


class Reader:
    """Reads the pieces of one answer, and remembers how it ended."""

    def __init__(self) -> None:
        self.finish: str | None = None  # the finish reason
        self._named: set[int] = set()
        self._nameless: set[int] = set()  # calls whose arguments came first

    def read(self, choice: Choice) -> Piece | None:
        """As Maker."""
        self.finish = choice.finish_reason or self.finish
        delta = choice.delta or Delta()
        content = text_of(delta.content)
        reasoning = text_of(delta.reasoning_content) or text_of(delta.reasoning)
        refusal = text_of(delta.refusal)
        calls = tuple(map(_call, delta.tool_calls or ()))
        for index, _, name, arguments in calls:
            if name:
                self._named.add(index)
            elif arguments:
                self._nameless.add(index)
        if not (reasoning or content or refusal or calls):
            return None
        return Piece(reasoning, content, refusal, calls, _logprobs(choice))

    def check(self) -> None:
        """As Maker: arguments for a tool that was never named are of no use."""
        if not self._nameless <= self._named:
            raise broke_off("no_tool_name")


class NamelessCalls:
    """Tool calls of which nothing can be said yet, since their names have not come."""

    def __init__(self) -> None:
        self._ids: dict[int, str | None] = {}
        self._arguments: dict[int, list[str]] = {}

    def take(
        self, n: int, id: str | None, name: str | None, arguments: str
    ) -> tuple[str | None, str, str] | None:
        """A piece of one: its id, name, and all of its arguments so far, if it has a name now."""
        self._ids[n] = id or self._ids.get(n)
        came = self._arguments.setdefault(n, [])
        came.append(arguments)
        return (self._ids[n], name, "".join(came)) if name else None


class PieceStream(RepeatingStream):
    """A chat stream for a dialect of other events, up to its end, which is the tail's: a subclass
    makes that of put_kept() and the usage.
    """

    kind = "chat chunk"
    decodes = True

    def __init__(
        self, maker: Maker, request_id: str, endings: Endings, max_event_bytes: int
    ) -> None:
        super().__init__(Mender(request_id, endings.standard, endings.failing), max_event_bytes)
        self._maker = maker
        # What came with or behind the finish reason. It becomes events in the tail: until then
        # there may be pings, or a failure in its place.
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

    def put_kept(self) -> bytes:
        """The events of what was kept."""
        kept, self._kept = self._kept, []
        return b"".join(map(self._maker.put, kept))

    def _take(self, raw: bytes, data: bytes, leaving: list[bytes]) -> None:
        pieces = self._chunk(raw, data)
        if not self.ending:
            leaving += map(self._maker.put, pieces)
        elif pieces:
            self._kept += pieces
            self._count_kept(len(data))

    def _chunk(self, raw: bytes, data: bytes) -> list[Piece]:
        chunk = _CHUNK.decode(data)
        if is_set(chunk.error):
            self.error = msgspec.json.decode(chunk.error)
            return []
        self.started = True
        self.service_tier = chunk.service_tier or self.service_tier
        if is_set(chunk.usage):
            self.usage = chunk.usage
        self.text_bytes += chunk.text_bytes()
        if self.said is not None:
            keep_chunk(self.said, chunk)
        if not self._mender.judge(chunk) and (learned := self._learn(raw, data, chunk)):
            self._pattern, _ = learned
        found = [self._maker.read(each) for each in chunk.choices or () if each.index == 0]
        if self.ending:
            self._maker.check()
        return [piece for piece in found if piece is not None]

    def _pass_alike(self, pattern: Pattern, texts: Texts) -> bytes:
        self.service_tier = pattern.service_tier or self.service_tier
        self.text_bytes += texts.size_bytes
        if self.said is not None:
            self.said.add_texts(texts.texts)
        told = [text for text in texts_of(texts.texts) if text]
        return self._maker.put_texts(pattern.field, told) if told else b""


class _Choice(msgspec.Struct):
    message: Delta | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = NOTHING
    stop_reason: msgspec.Raw = NOTHING


class _Completion(msgspec.Struct):
    choices: list[_Choice]


def put_whole(body: bytes, call: Call, endings: Endings, maker: Maker) -> Answer:
    """A whole completion given to the maker as one piece; what billing must know of it. Its body
    is the maker's to give. Raises UpstreamFailed when it is no chat completion.
    """
    answer = read_answer(body, call, endings.standard, endings.failing)
    if answer.error is None:
        try:
            _put_whole(answer.body, call, endings, maker)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UpstreamFailed(
                "The upstream's answer is no chat completion.", reason="bad_answer"
            ) from error
    return Answer(b"", answer.usage, answer.service_tier, 0, answer.error, (), answer.messages)


def _put_whole(body: bytes, call: Call, endings: Endings, maker: Maker) -> None:
    choices = msgspec.json.decode(body, type=_Completion).choices
    for choice in choices[:1]:
        message = choice.message or Delta()
        for n, tool_call in enumerate(message.tool_calls or ()):
            tool_call.index = n  # each is whole, also where two have one id
        whole = Choice(0, message, choice.finish_reason, choice.logprobs, choice.stop_reason)
        mender = Mender(call.request_id, endings.standard, endings.failing)
        mender.judge(Chunk(choices=[whole]))
        piece = maker.read(whole)
        if piece is not None:
            maker.put(piece)
    maker.check()


def reasoning_tokens(usage: msgspec.Raw | None) -> int:
    """The tokens of reasoning that a usage object names, chat's or the Responses API's; 0 if it
    does not.
    """
    if usage is None:
        return 0
    try:
        reported = cast("Object", msgspec.json.decode(usage))
        details = reported.get("completion_tokens_details") or reported.get("output_tokens_details")
        count = cast("Object", details or {}).get("reasoning_tokens")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, AttributeError):
        return 0
    return count if isinstance(count, int) and count > 0 else 0


def _call(call: ToolCall) -> tuple[int, str | None, str | None, str]:
    """Its index, id, name and arguments, as far as they are in this piece."""
    function = call.function or Function()
    return call.index or 0, call.id, function.name, arguments_of(function)


def _logprobs(choice: Choice) -> list[Any]:
    if not is_set(choice.logprobs):
        return []
    value: object = msgspec.json.decode(choice.logprobs)
    content = cast("Object", value).get("content") if isinstance(value, dict) else None
    return cast("list[Any]", content) if isinstance(content, list) else []

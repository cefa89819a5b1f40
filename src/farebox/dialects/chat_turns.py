"""What was said, called, returned and thought, arranged as chat messages.

Chat is stricter than other dialects: one answer of the model is one message with all its calls,
and the result of each call follows at once, before anything else. Reading what a client sent is
its dialect's. Sources: OpenAI's OpenAPI document, `ChatCompletionRequestMessage`;
DeepSeek's API documentation, "Thinking Mode", for `reasoning_content`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, NamedTuple, cast

from farebox.dialects.values import Object

NO_OUTPUT = "aborted"  # in Codex's word: the result of a call that has none
_TOOL_CALLS, _REASONING = b'"tool_calls"', b'"reasoning_content"'
_SEE_BELOW = "The output is in the next message."
Recalled = Callable[[str], str | None]
"""The reasoning before the tool call of this id, if it is remembered."""


Content = str | list[Object]
"""A text, or a list of parts only where there is more than text: pictures, or marks on the text."""


class Said(NamedTuple):
    """A message."""

    role: Literal["system", "user", "assistant"]
    content: Content


class Called(NamedTuple):
    """A tool call under the upstream's name."""

    id: str
    name: str
    arguments: str


class Returned(NamedTuple):
    """What a tool call gave; parts that are no text stand by themselves. `cache_control` is
    Anthropic's mark on it, for an upstream that takes such marks.
    """

    id: str
    text: str
    media: tuple[Object, ...] = ()
    cache_control: Object | None = None


class Thought(NamedTuple):
    """Reasoning in full, if it is known, and its summary."""

    text: str | None
    summary: str = ""


Turn = Said | Called | Returned | Thought


def arrange(turns: Sequence[Turn], instructions: str, recalled: Recalled) -> list[Object]:
    """The messages of a chat. The instructions and what the system says first become one
    message.
    """
    arranger = _Arranger(turns, instructions, recalled)
    for at, turn in enumerate(turns):
        arranger.take(turn, at)
    return arranger.finish()


def join_users(messages: Sequence[Object]) -> list[Object]:
    """The same where all that users say between two answers is one message: the templates of some
    models refuse two in a row.
    """
    joined: list[Object] = []
    for role, group in groupby(messages, key=lambda message: message["role"]):
        if role == "user":
            contents = [cast("Content", message["content"]) for message in group]
            joined.append({"role": role, "content": _joined(contents)})
        else:
            joined += group
    return joined


def words_of(messages: Sequence[Object]) -> frozenset[bytes] | None:
    """Which of chat_usual.WORDS messages that were arranged here have; None where one of them is
    more than text.
    """
    words: set[bytes] = set()
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            parts = cast("list[Object]", content)
            if any(part["type"] != "text" for part in parts):
                return None
        if "tool_calls" in message:
            words.add(_TOOL_CALLS)
        if "reasoning_content" in message:
            words.add(_REASONING)
    return frozenset(words)


class _Waiting(NamedTuple):
    """Calls of one id that have no result yet; a later answer may use the id again."""

    answer: int
    calls: deque[int]


@dataclass(slots=True)
class _Pairs:
    """Which turn is the result of which call, by their places, and the results said twice."""

    results: dict[int, Returned] = field(default_factory=dict[int, Returned])
    used: set[int] = field(default_factory=set[int])


def _pair(turns: Sequence[Turn]) -> _Pairs:
    pairs = _Pairs()
    waiting: dict[str, _Waiting] = {}
    last: dict[str, Returned] = {}
    answer = 0  # counts the model's answers: what lies between what others say
    for at, turn in enumerate(turns):
        if isinstance(turn, Called):
            calls = waiting.get(turn.id)
            if calls is None or calls.answer != answer:
                calls = waiting[turn.id] = _Waiting(answer, deque())
            calls.calls.append(at)
        elif isinstance(turn, Returned):
            answer += 1
            calls = waiting.get(turn.id)
            if calls is not None and calls.calls:
                pairs.results[calls.calls.popleft()] = last[turn.id] = turn
                pairs.used.add(at)
            elif last.get(turn.id) == turn:
                pairs.used.add(at)  # the same once more
        elif isinstance(turn, Said) and turn.role != "assistant":
            answer += 1
    return pairs


class _Arranger:
    def __init__(self, turns: Sequence[Turn], instructions: str, recalled: Recalled) -> None:
        self._pairs = _pair(turns)
        self._recalled = recalled
        self._head: list[Content] = [instructions]
        self._leading = True  # nobody but the system has said anything
        self._messages: list[Object] = []
        # The model's answer that is being put together.
        self._texts: list[Content] = []
        self._calls: list[tuple[int, Called]] = []
        self._thoughts: list[Thought] = []

    def take(self, turn: Turn, at: int) -> None:
        if self._leading and isinstance(turn, Said) and turn.role == "system":
            self._head.append(turn.content)
            return
        self._leading = False
        if isinstance(turn, Thought):
            self._thoughts.append(turn)
        elif isinstance(turn, Called):
            self._calls.append((at, turn))
        elif isinstance(turn, Returned):
            self._close_answer()
            if at not in self._pairs.used:
                self._say("user", _as_users(f"The output of tool call {turn.id}:", turn))
        elif turn.role == "assistant":
            self._texts.append(turn.content)
        else:
            self._close_answer()
            if turn.content or turn.role == "user":
                self._say(turn.role, turn.content)

    def finish(self) -> list[Object]:
        self._close_answer()
        head = _joined(self._head)
        system: list[Object] = [{"role": "system", "content": head}] if head else []
        return system + self._messages

    def _say(self, role: str, content: object) -> None:
        self._thoughts.clear()  # what they led to is not there
        self._messages.append({"role": role, "content": content})

    def _close_answer(self) -> None:
        if not self._texts and not self._calls:
            return
        content = _joined(self._texts)
        calls, self._texts, self._calls = self._calls, [], []
        if not content and not calls:
            return
        # Empty rather than null: not every upstream takes null, even beside calls.
        message: Object = {"role": "assistant", "content": content}
        reasoning = self._reasoning(calls)
        if reasoning:
            message["reasoning_content"] = reasoning
        self._messages.append(message)
        if calls:
            self._add_calls(message, calls)

    def _add_calls(self, message: Object, calls: list[tuple[int, Called]]) -> None:
        ids = _unique([call.id for _, call in calls])
        called: list[Object] = []
        message["tool_calls"] = called
        media: list[Object] = []
        for call_id, (at, call) in zip(ids, calls, strict=True):
            function = {"name": call.name, "arguments": call.arguments}
            called.append({"id": call_id, "type": "function", "function": function})
            result = self._pairs.results.get(at)
            content = NO_OUTPUT if result is None else _as_tools(result)
            if result is not None and result.media:
                media += _labelled(f"From the output of tool call {call_id}:", result.media)
            self._messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        if media:
            # Behind all results: nothing may stand between them, and they hold only text.
            self._messages.append({"role": "user", "content": media})

    def _reasoning(self, calls: list[tuple[int, Called]]) -> str:
        thoughts, self._thoughts = self._thoughts, []
        if None in [thought.text for thought in thoughts] or not thoughts:
            for _, call in calls:
                remembered = self._recalled(call.id)
                if remembered is not None:
                    return remembered
        texts = [t.summary if t.text is None else t.text for t in thoughts]
        return "\n\n".join(filter(None, texts))


def _joined(contents: list[Content]) -> Content:
    """One content of several; texts alone become one text."""
    if len(contents) == 1 and isinstance(contents[0], str):
        return contents[0]
    said = list(filter(None, contents))
    texts = [content for content in said if isinstance(content, str)]
    if len(texts) == len(said):
        return "\n\n".join(texts)
    return [
        part
        for content in said
        for part in ([_text_part(content)] if isinstance(content, str) else content)
    ]


def _text_part(text: str) -> Object:
    return {"type": "text", "text": text}


def _as_tools(result: Returned) -> Content:
    """A result as the tool tells it."""
    text = result.text or (_SEE_BELOW if result.media else "")
    if result.cache_control is None:
        return text
    return [{**_text_part(text), "cache_control": result.cache_control}]


def _as_users(label: str, result: Returned) -> Content:
    """A result of no known call: the user tells it."""
    text = f"{label}\n{result.text}"
    return _labelled(text, result.media) if result.media else text


def _labelled(label: str, media: tuple[Object, ...]) -> list[Object]:
    return [_text_part(label), *media]


def _unique(ids: list[str]) -> list[str]:
    """The ids of one answer's calls, numbered where one comes twice."""
    taken = set(ids)
    if len(taken) == len(ids):
        return ids
    seen: dict[str, int] = {}
    unique: list[str] = []
    for call_id in ids:
        count = seen[call_id] = seen.get(call_id, 0) + 1
        name = call_id
        while count > 1 and name in taken:
            name = f"{call_id}_{count}"
            count += 1
        if name != call_id:
            seen[call_id] = count - 1
        taken.add(name)
        unique.append(name)
    return unique

"""Messages of the usual shape as chat messages, in one walk: users and answers that take turns, and
the results of all calls of an answer right behind it.

It is the short way for what agents send by the hundred kilobytes. Whatever goes otherwise, and
whatever is wrong, is left to the general way: messages_to_chat_turns.py and chat_turns.py.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from farebox.dialects.chat_tools import Toolbox
from farebox.dialects.chat_turns import Recalled
from farebox.dialects.messages_to_chat_turns import ERROR
from farebox.dialects.messages_usual import (
    MESSAGES,
    Message,
    Piece,
    Redacted,
    Result,
    Text,
    Thinking,
    Use,
)
from farebox.dialects.seal import Foreign, is_ours
from farebox.dialects.values import Object

_Content = str | list[Text | Thinking | Redacted | Use | Result]
_MARK = "cache_control"
_DROPPED: dict[type, str] = {
    Thinking: "messages.thinking",
    Redacted: "messages.redacted_thinking",
}
_encode = msgspec.json.encode


class _Unusual(Exception):
    """Nothing is wrong yet, but the general way has to say what becomes of it."""


def usual_messages(
    raw: msgspec.Raw, toolbox: Toolbox, recalled: Recalled, opened: Callable[[str], str]
) -> tuple[list[Object], list[str]] | None:
    """The chat messages for messages that messages_usual.py knows to be usual, and what was
    dropped; None where they do not take turns as usual. `opened` opens a sealed text or raises
    Foreign.
    """
    writer = _Writer(toolbox, recalled, opened)
    try:
        for message in MESSAGES.decode(raw):
            writer.write(message)
        writer.check_results()
    except (_Unusual, Foreign):
        return None
    return writer.messages, writer.dropped


class _Writer:
    def __init__(self, toolbox: Toolbox, recalled: Recalled, opened: Callable[[str], str]) -> None:
        self.messages: list[Object] = []
        self.dropped: list[str] = []  # as Notes has it
        self._toolbox = toolbox
        self._recalled = recalled
        self._opened = opened
        self._role = ""  # of the message before
        self._waiting: dict[str, Object] = {}  # messages of results that are still to come

    def write(self, message: Message) -> None:
        role = message.role
        if role in (self._role, "system"):
            raise _Unusual
        self._role = role
        if role == "user":
            self._user(message.content)
        else:
            self._assistant(message.content)

    def check_results(self) -> None:
        """Raises _Unusual if the result of a call is missing."""
        if self._waiting:
            raise _Unusual

    def _user(self, content: _Content) -> None:
        texts: list[str] = []
        if isinstance(content, str):
            texts.append(content)
        else:
            for block in content:
                if isinstance(block, Result) and not texts:
                    self._result(block)
                elif isinstance(block, Text):
                    texts.append(self._text(block))
                else:
                    raise _Unusual
        self.check_results()
        if not texts and content:
            return  # results alone
        if self.messages and self.messages[-1]["role"] == "user":
            raise _Unusual  # an answer between them said nothing
        self.messages.append({"role": "user", "content": "\n\n".join(texts)})

    def _result(self, block: Result) -> None:
        message = self._waiting.pop(block.tool_use_id, None)
        if message is None:
            raise _Unusual
        content = block.content
        if isinstance(content, list):
            text = "\n".join([self._text(part) for part in content])
        else:
            text = content if isinstance(content, str) else ""
        if block.cache_control:
            self.dropped.append(_MARK)
        message["content"] = f"{ERROR}{text}" if block.is_error is True else text

    def _text(self, block: Text | Piece) -> str:
        if block.cache_control:
            self.dropped.append(_MARK)
        return block.text

    def _assistant(self, content: _Content) -> None:
        self.check_results()
        said: list[list[str]] = [[]]  # texts that follow each other are one
        thoughts: list[str] = []
        uses: dict[str, Object] = {}
        for block in content if isinstance(content, list) else [Text(text=content)]:
            if isinstance(block, Text):
                said[-1].append(self._text(block))
                continue
            said.append([])
            if isinstance(block, Use):
                if block.id in uses:
                    raise _Unusual
                uses[block.id] = self._call(block)
            elif isinstance(block, Thinking) and block.signature and is_ours(block.signature):
                thoughts.append(self._opened(block.signature))
            elif type(block) in _DROPPED:
                self.dropped.append(_DROPPED[type(block)])
            else:
                raise _Unusual
        texts = ["".join(each) for each in said]
        self._answer("\n\n".join(filter(None, texts)), thoughts, uses)

    def _call(self, block: Use) -> Object:
        if not (block.id and block.name):
            raise _Unusual
        if block.cache_control:
            self.dropped.append(_MARK)
        name = self._toolbox.name_of("function", block.name, None)
        function = {"name": name, "arguments": _encode(block.input).decode()}
        return {"id": block.id, "type": "function", "function": function}

    def _answer(self, text: str, thoughts: list[str], calls: dict[str, Object]) -> None:
        if not text and not calls:
            return
        message: Object = {"role": "assistant", "content": text}
        reasoning = "\n\n".join(filter(None, thoughts))
        if not thoughts:
            found = (self._recalled(call_id) for call_id in calls)
            reasoning = next((each for each in found if each is not None), "")
        if reasoning:
            message["reasoning_content"] = reasoning
        self.messages.append(message)
        if calls:
            message["tool_calls"] = list(calls.values())
            for call_id in calls:
                result: Object = {"role": "tool", "tool_call_id": call_id, "content": ""}
                self.messages.append(result)
                self._waiting[call_id] = result

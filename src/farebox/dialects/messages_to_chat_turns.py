"""Messages of the Messages API read as what was said, called, returned and thought, in order.

How that becomes chat messages is chat_turns.py's; blocks of content are
messages_to_chat_content.py's. Sources: Anthropic's SDK for Python, `MessageParam` and
`BetaSystemMessageParam`; Claude Code 2.1 for the billing header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import msgspec

from farebox.dialects.chat_turns import Called, Returned, Said, Thought, Turn
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.messages_to_chat_content import (
    RESULTS,
    TEXTS,
    USERS,
    BlockReader,
    Notes,
    as_content,
    text_part,
)
from farebox.dialects.messages_to_chat_tools import Tools
from farebox.dialects.seal import Foreign, is_ours
from farebox.dialects.values import (
    Object,
    as_object,
    as_objects,
    malformed,
    name_at,
    optional_text,
    text_at,
    unknown,
)
from farebox.errors import BadRequest

SUMMARY_INTRO = "A summary of the conversation so far, which stands in its place:\n\n"
EFFORTS = ("low", "medium", "high", "xhigh", "max")
# For Anthropic's accounts alone; it changes with each version, and so would spoil every cache.
_BILLING_HEADER = "x-anthropic-billing-header:"
ERROR = "Error: "
_SHOWN_CHARS = 100
_USERS = (*USERS, "tool_result")
# What a vendor's tools did, and what else chat has no place for. Their endings name most.
_NO_PLACE = ("_tool_use", "_tool_result", "_tool_listing")
_NO_PLACE_MORE = ("redacted_thinking", "fallback", "container_upload")


def read_effort(config: object, path: str) -> str | None:
    """The effort of a decoded `output_config`. Raises BadRequest."""
    if config is None:
        return None
    effort = as_object(config, path).get("effort")
    if effort is not None and effort not in EFFORTS:
        raise unknown(f"{path}.effort", effort, f"{', '.join(EFFORTS[:-1])} or {EFFORTS[-1]}")
    return cast("str | None", effort)


@dataclass(slots=True)
class Read:
    """What a request says. `effort` is what the last message of the system's asked for."""

    turns: list[Turn] = field(default_factory=list[Turn])
    effort: str | None = None


def read_turns(
    system: object, messages: object, tools: Tools, around: Circumstances, notes: Notes
) -> Read:
    """Decoded `system` and `messages`. Raises BadRequest."""
    reader = _Reader(tools, around, notes)
    if system is not None:
        reader.read_system(system)
    reader.read_messages(messages)
    return reader.result


class _Reader:
    def __init__(self, tools: Tools, around: Circumstances, notes: Notes) -> None:
        self.result = Read()
        self._tools = tools
        self._around = around
        self._notes = notes
        self._blocks = BlockReader(notes, tools.toolbox)
        self._last_user = -1
        self._answering = False  # the model had the last word, whatever the system said since
        self._open: dict[str, str] = {}  # uses of tools without a result, and their paths
        self._uses: set[str] = set()  # of the answer that is being read

    def read_system(self, value: object) -> None:
        parts: list[Object] = []
        for at, block in enumerate(_as_blocks(value, "system")):
            read = self._blocks.block(block, f"system[{at}]", TEXTS)
            if not (isinstance(value, list) and _is_billing(read)):
                parts += read
        self.result.turns.append(Said("system", as_content(parts, "\n\n")))

    def read_messages(self, value: object) -> None:
        messages = as_objects(value, "messages")
        for at, message in enumerate(messages):
            if message.get("role") == "user":
                self._last_user = at
        for at, message in enumerate(messages):
            self._read(message, at)
        self._refuse_open()

    def _read(self, message: Object, at: int) -> None:
        path = f"messages[{at}]"
        role = message.get("role")
        if role == "system":
            self._system(message, at, path)
        elif role == "user":
            self._answering = False
            self._user(message.get("content"), f"{path}.content")
        elif role == "assistant":
            if not self._answering:
                self._refuse_open()
                self._uses.clear()
            self._answering = True
            self._assistant(message.get("content"), f"{path}.content")
        else:
            raise unknown(f"{path}.role", role, "user, assistant or system")

    def _system(self, message: Object, at: int, path: str) -> None:
        asked = read_effort(message.get("output_config"), f"{path}.output_config")
        self.result.effort = asked or self.result.effort
        content = message.get("content")
        where = f"{path}.content"
        parts: list[Object] = []
        for n, block in enumerate(_as_blocks([] if content is None else content, where)):
            if block.get("type") in ("tool_addition", "tool_removal"):
                self._change_tools(block, f"{where}[{n}]")
            else:
                parts += self._blocks.block(block, f"{where}[{n}]", TEXTS)
        if message.get("clear_at") == "next_user_message" and at < self._last_user:
            return
        self.result.turns.append(Said("system", as_content(parts, "\n\n")))

    def _change_tools(self, block: Object, path: str) -> None:
        where = f"{path}.tool"
        tool = as_object(block.get("tool"), where)
        kind = cast("str", block["type"])
        if kind == "tool_removal":
            self._notes.dropped.append(f"messages.{kind}")
        elif tool.get("type") == "tool_definition":
            definition = as_object(tool.get("definition"), f"{where}.definition")
            self._tools.declare(definition, f"{where}.definition")
        elif tool.get("type") != "tool_reference":  # what that refers to is declared anyway
            self._notes.dropped.append(f"messages.{kind}")

    def _user(self, content: object, path: str) -> None:
        parts: list[Object] = []
        returned = False
        for at, block in enumerate(_as_blocks(content, path)):
            where = f"{path}[{at}]"
            if block.get("type") == "tool_result":
                if parts:
                    self._say(parts)
                self._returned(block, where)
                returned = True
            else:
                parts += self._blocks.block(block, where, _USERS)
        if parts or not returned:
            self._say(parts or [text_part("")])

    def _say(self, parts: list[Object]) -> None:
        self.result.turns.append(Said("user", as_content(list(parts), "\n\n")))
        parts.clear()

    def _returned(self, block: Object, path: str) -> None:
        use_id = name_at(block, "tool_use_id", path)
        if self._open.pop(use_id, None) is None:
            raise BadRequest(
                f"'{path}.tool_use_id' names the tool use {use_id[:_SHOWN_CHARS]!r}, which is not "
                "in the message before, or has its result already. Send each result once, right "
                "behind the message of its tool_use.",
                param=f"{path}.tool_use_id",
                code="invalid_value",
            )
        text, media, mark = self._read_result(block.get("content"), f"{path}.content")
        mark = self._blocks.mark_of(block, path) or mark
        if block.get("is_error") is True:
            text = f"{ERROR}{text}"
        self.result.turns.append(Returned(use_id, text, media, mark))

    def _read_result(
        self, content: object, path: str
    ) -> tuple[str, tuple[Object, ...], Object | None]:
        """What a tool gave: its text, what is no text, and the last mark on the text."""
        if isinstance(content, str):
            return content, (), None
        read = self._blocks.read([] if content is None else content, path, RESULTS)
        texts = [part for part in read if part["type"] == "text"]
        text = "\n".join([cast("str", part["text"]) for part in texts])
        marks = [part["cache_control"] for part in texts if "cache_control" in part]
        media = tuple([part for part in read if part["type"] != "text"])
        return text, media, cast("Object | None", marks[-1] if marks else None)

    def _assistant(self, content: object, path: str) -> None:
        parts: list[Object] = []
        for at, block in enumerate(_as_blocks(content, path)):
            where, kind = f"{path}[{at}]", block.get("type")
            if kind == "text":
                parts += self._blocks.block(block, where, TEXTS)
                continue
            if parts:
                self._answer(parts)
            if isinstance(kind, str) and kind in _READERS:
                _READERS[kind](self, block, where)
            elif isinstance(kind, str) and (kind.endswith(_NO_PLACE) or kind in _NO_PLACE_MORE):
                self._notes.dropped.append(f"messages.{kind}")
            else:
                raise unknown(f"{where}.type", kind, "text, thinking or tool_use")
        if parts:
            self._answer(parts)

    def _answer(self, parts: list[Object]) -> None:
        # Nothing between them: with citations, one sentence is several blocks.
        self.result.turns.append(Said("assistant", as_content(list(parts), "")))
        parts.clear()

    def tool_use(self, block: Object, path: str) -> None:
        use_id = name_at(block, "id", path)
        if use_id in self._uses:
            raise BadRequest(
                f"'{path}.id' is {use_id[:_SHOWN_CHARS]!r}, as another tool use of this answer "
                "is. Each needs an id of its own.",
                param=f"{path}.id",
                code="invalid_value",
            )
        self._uses.add(use_id)
        self._open[use_id] = path
        name = self._tools.toolbox.name_of("function", name_at(block, "name", path), None)
        given = as_object(block.get("input"), f"{path}.input")
        if block.get("cache_control") is not None:
            self._notes.drop_mark()
        self.result.turns.append(Called(use_id, name, msgspec.json.encode(given).decode()))

    def thinking(self, block: Object, path: str) -> None:
        text_at(block, "thinking", path)
        signature = optional_text(block, "signature", path)
        if signature is None or not is_ours(signature):
            self._notes.dropped.append("messages.thinking")
            return
        try:
            text = self._around.seal.open(self._around.account_id, "reasoning", signature)
        except Foreign:
            raise BadRequest(
                f"'{path}.signature' was not sealed here for this account. Leave the block out, "
                "or send it where it comes from.",
                param=f"{path}.signature",
                code="invalid_encrypted_content",
            ) from None
        self.result.turns.append(Thought(text))

    def compaction(self, block: Object, path: str) -> None:
        summary = optional_text(block, "content", path)
        if summary:
            self.result.turns.append(Said("user", SUMMARY_INTRO + summary))
        else:
            self._notes.dropped.append("messages.compaction")

    def _refuse_open(self) -> None:
        for use_id, path in self._open.items():
            raise BadRequest(
                f"'{path}.id' is the tool use {use_id[:_SHOWN_CHARS]!r}, which has no tool_result "
                "in the next message. Send one, if only to say that there is none.",
                param=f"{path}.id",
                code="invalid_value",
            )


_READERS: dict[str, Callable[[_Reader, Object, str], None]] = {
    "tool_use": _Reader.tool_use,
    "thinking": _Reader.thinking,
    "compaction": _Reader.compaction,
}


def _as_blocks(content: object, path: str) -> list[Object]:
    """Content as blocks; a text is one of them. Raises BadRequest."""
    if isinstance(content, str):
        return [text_part(content)]
    if not isinstance(content, list):
        raise malformed(path, "a string or a list of blocks", content)
    return as_objects(cast("list[object]", content), path)


def _is_billing(parts: list[Object]) -> bool:
    return any(cast("str", part["text"]).startswith(_BILLING_HEADER) for part in parts)

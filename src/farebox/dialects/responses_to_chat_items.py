"""Input items of the Responses API read as what was said, called, returned and thought, in order.

How that becomes chat messages is chat_turns.py's; tools are chat_tools.py's. Items need neither ids
nor status, and messages no type. Sources: OpenAI's OpenAPI document, `InputItem`; Codex 0.169 for
what it does not name: `agent_message`, `context_compaction`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import msgspec

from farebox.dialects.chat_tools import TOOL_SEARCH, Kind, Toolbox
from farebox.dialects.chat_turns import Called, Returned, Said, Thought, Turn
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.seal import Foreign, Purpose, is_ours
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

SUMMARY_INTRO = "A summary of the conversation so far, which was too long to be kept whole:\n\n"
_VENDORS_BLOB = "gAAAA"  # how OpenAI's sealed texts begin
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS = frozenset(("input_text", "output_text", "text", "summary_text", "reasoning_text"))
_SEARCHED = TOOL_SEARCH + "_output"
_BRINGING_TOOLS = ("additional_tools", _SEARCHED)
# What a vendor's tools did, and what else chat has no place for. Their endings name most.
_NO_PLACE = ("_call", "_call_output", "mcp_list_tools", "mcp_approval_request")
_NO_PLACE_MORE = ("mcp_approval_response", "program", "program_output")


@dataclass(slots=True)
class Read:
    """What an input holds."""

    turns: list[Turn] = field(default_factory=list[Turn])
    dropped: list[str] = field(default_factory=list[str])  # types of items
    compacts: bool = False  # a summary is asked for in place of an answer
    effort: str | None = None  # of the last update of the configuration


def read_items(value: object, toolbox: Toolbox, around: Circumstances) -> Read:
    """A decoded `input`. Tools that its items bring are declared first. Raises BadRequest."""
    if isinstance(value, str):
        return Read([Said("user", value)])
    items = [] if value is None else as_objects(value, "input")
    found: dict[int, list[str]] = {}
    for at, item in enumerate(items):
        if item.get("type") in _BRINGING_TOOLS:
            found[at] = toolbox.declare(item.get("tools"), f"input[{at}].tools")
    reader = _Reader(toolbox, around, found, len(items) - 1)
    for at, item in enumerate(items):
        reader.read(item, at)
    return reader.result


class _Reader:
    def __init__(
        self, toolbox: Toolbox, around: Circumstances, found: dict[int, list[str]], last: int
    ) -> None:
        self._toolbox = toolbox
        self._around = around
        self._found = found
        self._last = last
        self.result = Read()

    def read(self, item: Object, at: int) -> None:
        path = f"input[{at}]"
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item else "item_reference" if "id" in item else None
        if not isinstance(kind, str):
            raise malformed(f"{path}.type", "a type of item", kind)
        if kind in _READERS:
            turn = _READERS[kind](self, item, path)
            if turn is not None:
                self.result.turns.append(turn)
        elif kind == _SEARCHED:
            self._searched(item, path, self._found[at])
        elif kind == "compaction_trigger":
            if at != self._last:
                raise BadRequest(
                    f"'{path}' is a compaction_trigger, which must be the last item.",
                    param=path,
                    code="invalid_value",
                )
            self.result.compacts = True
        elif kind.endswith(_NO_PLACE) or kind in _NO_PLACE_MORE:
            self.result.dropped.append(kind)
        elif kind != "additional_tools":
            raise unknown(f"{path}.type", kind, "a type of item that is known here")

    def message(self, item: Object, path: str) -> Turn:
        said = item.get("role")
        role = _ROLES.get(said) if isinstance(said, str) else None
        if role is None:
            raise unknown(f"{path}.role", said, "user, assistant, system or developer")
        content = item.get("content")
        if content is None and role == "assistant":
            return Said(role, "")
        where = f"{path}.content"
        if role == "assistant":
            return Said(role, "".join(_texts(content, where)))
        if role == "system":
            return Said(role, "\n\n".join(_texts(content, where)))
        parts = _parts(content, where)
        if _are_texts(parts):
            # As one text: not every upstream takes a list of them.
            return Said("user", "\n\n".join(cast("list[str]", parts)))
        return Said("user", [_text_part(p) if isinstance(p, str) else p for p in parts])

    def agent_message(self, item: Object, path: str) -> Turn:
        author = optional_text(item, "author", path) or "another agent"
        text = "\n\n".join(_texts(item.get("content"), f"{path}.content"))
        return Said("user", f"Message from {author}:\n\n{text}")

    def function_call(self, item: Object, path: str) -> Turn:
        return self._call("function", item, path, text_at(item, "arguments", path) or "{}")

    def custom_tool_call(self, item: Object, path: str) -> Turn:
        arguments = msgspec.json.encode({"input": text_at(item, "input", path)}).decode()
        return self._call("custom", item, path, arguments)

    def tool_search_call(self, item: Object, path: str) -> Turn | None:
        if item.get("call_id") is None:
            return None  # the vendor searched; what it found is among the tools
        given = item.get("arguments")
        if not isinstance(given, str):
            given = msgspec.json.encode(as_object(given or {}, f"{path}.arguments")).decode()
        call_id = name_at(item, "call_id", path)
        return Called(call_id, self._toolbox.name_of("tool_search", TOOL_SEARCH, None), given)

    def output(self, item: Object, path: str) -> Turn:
        call_id = name_at(item, "call_id", path)
        output = item.get("output")
        if isinstance(output, str):
            return Returned(call_id, output)
        parts = _parts(output, f"{path}.output")
        text = "\n".join(part for part in parts if isinstance(part, str))
        media = tuple(part for part in parts if not isinstance(part, str))
        return Returned(call_id, text, media)

    def reasoning(self, item: Object, path: str) -> Turn:
        opened = self._open(item, "reasoning", path)
        # Content may be null, and one without text is as good as none.
        content, summary = item.get("content"), item.get("summary")
        content = "\n\n".join(_texts(content, f"{path}.content")) if content else ""
        summary = "\n\n".join(_texts(summary, f"{path}.summary")) if summary else ""
        return Thought(content or opened, summary)

    def compaction(self, item: Object, path: str) -> Turn | None:
        if item.get("type") == "context_compaction" and item.get("encrypted_content") is None:
            return None  # says that there was one
        summary = self._open(item, "compaction", path)
        if summary is None:
            name_at(item, "encrypted_content", path)
            raise _sealed_elsewhere(path)
        return Said("user", SUMMARY_INTRO + summary)

    def configuration_update(self, item: Object, path: str) -> None:
        reasoning = item.get("reasoning")
        if reasoning is not None:
            where = f"{path}.reasoning"
            effort = optional_text(as_object(reasoning, where), "effort", where)
            self.result.effort = effort or self.result.effort

    def item_reference(self, item: Object, path: str) -> None:
        del item
        raise BadRequest(
            f"'{path}' refers to an item that is not kept here. Send the item itself.",
            param=path,
            code="unsupported_value",
        )

    def _searched(self, item: Object, path: str, names: list[str]) -> None:
        if item.get("call_id") is None:
            return
        told = f"Found, and available from now on: {', '.join(names)}" if names else "Found none."
        self.result.turns.append(Returned(name_at(item, "call_id", path), told))

    def _call(self, kind: Kind, item: Object, path: str, arguments: str) -> Turn:
        namespace = optional_text(item, "namespace", path)
        name = self._toolbox.name_of(kind, name_at(item, "name", path), namespace)
        return Called(name_at(item, "call_id", path), name, arguments)

    def _open(self, item: Object, purpose: Purpose, path: str) -> str | None:
        """The text of a blob that was sealed here; None for another vendor's, or none."""
        blob = optional_text(item, "encrypted_content", path)
        if blob is None or not is_ours(blob):
            return None
        try:
            return self._around.seal.open(self._around.account_id, purpose, blob)
        except Foreign:
            raise _sealed_elsewhere(path) from None


_READERS: dict[str, Callable[[_Reader, Object, str], Turn | None]] = {
    "message": _Reader.message,
    "agent_message": _Reader.agent_message,
    "function_call": _Reader.function_call,
    "function_call_output": _Reader.output,
    "custom_tool_call": _Reader.custom_tool_call,
    "custom_tool_call_output": _Reader.output,
    "tool_search_call": _Reader.tool_search_call,
    "reasoning": _Reader.reasoning,
    "compaction": _Reader.compaction,
    "compaction_summary": _Reader.compaction,
    "context_compaction": _Reader.compaction,
    "configuration_update": _Reader.configuration_update,
    "item_reference": _Reader.item_reference,
}


def _sealed_elsewhere(path: str) -> BadRequest:
    return BadRequest(
        f"The encrypted_content of '{path}' was not sealed here for this account. Leave the item "
        "out, or send it where it comes from.",
        param="input",
        code="invalid_encrypted_content",
    )


def _texts(content: object, path: str) -> list[str]:
    """The texts of content that may hold nothing else. Raises BadRequest."""
    parts = _parts(content, path)
    if not _are_texts(parts):
        raise BadRequest(
            f"'{path}' can only hold text for this model. Send other parts as the user's.",
            param=path,
            code="unsupported_value",
        )
    return cast("list[str]", parts)


def _are_texts(parts: list[str | Object]) -> bool:
    return all([isinstance(part, str) for part in parts])  # noqa: C419 (mostly it is one part)


def _text_part(text: str) -> Object:
    return {"type": "text", "text": text}


def _parts(content: object, path: str) -> list[str | Object]:
    """Content as texts and, for all else, chat's parts. Raises BadRequest."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise malformed(path, "a string or a list of parts", content)
    parts: list[str | Object] = []
    for at, value in enumerate(cast("list[object]", content)):
        part = _plain_text(value)
        if part is None:
            part = _part(value, f"{path}[{at}]")
        if part is not None:
            parts.append(part)
    return parts


def _plain_text(value: object) -> str | None:
    """The text of a part, if it is that of the user's or the model's which most parts are."""
    if not isinstance(value, dict):
        return None
    part = cast("Object", value)
    kind, text = part.get("type"), part.get("text")
    if isinstance(text, str) and kind in ("input_text", "output_text"):
        return text
    return None


def _part(value: object, path: str) -> str | Object | None:
    part = as_object(value, path)
    kind = part.get("type")
    wanted = "input_text, input_image, input_file or input_audio"
    if not isinstance(kind, str):
        raise malformed(f"{path}.type", wanted, kind)
    if kind in _TEXTS:
        return text_at(part, "text", path)
    if kind == "refusal":
        return text_at(part, "refusal", path)
    if kind == "input_image":
        return _image(part, path)
    if kind == "input_file":
        return _file(part, path)
    if kind == "input_audio":
        return {"type": kind, kind: as_object(part.get(kind), f"{path}.{kind}")}
    if kind == "encrypted_content":
        # Where a schema says `encrypted`, Codex takes what the model wrote for sealed, and so it
        # is, unless the model is another vendor's than OpenAI.
        text = text_at(part, kind, path)
        return None if text.startswith(_VENDORS_BLOB) else text
    raise unknown(f"{path}.type", kind, wanted)


def _image(part: Object, path: str) -> Object:
    _refuse_id(part, path)
    image: Object = {"url": name_at(part, "image_url", path)}
    detail = optional_text(part, "detail", path)
    if detail is not None:
        image["detail"] = "high" if detail == "original" else detail
    return {"type": "image_url", "image_url": image}


def _file(part: Object, path: str) -> Object:
    _refuse_id(part, path)
    url = optional_text(part, "file_url", path)
    if url is not None:
        # OpenAI's chat has no such part; vendors that have one agree on its shape.
        return {"type": "file_url", "file_url": {"url": url}}
    file: Object = {"file_data": name_at(part, "file_data", path)}
    name = optional_text(part, "filename", path)
    if name is not None:
        file["filename"] = name
    return {"type": "file", "file": file}


def _refuse_id(part: Object, path: str) -> None:
    if part.get("file_id") is not None:
        raise BadRequest(
            f"'{path}.file_id' names what lies in an account at a vendor. Send the data itself.",
            param=f"{path}.file_id",
            code="unsupported_value",
        )

"""Content blocks of the Messages API as parts of chat messages.

Which message holds which blocks, and tools' uses and results, are messages_to_chat_turns.py's.
Sources: Anthropic's SDK for Python, `ContentBlockParam` and `ToolResultBlockParam`; OpenAI's
OpenAPI document, `ChatCompletionRequestUserMessageContentPart`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

from farebox.dialects.chat_tools import Toolbox
from farebox.dialects.chat_turns import Content
from farebox.dialects.values import (
    Object,
    as_list,
    as_object,
    malformed,
    name_at,
    optional_text,
    text_at,
    unknown,
)
from farebox.errors import BadRequest

TEXTS = ("text",)
USERS = ("text", "image", "document", "search_result")
RESULTS = (*USERS, "tool_reference", "browser_state")
_WITHIN_DOCUMENTS = ("text", "image")
_FILENAME = "document.pdf"  # OpenAI wants files to have a name


class Notes:
    """What is left out of a request, by names for `adjusted`; and whether Anthropic's marks of
    what to cache are.
    """

    def __init__(self, *, keeps_marks: bool) -> None:
        self.dropped: list[str] = []
        self.keeps_marks = keeps_marks

    def mark_of(self, holder: Object, path: str) -> Object | None:
        """The mark on a block, a tool, or the whole request, if marks are kept. Raises
        BadRequest.
        """
        value = holder.get("cache_control")
        if value is None:
            return None
        mark = as_object(value, path)
        if mark.get("type") != "ephemeral":
            raise unknown(f"{path}.type", mark.get("type"), "ephemeral")
        ttl = mark.get("ttl")
        if ttl not in (None, "5m", "1h"):
            raise unknown(f"{path}.ttl", ttl, "5m or 1h")
        if not self.keeps_marks:
            self.drop_mark()
            return None
        return {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": ttl}

    def drop_mark(self) -> None:
        """A mark stands where chat has no place for one."""
        self.dropped.append("cache_control")

    def put_mark(self, parts: list[Object], mark: Object | None) -> None:
        """Mark the last of these parts, if it is a text: pictures and files take no marks."""
        if mark is None:
            return
        if parts and parts[-1].get("type") == "text":
            parts[-1] = {**parts[-1], "cache_control": mark}
        else:
            self.drop_mark()


def text_part(text: str) -> Object:
    """A text as chat has it beside other parts."""
    return {"type": "text", "text": text}


def as_content(parts: list[Object], joint: str) -> Content:
    """Parts as one text where they are no more than that: not every upstream takes a list."""
    texts = [cast("str", part["text"]) for part in parts if "text" in part and len(part) == 2]
    return joint.join(texts) if len(texts) == len(parts) else parts


class BlockReader:
    """Reads what a message, a result or a document holds."""

    def __init__(self, notes: Notes, toolbox: Toolbox) -> None:
        self.notes = notes
        self.toolbox = toolbox

    def read(self, content: object, path: str, kinds: tuple[str, ...]) -> list[Object]:
        """Content that may hold blocks of these kinds, as chat's parts. Raises BadRequest."""
        if isinstance(content, str):
            return [text_part(content)]
        if not isinstance(content, list):
            raise malformed(path, "a string or a list of blocks", content)
        parts: list[Object] = []
        for at, value in enumerate(cast("list[object]", content)):
            where = f"{path}[{at}]"
            parts += self.block(as_object(value, where), where, kinds)
        return parts

    def block(self, block: Object, path: str, kinds: tuple[str, ...]) -> list[Object]:
        """One block of one of these kinds. Raises BadRequest."""
        kind = block.get("type")
        if kind == "container_upload":
            raise refuse_id(f"{path}.file_id")
        if kind not in kinds:
            wanted = f"{', '.join(kinds[:-1])} or {kinds[-1]}" if kinds[1:] else kinds[0]
            raise unknown(f"{path}.type", kind, wanted)
        parts = _READERS[kind](self, block, path)
        self.notes.put_mark(parts, self.mark_of(block, path))
        return parts

    def mark_of(self, block: Object, path: str) -> Object | None:
        """The mark on a block; most have none. Raises BadRequest."""
        if "cache_control" not in block:
            return None
        return self.notes.mark_of(block, f"{path}.cache_control")


def refuse_id(path: str) -> BadRequest:
    """What to raise for a file that only an id names."""
    return BadRequest(
        f"'{path}' names what lies in an account at a vendor. Send the data itself.",
        param=path,
        code="unsupported_value",
    )


def _data_url(source: Object, path: str) -> str:
    return f"data:{name_at(source, 'media_type', path)};base64,{name_at(source, 'data', path)}"


def _text(reader: BlockReader, block: Object, path: str) -> list[Object]:
    del reader
    return [text_part(text_at(block, "text", path))]


def _image(reader: BlockReader, block: Object, path: str) -> list[Object]:
    del reader
    where = f"{path}.source"
    source = as_object(block.get("source"), where)
    kind = source.get("type")
    if kind == "base64":
        url = _data_url(source, where)
    elif kind == "url":
        url = name_at(source, "url", where)
    elif kind == "file":
        raise refuse_id(f"{where}.file_id")
    else:
        raise unknown(f"{where}.type", kind, "base64 or url")
    return [{"type": "image_url", "image_url": {"url": url}}]


def _document(reader: BlockReader, block: Object, path: str) -> list[Object]:
    _note_citations(reader, block, path)
    where = f"{path}.source"
    source = as_object(block.get("source"), where)
    kind = source.get("type")
    title = optional_text(block, "title", path)
    told = [f"Document: {title}"] if title else []
    told += filter(None, [optional_text(block, "context", path)])
    if kind == "text":
        return [text_part("\n\n".join([*told, text_at(source, "data", where)]))]
    head = [text_part("\n\n".join(told))] if told else []
    if kind == "content":
        inner = reader.read(source.get("content"), f"{where}.content", _WITHIN_DOCUMENTS)
        return head + inner
    if kind == "base64":
        file = {"file_data": _data_url(source, where), "filename": title or _FILENAME}
        return [*head, {"type": "file", "file": file}]
    if kind == "url":
        # OpenAI's chat has no such part; vendors that have one agree on its shape.
        url = name_at(source, "url", where)
        return [*head, {"type": "file_url", "file_url": {"url": url}}]
    if kind == "file":
        raise refuse_id(f"{where}.file_id")
    raise unknown(f"{where}.type", kind, "base64, text, content or url")


def _search_result(reader: BlockReader, block: Object, path: str) -> list[Object]:
    _note_citations(reader, block, path)
    head = f"{text_at(block, 'title', path)}\n{text_at(block, 'source', path)}"
    where = f"{path}.content"
    texts = reader.read(as_list(block.get("content"), where), where, TEXTS)
    return [text_part(head), *texts]


def _tool_reference(reader: BlockReader, block: Object, path: str) -> list[Object]:
    name = reader.toolbox.name_of("function", name_at(block, "tool_name", path), None)
    return [text_part(f"The tool {name} is available.")]


def _browser_state(reader: BlockReader, block: Object, path: str) -> list[Object]:
    del reader
    tabs = as_list(block.get("tabs"), f"{path}.tabs")
    return [text_part("The browser's tabs: " + msgspec.json.encode(tabs).decode())]


def _note_citations(reader: BlockReader, block: Object, path: str) -> None:
    citations = block.get("citations")
    where = f"{path}.citations"
    if citations is not None and as_object(citations, where).get("enabled") is True:
        reader.notes.dropped.append("messages.citations")


_READERS: dict[object, Callable[[BlockReader, Object, str], list[Object]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
    "browser_state": _browser_state,
}

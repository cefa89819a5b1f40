"""What a chat model wrote, as text, kept only to be counted where the upstream reports no usage.

Counting is counting/'s, and whether there is a need to keep anything the relay's to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import cast

import msgspec

from farebox.dialects.chat_mend import Chunk, Delta, Function, is_set, read_custom

MAX_BYTES = 1024 * 1024  # of one answer; of what goes beyond that only the size is kept


_decode_text = msgspec.json.Decoder(str).decode
_MARK = b"\x7f"  # between texts that are decoded or encoded as one; no text is likely to have it


class Said:
    """The text of one answer, choice by choice: content, thoughts, and tool calls."""

    __slots__ = ("_parts", "_size_bytes", "rest_bytes")

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}
        self._size_bytes = 0
        self.rest_bytes = 0  # of text that is not kept

    @property
    def texts(self) -> tuple[str, ...]:
        """One text for each choice."""
        return tuple("".join(parts) for parts in self._parts.values())

    def add(self, choice: int, delta: Delta | None) -> None:
        """A piece of a choice. What cannot be read is left out: it is the stream's to say so."""
        if delta is None:
            return
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            self._add(choice, "".join(_written(delta)))

    def add_texts(self, raws: Sequence[bytes]) -> None:
        """Texts of the first choice, as they stand between the quotes of JSON strings."""
        if self._size_bytes + sum(map(len, raws)) <= MAX_BYTES:
            with suppress(msgspec.MsgspecError, ValueError):
                self._add(0, "".join(texts_of(raws)))
                return
        for raw in raws:
            with suppress(msgspec.MsgspecError, ValueError):
                self._add(0, _decode_text(b'"%b"' % raw))

    def _add(self, choice: int, text: str) -> None:
        size_bytes = len(text.encode(errors="replace"))
        if self._size_bytes + size_bytes > MAX_BYTES:
            self.rest_bytes += size_bytes
        elif text:
            self._size_bytes += size_bytes
            self._parts.setdefault(choice, []).append(text)


def keep_chunk(said: Said, chunk: Chunk) -> None:
    """Add what a chunk brings, before it is mended: then names are told once."""
    for position, choice in enumerate(chunk.choices or ()):
        said.add(position if choice.index is None else choice.index, choice.delta)


def _written(delta: Delta) -> Iterable[str]:
    yield text_of(delta.reasoning_content) or text_of(delta.reasoning)
    yield text_of(delta.content)
    yield text_of(delta.refusal)
    for call in (delta.function_call, *[each.function for each in delta.tool_calls or ()]):
        if call is not None:
            yield call.name or ""
            yield arguments_of(call)
    for call in delta.tool_calls or ():
        if is_set(call.custom):
            custom = read_custom(call)
            yield custom.name or ""
            yield text_of(custom.input)


def text_of(raw: msgspec.Raw) -> str:
    """A piece of text; some upstreams give a message's content as a list of parts."""
    if not is_set(raw):
        return ""
    value: object = msgspec.json.decode(raw)
    if isinstance(value, str):
        return value
    parts = cast("list[object]", value) if isinstance(value, list) else []
    texts = [
        cast("dict[str, object]", each).get("text") for each in parts if isinstance(each, dict)
    ]
    return "".join(text for text in texts if isinstance(text, str))


def arguments_of(function: Function) -> str:
    """A piece of a call's arguments: JSON in a string, or, of some upstreams, JSON itself."""
    raw = function.arguments
    if not is_set(raw):
        return ""
    data = bytes(raw)
    return str(msgspec.json.decode(raw)) if data[:1] == b'"' else data.decode()


def texts_of(raws: Sequence[bytes]) -> list[str]:
    """Texts of what stands between the quotes of JSON strings. Raises ValueError."""
    texts = _decode_text(b'"%b"' % _MARK.join(raws)).split(_MARK.decode())
    if len(texts) == len(raws):
        return texts
    return [_decode_text(b'"%b"' % raw) for raw in raws]  # the mark is in one of them


def in_json(texts: Sequence[str]) -> list[str]:
    """Texts as they stand between the quotes of JSON strings."""
    mark = _MARK.decode()
    written = msgspec.json.encode(mark.join(texts)).decode()[1:-1].split(mark)
    if len(written) == len(texts):
        return written
    return [msgspec.json.encode(text).decode()[1:-1] for text in texts]

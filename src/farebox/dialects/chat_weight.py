"""How heavy a call's input may be: bytes of text, and tokens by table for what bytes say nothing
of.

A rough upper bound for what to reserve; what is charged is what the upstream counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import msgspec

from farebox.dialects.body import hides_letters
from farebox.errors import BadRequest

# The largest that the vendors' own image pages name: OpenAI's newest detail level, 10,000 patches.
IMAGE_TOKENS = 10_000
# What vendors accept at most of a document, in text. Its bytes say nothing of it, also where the
# body has them: the pages of a PDF are compressed, and shown to the model as pictures too.
FILE_TOKENS = 100_000
# Kinds of parts that may lie elsewhere: pictures, what several vendors take beside them (video_url,
# audio_url, file_url), and the address of a sound in place of its data. And files.
_NOT_TEXT = (b'_url"', b'"file"', b'"file_data"', b'"input_audio"')
# Where blocks of the Messages API have what is not text, and what only names a file.
_SOURCES = (b'"source"', b'"container_upload"')
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_MESSAGES = msgspec.json.Decoder(list[object])


class Weight(msgspec.Struct, frozen=True, gc=False):
    """Bytes that become at most one token each, and tokens that come on top."""

    text_bytes: int
    table_tokens: int = 0


def weigh(body: bytes, messages: msgspec.Raw) -> Weight:
    """The weight of a chat request's body. Parts of unknown shape count by their bytes. Raises
    BadRequest for messages that cannot be read.
    """
    # Most chats are text alone; only the others are read closely.
    if _is_text_alone(body):
        return Weight(len(body))
    return _weigh(len(body), messages, "messages", ("content",))


def weigh_input(size_bytes: int, items: msgspec.Raw) -> Weight:
    """The same for the input of a Responses request whose body has this size."""
    data = bytes(items)
    if not data.startswith(b"[") or _is_text_alone(data):
        return Weight(size_bytes)
    return _weigh(size_bytes, items, "input", ("content", "output"))


def weigh_blocks(size_bytes: int, messages: msgspec.Raw) -> Weight:
    """The same for the messages of a Messages request whose body has this size. What is in a
    document or a tool's result counts too.
    """
    data = bytes(messages)
    if not any(name in data for name in _SOURCES) and not hides_letters(data):
        return Weight(size_bytes)
    text_bytes, table_tokens = size_bytes, 0
    for block in _blocks(_decode(messages, "messages")):
        source = block.get("source")
        if block.get("type") == "image":
            text_bytes -= _source_chars(source)
            table_tokens += IMAGE_TOKENS
        elif block.get("type") == "container_upload" or _is_file(source):
            table_tokens += FILE_TOKENS
    return Weight(max(0, text_bytes), table_tokens)


def _is_text_alone(data: bytes) -> bool:
    for kind in _NOT_TEXT:
        if kind in data:
            return False
    return not hides_letters(data)


def _weigh(size_bytes: int, raw: msgspec.Raw, param: str, lists: tuple[str, ...]) -> Weight:
    text_bytes, table_tokens = size_bytes, 0
    for part in _parts(_decode(raw, param), lists):
        if part.get("image_url") is not None:
            text_bytes -= _url_chars(part["image_url"])
            table_tokens += IMAGE_TOKENS
        elif part.get("file") is not None or part.get("file_data") is not None:
            table_tokens += FILE_TOKENS
        else:
            table_tokens += FILE_TOKENS * sum(_addresses(part))
    return Weight(max(0, text_bytes), table_tokens)


def _decode(raw: msgspec.Raw, param: str) -> list[object]:
    try:
        return _MESSAGES.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadRequest(f"{param!r} cannot be read: {error}.", param=param) from None


def _parts(messages: list[object], lists: tuple[str, ...]) -> Iterator[dict[str, object]]:
    for message in messages:
        if not isinstance(message, dict):
            continue
        for name in lists:
            content = cast("dict[str, object]", message).get(name)
            # What a tool gave may be one part instead of a list of them.
            parts = cast("list[object]", content) if isinstance(content, list) else [content]
            for part in parts:
                if isinstance(part, dict):
                    yield cast("dict[str, object]", part)


def _url_chars(image_url: object) -> int:
    if isinstance(image_url, dict):
        image_url = cast("dict[str, object]", image_url).get("url")
    return len(image_url) if isinstance(image_url, str) else 0


def _addresses(part: dict[str, object]) -> Iterator[int]:
    """How many addresses each member of a part names. A text may begin with one, and is text."""
    for name, value in part.items():
        if isinstance(value, str):
            yield int(name.endswith("_url") and _ADDRESS.match(value) is not None)
        elif isinstance(value, (dict, list)):
            inner = cast("dict[str, object] | list[object]", value)
            values = inner.values() if isinstance(inner, dict) else inner
            yield sum(isinstance(v, str) and _ADDRESS.match(v) is not None for v in values)


def _blocks(messages: list[object]) -> Iterator[dict[str, object]]:
    """Messages and their blocks, those within blocks too, however deep."""
    waiting: list[object] = [messages]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += cast("list[object]", value)
        elif isinstance(value, dict):
            block = cast("dict[str, object]", value)
            yield block
            waiting += (block[name] for name in ("content", "source") if name in block)


def _source_chars(source: object) -> int:
    """The letters of a picture that are no text: its data, or its address."""
    if not isinstance(source, dict):
        return 0
    source = cast("dict[str, object]", source)
    member = {"base64": "data", "url": "url"}.get(str(source.get("type")))
    value = None if member is None else source.get(member)
    return len(value) if isinstance(value, str) else 0


def _is_file(source: object) -> bool:
    """Whether what a block has is neither text nor other blocks."""
    if not isinstance(source, dict):
        return False  # a search result's is a text
    return cast("dict[str, object]", source).get("type") not in ("text", "content")

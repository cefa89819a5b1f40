"""How heavy a chat's input may be: bytes of text, and tokens by table for what bytes say nothing
of.

A rough upper bound for what to reserve; what is charged is what the upstream counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

# The largest that the vendors' own image pages name: OpenAI's newest detail level, 10,000 patches.
IMAGE_TOKENS = 10_000
FILE_TOKENS = 100_000  # a document that the body only names: what vendors accept at most, in text


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes that become at most one token each, and tokens that come on top."""

    text_bytes: int
    table_tokens: int = 0


class _Url(msgspec.Struct, frozen=True):
    url: str = ""


class _File(msgspec.Struct, frozen=True):
    file_data: str | None = None


class _Part(msgspec.Struct, frozen=True):
    type: str = "text"
    image_url: _Url | str | None = None
    file: _File | None = None


class _Message(msgspec.Struct, frozen=True):
    content: list[_Part] | str | None = None


_MESSAGES = msgspec.json.Decoder(list[_Message])


def weigh(body: bytes, messages: msgspec.Raw) -> Weight:
    """The weight of a chat request's body. Parts of unknown shape count by their bytes."""
    # Most chats are text alone; only the others are read closely.
    if b'"image_url"' not in body and b'"file"' not in body:
        return Weight(len(body))
    try:
        decoded = _MESSAGES.decode(messages)
    except (msgspec.MsgspecError, RecursionError):
        return Weight(len(body))
    text_bytes, table_tokens = len(body), 0
    for message in decoded:
        if not isinstance(message.content, list):
            continue
        for part in message.content:
            if part.image_url is not None:
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                text_bytes -= len(url)
                table_tokens += IMAGE_TOKENS
            elif part.file is not None and part.file.file_data is None:
                table_tokens += FILE_TOKENS
    return Weight(max(0, text_bytes), table_tokens)

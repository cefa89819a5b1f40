"""Messages of the usual shape, read in one typed pass: text, thinking, uses of the client's tools
and their results.

To look for a word in a body costs about as much as to parse it, and there are a dozen to look for.
Of messages read here it is known without looking that they hold no picture and no file, bring no
tools, and name nothing that is kept anywhere. Whatever is unusual, or wrong, is left to the ways
that are for everything.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from farebox.dialects.body import Fields
from farebox.dialects.seal import is_ours

_SIGNED = b'"signature"'
_NULL = msgspec.Raw(b"null")


# Whoever made a key stand twice had each of its values read as what it must be, so that none of
# them is more than it may be.
class _Shape(msgspec.Struct, forbid_unknown_fields=True, eq=False, gc=False):
    pass


class _Mark(_Shape):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | UnsetType | None = UNSET


class _Caller(_Shape):
    type: Literal["direct"]


class _Block(_Shape, tag_field="type"):
    pass


class _Marked(_Block):
    cache_control: _Mark | UnsetType | None = UNSET


class Text(_Marked, tag="text", kw_only=True):
    """A text."""

    text: str
    citations: UnsetType | None = UNSET


# Where a text stands alone and not in a union: there no tag is asked for.
class Piece(_Shape, kw_only=True):
    """A text where nothing else may be."""

    type: Literal["text"]
    text: str
    cache_control: _Mark | UnsetType | None = UNSET
    citations: UnsetType | None = UNSET


class Thinking(_Block, tag="thinking"):
    """Thoughts, with the signature of whoever made them."""

    thinking: str
    signature: str | UnsetType | None = UNSET


class Redacted(_Block, tag="redacted_thinking"):
    """Thoughts that the vendor keeps to itself."""

    data: str


class Use(_Marked, tag="tool_use", kw_only=True):
    """A call of a tool."""

    id: str
    name: str
    # Its members may have any name; that they are all read shows that they can be read.
    input: dict[str, Any]
    caller: _Caller | UnsetType | None = UNSET


class Result(_Marked, tag="tool_result", kw_only=True):
    """What it gave."""

    tool_use_id: str
    content: str | list[Piece] | UnsetType = UNSET
    is_error: bool | UnsetType | None = UNSET


class Message(_Shape):
    """A message of the usual shape."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Text | Thinking | Redacted | Use | Result]


_SYSTEM: msgspec.json.Decoder[str | list[Piece] | None] = msgspec.json.Decoder(
    str | list[Piece] | None
)
MESSAGES = msgspec.json.Decoder(list[Message])


def words_of(fields: Fields) -> frozenset[bytes] | None:
    """Of a request whose messages and system text are of the usual shape the members for which a
    message may have to be changed on its way to an upstream that speaks Messages too; none of them:
    they can go as they came. None for every other request.
    """
    try:
        _SYSTEM.decode(fields.get("system", _NULL))
        messages = MESSAGES.decode(fields["messages"])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    for message in messages:
        if isinstance(message.content, list):
            for block in message.content:
                if isinstance(block, Thinking) and block.signature and is_ours(block.signature):
                    return frozenset((_SIGNED,))
    return frozenset()

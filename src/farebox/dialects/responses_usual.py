"""Inputs of the usual shape, read in one typed pass: messages of text, calls of the client's tools
and what these gave, reasoning.

To look for a word in a body costs about as much as to parse it, and there are a dozen to look for.
Of items read here it is known without looking that they are text alone, ask for no summary, bring
no tools, and name nothing that is kept anywhere. Whatever is unusual, or wrong, is left to the ways
that are for everything.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from farebox.dialects.seal import is_ours

# Items that need no id. One that the vendor never stored would only be held against the reasoning
# that it belonged to. Of other types the reference requires it, and takes it from anywhere.
NEEDS_NO_ID = frozenset(
    (
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "tool_search_call",
        "tool_search_output",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
    )
)
_ID, _REASONING, _SEALED = b'"id"', b'"reasoning"', b'"encrypted_content"'

# Whoever made a key stand twice had each of its values read as what it must be, so that none of
# them is more than it may be.
_Nothing = Annotated[list[None], msgspec.Meta(max_length=0)]
_Text = str | UnsetType | None


class _Shape(msgspec.Struct, forbid_unknown_fields=True, eq=False, gc=False):
    pass


class _Part(_Shape):
    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: str
    annotations: _Nothing | UnsetType = UNSET
    logprobs: _Nothing | UnsetType = UNSET


class _Item(_Shape):
    type: (
        Literal[
            "message",
            "reasoning",
            "function_call",
            "function_call_output",
            "custom_tool_call",
            "custom_tool_call_output",
        ]
        | UnsetType
    ) = UNSET
    role: Literal["user", "assistant", "system", "developer"] | UnsetType = UNSET
    content: str | list[_Part] | UnsetType | None = UNSET
    summary: list[_Part] | UnsetType = UNSET
    encrypted_content: _Text = UNSET
    name: _Text = UNSET
    namespace: _Text = UNSET
    arguments: _Text = UNSET
    input: _Text = UNSET
    call_id: _Text = UNSET
    output: str | list[_Part] | UnsetType = UNSET
    id: _Text = UNSET
    status: _Text = UNSET
    phase: _Text = UNSET


_ITEMS = msgspec.json.Decoder(list[_Item])


def words_of(raw: msgspec.Raw) -> frozenset[bytes] | None:
    """Of an input of the usual shape the members for which an item may have to be changed on its
    way to an upstream that speaks Responses too; none of them: it can go as it came. None for every
    other input.
    """
    first = bytes(memoryview(raw)[:1])
    if first != b"[":
        return frozenset() if first == b'"' else None
    try:
        items = _ITEMS.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    words: set[bytes] = set()
    for item in items:
        kind, blob = item.type, item.encrypted_content
        if kind is UNSET and item.role is UNSET:
            return None  # refers to an item by its id
        if item.id is not UNSET and kind in NEEDS_NO_ID:
            words.add(_ID)
        if blob is not UNSET and blob is not None and is_ours(blob):
            words.add(_SEALED)
        elif kind == "reasoning" and not isinstance(blob, str):
            words.add(_REASONING)
    return frozenset(words)

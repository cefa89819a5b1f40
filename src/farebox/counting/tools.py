"""What the definitions of tools add to an input. Pure.

OpenAI turns them into lines of its own; its cookbook tells the tokens around each name and
description for gpt-4o ("Counting tokens for tool calls"). DeepSeek's published encoding puts each
function as JSON under a text of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import msgspec

Put = Callable[[str], None]
Object = dict[str, object]

_FUNCTION, _FUNCTIONS_END = 7, 12
_PROPERTIES, _PROPERTY = 3, 3
_ENUM, _ENUM_ITEM = -3, 3
_TEXT_AROUND = 224  # in the text that DeepSeek's encoding has for tools, with the empty line before


def put_tools(tools: object, frame: str, put: Put) -> int:
    """Tokens of a chat body's `tools` or `functions` beside the texts that are put."""
    listed = cast("list[object]", tools) if isinstance(tools, list) else [tools]
    return _FRAMES[frame](listed, put)


def _function(tool: object) -> Object | None:
    """The function of a tool, or of a bare definition; None for tools of other kinds."""
    if not isinstance(tool, dict):
        return None
    members = cast("Object", tool)
    inner = members.get("function", members if "type" not in members else None)
    return cast("Object", inner) if isinstance(inner, dict) else None


def _json(value: object) -> str:
    """With a space behind each colon and comma, as DeepSeek's encoding has it."""
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _for_openai(tools: list[object], put: Put) -> int:
    total = _FUNCTIONS_END
    for tool in tools:
        function = _function(tool)
        total += _FUNCTION
        if function is None:
            put(_json(tool))
            continue
        put(f"{_text(function.get('name'))}:{_text(function.get('description')).removesuffix('.')}")
        total += _schema(function.get("parameters"), put)
    return total


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _schema(schema: object, put: Put) -> int:
    """Of the properties of an object's schema, and of the schemas within them."""
    total = 0
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, dict):
            continue
        members = cast("Object", each)
        properties = members.get("properties")
        if isinstance(properties, dict) and properties:
            total += _PROPERTIES
            for name, inner in cast("Object", properties).items():
                total += _PROPERTY + _property(name, inner, put)
                waiting.append(inner)
        waiting += [members[name] for name in ("items", "additionalProperties") if name in members]
        for name in ("anyOf", "oneOf", "allOf"):
            choices = members.get(name)
            waiting += cast("list[object]", choices) if isinstance(choices, list) else []
        for name in ("$defs", "definitions"):
            inner = members.get(name)
            waiting += cast("Object", inner).values() if isinstance(inner, dict) else ()
    return total


def _property(name: str, schema: object, put: Put) -> int:
    members = cast("Object", schema) if isinstance(schema, dict) else {}
    kind, about = members.get("type"), _text(members.get("description")).removesuffix(".")
    put(f"{name}:{kind if isinstance(kind, str) else _json(kind)}:{about}")
    choices = members.get("enum")
    if not isinstance(choices, list):
        return 0
    for choice in cast("list[object]", choices):
        put(choice if isinstance(choice, str) else _json(choice))
    return _ENUM + _ENUM_ITEM * len(cast("list[object]", choices))


def _for_deepseek(tools: list[object], put: Put) -> int:
    for tool in tools:
        put(_json(_function(tool) or tool) + "\n")
    return _TEXT_AROUND


_FRAMES: Mapping[str, Callable[[list[object], Put], int]] = {
    "openai": _for_openai,
    "deepseek": _for_deepseek,
}

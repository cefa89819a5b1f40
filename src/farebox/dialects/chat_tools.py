"""Clients' tools as chat functions: their names, and which tool each name stands for. They are read
in the form of the Responses API.

Chat knows functions alone, by flat names of at most 64 letters, digits, `_` and `-`. Sources:
OpenAI's OpenAPI document, `Tool`, `ToolChoiceAllowed` and `FunctionObject`; Codex 0.169 for
namespaces, `additional_tools`, `tool_search` and the schema keyword `encrypted`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, cast

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

Kind = Literal["function", "custom", "tool_search"]
_Key = tuple[bool, str | None, str]

TOOL_SEARCH = "tool_search"
_PLAIN_NAMESPACE = "functions"  # holds what needs no namespace
_NAME_CHARS = 64
_HASH_CHARS = 8
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")
_CLIENTS: tuple[str, ...] = ("function", "custom", TOOL_SEARCH)

_SEARCH_TEXT = "Searches for further tools and makes those that it finds available."
_SEARCH_SCHEMA: Object = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What the tools should do."}},
    "required": ["query"],
}
_CUSTOM_SCHEMA: Object = {
    "type": "object",
    "properties": {
        "input": {"type": "string", "description": "The tool's whole input, as plain text."}
    },
    "required": ["input"],
    "additionalProperties": False,
}
# Members of a JSON Schema whose own members are names, and those that hold data.
_NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_DATA = frozenset(("enum", "const", "default", "examples", "required"))


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as the client knows it."""

    kind: Kind
    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The functions to send, and what `tool_choice` then says; None: nothing."""

    functions: list[Object]
    mode: object = None


class Toolbox:
    """The tools of one request. `tools` has them by the names that the upstream knows, also those
    that only earlier calls name; `dropped` are the kinds that chat has no equivalent of.
    """

    def __init__(self) -> None:
        self.tools: dict[str, Tool] = {}
        self.dropped: dict[str, None] = {}  # in their order; a body has room for a million
        self._names: dict[_Key, str] = {}
        self._functions: dict[str, Object] = {}
        self._members: dict[
            str, list[str]
        ] = {}  # names by the namespace that they were declared in
        self._bare: dict[str, list[str]] = {}  # names by the name within their namespace

    def declare(self, tools: object, path: str) -> list[str]:
        """Take a list of tools; the names that the upstream will know them by. One that is
        declared again replaces the earlier one. Raises BadRequest.
        """
        names: list[str] = []
        for at, value in enumerate(as_list(tools, path)):
            where = f"{path}[{at}]"
            tool = as_object(value, where)
            if tool.get("type") == "namespace":
                namespace = name_at(tool, "name", where)
                inner = as_list(tool.get("tools"), f"{where}.tools")
                for n, member in enumerate(inner):
                    inside = f"{where}.tools[{n}]"
                    names.append(self._declare(as_object(member, inside), namespace, inside))
            else:
                names.append(self._declare(tool, None, where))
        return list(filter(None, names))

    def name_of(self, kind: Kind, name: str, namespace: str | None) -> str:
        """The upstream's name for the tool of an earlier call, declared or not."""
        key = _key(kind, namespace, name)
        known = self._names.get(key)
        if known is not None:
            return known
        if key[1] is None and name in self.tools:
            return name  # a client that knows the tool by the upstream's name
        return self._register(Tool(kind, name, namespace))

    def choose(self, choice: object) -> Choice:
        """What `tool_choice` makes of the declared tools. Raises BadRequest; also where it forces
        a tool that chat has no equivalent of.
        """
        functions = list(self._functions.values())
        if choice is None or isinstance(choice, str):
            return self._by_mode(functions, choice, "tool_choice")
        wanted = as_object(choice, "tool_choice")
        kind = wanted.get("type")
        if kind == "allowed_tools":
            return self._allowed(wanted)
        if not isinstance(kind, str):
            raise malformed("tool_choice.type", "a kind of tool", kind)
        if kind not in _CLIENTS:
            raise _not_here(kind)
        name = self._declared(wanted, "tool_choice")
        return Choice(functions, {"type": "function", "function": {"name": name}})

    def _by_mode(self, functions: list[Object], mode: str | None, path: str) -> Choice:
        if mode not in (None, "auto", "none", "required"):
            raise unknown(path, mode, "none, auto, required or an object")
        if functions:
            return Choice(functions, mode)
        if mode == "required" and self.dropped:
            raise _not_here(next(iter(self.dropped)))
        return Choice([])

    def _allowed(self, wanted: Object) -> Choice:
        mode = wanted.get("mode") or "auto"
        if mode not in ("auto", "required"):
            raise unknown("tool_choice.mode", mode, "auto or required")
        allowed: set[str] = set()
        for at, value in enumerate(as_list(wanted.get("tools"), "tool_choice.tools")):
            path = f"tool_choice.tools[{at}]"
            tool = as_object(value, path)
            kind = tool.get("type")
            if kind == "namespace":
                allowed.update(self._members.get(name_at(tool, "name", path), ()))
            elif kind in _CLIENTS:
                allowed.add(self._declared(tool, path))
        functions = [function for name, function in self._functions.items() if name in allowed]
        return self._by_mode(functions, mode, "tool_choice.mode")

    def _declared(self, wanted: Object, path: str) -> str:
        """The upstream's name for a tool that tool_choice names."""
        if wanted.get("type") == TOOL_SEARCH:
            key, shown = _key("tool_search", None, TOOL_SEARCH), TOOL_SEARCH
        else:
            shown = name_at(wanted, "name", path)
            key = _key("function", optional_text(wanted, "namespace", path), shown)
        name = self._names.get(key)
        if name in self._functions:
            return name
        inside = self._bare.get(shown, []) if key[1] is None and not key[0] else []
        if len(inside) == 1:  # in one namespace alone, so that there is no doubt
            return inside[0]
        raise BadRequest(
            f"'{path}' names the tool {shown[:_NAME_CHARS]!r}, which is not among the tools. "
            "Declare it, or choose another.",
            param="tool_choice",
            code="invalid_value",
        )

    def _declare(self, tool: Object, namespace: str | None, path: str) -> str:
        """The tool's name, empty where there is no equivalent."""
        kind = tool.get("type")
        if not isinstance(kind, str):
            raise malformed(f"{path}.type", "a kind of tool", kind)
        if kind == "namespace":
            raise unknown(f"{path}.type", kind, "function or custom within a namespace")
        if kind == TOOL_SEARCH and tool.get("execution") == "client":
            return self._add(Tool("tool_search", TOOL_SEARCH), _search(tool, path))
        if kind in ("function", "custom"):
            function = _function(tool, path) if kind == "function" else _custom(tool, path)
            return self._add(Tool(kind, name_at(tool, "name", path), namespace), function)
        self.dropped[kind] = None
        return ""

    def _add(self, tool: Tool, function: Object) -> str:
        name = self._names.get(_key(tool.kind, tool.namespace, tool.name))
        if name is None:
            name = self._register(tool)
            self._bare.setdefault(tool.name, []).append(name)
            if tool.namespace is not None:
                self._members.setdefault(tool.namespace, []).append(name)
        self.tools[name] = tool
        self._functions[name] = {"type": "function", "function": {**function, "name": name}}
        return name

    def _register(self, tool: Tool) -> str:
        key = _key(tool.kind, tool.namespace, tool.name)
        name = self._names[key] = self._free_name(key)
        self.tools[name] = tool
        return name

    def _free_name(self, key: _Key) -> str:
        _, namespace, name = key
        wanted = name if namespace is None else f"{namespace}__{name}"
        plain = _FOREIGN.sub("_", wanted)
        if len(plain) <= _NAME_CHARS and plain not in self.tools:
            return plain
        # The hash is of what the client calls it, so that the name is the same in each turn.
        attempt = 0
        while True:
            digest = hashlib.sha256(repr((key, attempt)).encode()).hexdigest()[:_HASH_CHARS]
            short = f"{plain[: _NAME_CHARS - 1 - _HASH_CHARS]}_{digest}"
            if short not in self.tools:
                return short
            attempt += 1


def _key(kind: Kind, namespace: str | None, name: str) -> _Key:
    is_plain = namespace in (None, "", _PLAIN_NAMESPACE)
    return kind == "tool_search", None if is_plain else namespace, name


def _not_here(kind: str) -> BadRequest:
    return BadRequest(
        f"The tool {kind[:_NAME_CHARS]!r} runs at a vendor, and this model's has none. Leave the "
        "choice to the model, or declare a function.",
        param="tools",
        code="unsupported_value",
    )


def _function(tool: Object, path: str) -> Object:
    function: Object = {"name": name_at(tool, "name", path)}
    description = optional_text(tool, "description", path)
    if description is not None:
        function["description"] = description
    function["parameters"] = _parameters(tool, path)
    if tool.get("strict") is True:
        function["strict"] = True
    return function


def _parameters(tool: Object, path: str) -> Object:
    value = tool.get("parameters")
    schema = {} if value is None else as_object(value, f"{path}.parameters")
    return cast("Object", _standard(schema)) or {"type": "object", "properties": {}}


def _standard(schema: object) -> object:
    """A JSON Schema without `encrypted`, a keyword of OpenAI's own that others refuse."""
    if isinstance(schema, list):
        return [_standard(value) for value in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    plain: Object = {}
    for word, value in cast("Object", schema).items():
        if word in _DATA:
            plain[word] = value
        elif word in _NAMED and isinstance(value, dict):
            named = cast("Object", value)
            plain[word] = {name: _standard(inner) for name, inner in named.items()}
        elif word != "encrypted":
            plain[word] = value if isinstance(value, str) else _standard(value)
    return plain


def _custom(tool: Object, path: str) -> Object:
    texts = [optional_text(tool, "description", path) or ""]
    form = tool.get("format")
    if form is not None:
        wanted = as_object(form, f"{path}.format")
        if wanted.get("type") == "grammar":
            syntax = optional_text(wanted, "syntax", f"{path}.format") or "formal"
            grammar = text_at(wanted, "definition", f"{path}.format")
            texts.append(f"`input` is plain text that matches this {syntax} grammar:\n{grammar}")
    return {
        "name": name_at(tool, "name", path),
        "description": "\n\n".join(filter(None, texts)),
        "parameters": _CUSTOM_SCHEMA,
    }


def _search(tool: Object, path: str) -> Object:
    schema = _parameters(tool, path) if tool.get("parameters") else _SEARCH_SCHEMA
    return {
        "name": TOOL_SEARCH,
        "description": optional_text(tool, "description", path) or _SEARCH_TEXT,
        "parameters": schema,
    }

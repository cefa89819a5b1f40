"""Tools of the Messages API as chat functions, and which of them the model is to call.

Names, and the way back from them, are chat_tools.py's. Sources: Anthropic's SDK for Python,
`ToolUnionParam` and `ToolChoiceParam`; its documentation of the bash, text editor and memory tools
for what their inputs hold.
"""

from __future__ import annotations

import re
from typing import cast

from farebox.dialects.chat_tools import Choice, Toolbox
from farebox.dialects.messages import hosted_name
from farebox.dialects.messages_to_chat_content import Notes
from farebox.dialects.values import (
    Object,
    as_list,
    as_object,
    malformed,
    name_at,
    optional_text,
    unknown,
)
from farebox.errors import BadRequest

_MODES = {"auto": "auto", "any": "required", "none": "none"}
_VERSIONED = re.compile(r"_\d{8}$")
_WITHOUT_VERSION = frozenset(("mcp_toolset", "tool_search"))
_SHOWN_CHARS = 64


def _string(text: str) -> Object:
    return {"type": "string", "description": text}


def _schema(required: tuple[str, ...], **properties: Object) -> Object:
    return {"type": "object", "properties": properties, "required": list(required)}


def _commands(*names: str) -> Object:
    return {"type": "string", "enum": list(names), "description": "What to do."}


_LINE: Object = {
    "type": "integer",
    "description": "For insert: the line behind which the text goes; 0 is the file's beginning.",
}
_RANGE: Object = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "For view: the first and the last line to show; -1 is the file's end.",
}
_EDITING: dict[str, Object] = {
    "path": _string("The file, or for view also a directory."),
    "view_range": _RANGE,
    "file_text": _string("For create: all of the new file's text."),
    "old_str": _string("For str_replace: the text to be replaced, which must occur once."),
    "new_str": _string("For str_replace: what replaces it."),
    "insert_line": _LINE,
    "insert_text": _string("For insert: the text."),
}
_EDITS = ("view", "create", "str_replace", "insert")
_MEMORY_TEXT = (
    "Keeps notes from one conversation to the next, as files below /memories. Look there before "
    "you begin, and write down what will be needed again."
)
_EDITOR_TEXT = "Shows, makes and edits text files."
_EDITOR = _schema(("command", "path"), command=_commands(*_EDITS), **_EDITING)
# Its first versions insert `new_str`, and can take back what they did.
_EARLY_EDITOR = _schema(
    ("command", "path"),
    command=_commands(*_EDITS, "undo_edit"),
    **{name: schema for name, schema in _EDITING.items() if name not in ("new_str", "insert_text")},
    new_str=_string("For str_replace and insert: the new text."),
)
# Tools that Anthropic defines and clients run: models of others know neither their names nor what
# they take.
_DEFINED: dict[str, tuple[str, Object]] = {
    "bash": (
        "Runs a command in a bash session, which keeps its state from one command to the next.",
        _schema(
            (),
            command=_string("The command. Needed unless the session is restarted."),
            restart={"type": "boolean", "description": "Whether to begin a new session instead."},
        ),
    ),
    "text_editor": (_EDITOR_TEXT, _EDITOR),
    "text_editor_20241022": (_EDITOR_TEXT, _EARLY_EDITOR),
    "text_editor_20250124": (_EDITOR_TEXT, _EARLY_EDITOR),
    "memory": (
        _MEMORY_TEXT,
        _schema(
            ("command",),
            command=_commands(*_EDITS, "delete", "rename"),
            **_EDITING,
            old_path=_string("For rename: the file as it is."),
            new_path=_string("For rename: the file as it is to be."),
        ),
    ),
}


class Tools:
    """The tools of one request."""

    def __init__(self, notes: Notes) -> None:
        self.toolbox = Toolbox()
        self._notes = notes
        self._marks: dict[str, Object] = {}  # by the names that the upstream knows
        self._dropped: dict[str, str] = {}  # kinds by the client's names

    def read(self, value: object) -> None:
        """A decoded `tools`. Raises BadRequest."""
        for at, tool in enumerate([] if value is None else as_list(value, "tools")):
            self.declare(as_object(tool, f"tools[{at}]"), f"tools[{at}]")

    def declare(self, tool: Object, path: str) -> None:
        """Take one tool; one that chat has no equivalent of is dropped. Raises BadRequest."""
        kind = "custom" if tool.get("type") is None else tool["type"]
        if not isinstance(kind, str):
            raise malformed(f"{path}.type", "a kind of tool", kind)
        plain = hosted_name(kind)
        if kind == "custom":
            self._add(tool, _custom(tool, path), path)
        elif plain in _DEFINED:
            text, schema = _DEFINED.get(kind, _DEFINED[plain])
            self._add(tool, {"description": text, "parameters": schema}, path)
        elif _VERSIONED.search(kind) or plain in _WITHOUT_VERSION:
            self._notes.dropped.append(f"tools.{plain}")
            self._dropped[optional_text(tool, "name", path) or kind] = kind
        else:
            raise unknown(f"{path}.type", kind, "custom, or a tool with its version's date")

    def choose(self, value: object) -> Object:
        """The fields that say what may be called, for a decoded `tool_choice`. Raises BadRequest;
        also where only tools that were dropped could be meant.
        """
        choice = {} if value is None else as_object(value, "tool_choice")
        chosen = self._choose(choice)
        if not chosen.functions:
            if self._dropped and choice.get("type") != "none":
                # Without them an answer is made up: Claude Code takes it for what was found.
                raise _not_here(next(iter(self._dropped.values())))
            return {}
        body: Object = {"tools": [self._marked(function) for function in chosen.functions]}
        if chosen.mode is not None:
            body["tool_choice"] = chosen.mode
        alone = choice.get("disable_parallel_tool_use")
        if alone is not None and not isinstance(alone, bool):
            raise malformed("tool_choice.disable_parallel_tool_use", "true or false", alone)
        if alone:
            body["parallel_tool_calls"] = False
        return body

    def _add(self, tool: Object, function: Object, path: str) -> None:
        name = name_at(tool, "name", path)
        strict = tool.get("strict") is True and fits_strictly(function["parameters"])
        function |= {"type": "function", "name": name, "strict": strict}
        if tool.get("input_examples"):
            self._notes.dropped.append("tools.input_examples")
        mark = self._notes.mark_of(tool, f"{path}.cache_control")
        for known in self.toolbox.declare([function], path):
            if mark is not None:
                self._marks[known] = mark

    def _choose(self, choice: Object) -> Choice:
        kind = choice.get("type")
        if not choice:
            return self.toolbox.choose(None)
        if kind == "tool":
            name = name_at(choice, "name", "tool_choice")
            if name in self._dropped:
                raise _not_here(self._dropped[name])
            return self.toolbox.choose({"type": "function", "name": name})
        if not isinstance(kind, str) or kind not in _MODES:
            raise unknown("tool_choice.type", kind, "auto, any, tool or none")
        return self.toolbox.choose(_MODES[kind])

    def _marked(self, function: Object) -> Object:
        name = as_object(function["function"], "tools")["name"]
        mark = self._marks.get(str(name))
        return function if mark is None else {**function, "cache_control": mark}


def fits_strictly(schema: object) -> bool:
    """Whether OpenAI can hold a model to a JSON Schema: each object in it must name its
    properties, allow no others, and require them all. Anthropic lets some be left out.
    """
    if isinstance(schema, list):
        return all(map(fits_strictly, cast("list[object]", schema)))
    if not isinstance(schema, dict):
        return True
    words = cast("Object", schema)
    properties, required = words.get("properties"), words.get("required")
    if words.get("type") == "object" or isinstance(properties, dict):
        names = set(cast("Object", properties)) if isinstance(properties, dict) else set[str]()
        listed = cast("list[object]", required) if isinstance(required, list) else []
        if words.get("additionalProperties") is not False or names - set(map(str, listed)):
            return False
    return all(map(fits_strictly, words.values()))


def _custom(tool: Object, path: str) -> Object:
    where = f"{path}.input_schema"
    given = as_object(tool.get("input_schema"), where)
    # What Anthropic takes as absent, others take amiss.
    schema = {word: value for word, value in given.items() if value is not None}
    return {
        "description": optional_text(tool, "description", path),
        "parameters": {"type": "object", "properties": {}, **schema},
    }


def _not_here(kind: str) -> BadRequest:
    return BadRequest(
        f"The tool {kind[:_SHOWN_CHARS]!r} cannot be had with this model. Offer tools of your own, "
        "or ask without any.",
        param="tools",
        code="unsupported_value",
    )

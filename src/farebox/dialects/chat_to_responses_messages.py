"""Chat messages as the input items of the Responses API. What else a request says is
chat_to_responses.py's.

What need not change stays the JSON that came. Sources: OpenAI's OpenAPI document,
`ChatCompletionRequestMessage` and `InputItem`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from farebox.dialects.body import Fields, read_field
from farebox.dialects.chat_mend import NOTHING, is_json, is_set
from farebox.errors import BadRequest

Object = dict[str, msgspec.Raw]
_Part = dict[str, object]
_PartOf = Callable[[Object, str], _Part]
_T = TypeVar("_T")

_BREAKPOINT = "prompt_cache_breakpoint"
# What an assistant's message of an earlier answer carries and no model reads.
_ECHOED = frozenset(("role", "content", "refusal", "tool_calls", "function_call", "annotations"))
_KNOWN: Final = {
    "system": frozenset(("role", "content")),
    "developer": frozenset(("role", "content")),
    "user": frozenset(("role", "content")),
    "assistant": _ECHOED,
    "tool": frozenset(("role", "content", "tool_call_id")),
    "function": frozenset(("role", "content", "name")),
}
_FILE = ("filename", "file_data", "file_id", "file_url")
_NAMED = ("name", "reasoning_content")  # when they are dropped; others go under one word


class Conversation:
    """Messages become items, one after the other; `adjusted` names what found no place."""

    def __init__(self) -> None:
        self.items: list[dict[str, object]] = []
        self.adjusted: list[str] = []
        self._custom: dict[str, bool] = {}  # call id -> whether it called a custom tool
        self._unanswered: list[str] = []  # ids made up for calls of the old form, which has none

    def add(self, message: Object, where: str) -> None:
        """Put one message behind the others; `where` is its place. Raises BadRequest."""
        role = read(message.get("role"), str, f"{where}.role", "a role") or ""
        known = _KNOWN.get(role)
        if known is None:
            raise BadRequest(
                f"'{where}.role' is {role!r}. Use one of {', '.join(_KNOWN)}.",
                param=f"{where}.role",
                code="invalid_value",
            )
        for name, value in message.items():
            if name not in known and is_set(value):
                self._leave_out(name, value, where)
        if role == "assistant":
            self._add_assistant(message, where)
        elif role == "tool":
            self._add_result(message, where)
        elif role == "function":
            self._add_old_result(message, where)
        else:
            content = _content(message, where, _user_part)
            self.items.append({"type": "message", "role": role, "content": content})

    def _leave_out(self, name: str, value: msgspec.Raw, where: str) -> None:
        if name == "audio":
            raise unsupported(
                f"'{where}.audio' names an earlier spoken answer, which this model cannot hear. "
                "Send its transcript as text.",
                f"{where}.audio",
            )
        if name == "reasoning_content" and bytes(value) == b'""':
            return
        note = f"messages.{name if name in _NAMED else 'other'}=dropped"
        if note not in self.adjusted:
            self.adjusted.append(note)

    def _add_assistant(self, message: Object, where: str) -> None:
        content = _said(_content(message, where, _assistant_part))
        refusal = message.get("refusal", NOTHING)
        if is_set(refusal):
            content.append({"type": "refusal", "refusal": refusal})
        calls = read(message.get("tool_calls"), list[Object], f"{where}.tool_calls", "a list")
        old_call = read(message.get("function_call"), Object, f"{where}.function_call", "an object")
        if not content and not calls and not old_call:
            content.append({"type": "output_text", "text": ""})  # a turn, though an empty one
        if content:
            self.items.append({"type": "message", "role": "assistant", "content": content})
        for n, call in enumerate(calls or ()):
            self._add_call(call, f"{where}.tool_calls[{n}]")
        if old_call:
            call_id = f"call_function_{len(self.items)}"
            self._unanswered.append(call_id)
            self.items.append(_function_call(call_id, old_call, f"{where}.function_call"))

    def _add_call(self, call: Object, where: str) -> None:
        call_id = _needed(call, "id", where)
        custom = read(call.get("custom"), Object, f"{where}.custom", "an object")
        self._custom[call_id] = custom is not None
        if custom is None:
            what = read(call.get("function"), Object, f"{where}.function", "an object") or {}
            self.items.append(_function_call(call_id, what, f"{where}.function"))
            return
        self.items.append(
            {
                "type": "custom_tool_call",
                "call_id": call_id,
                "name": _needed(custom, "name", f"{where}.custom"),
                "input": custom.get("input", ""),
            }
        )

    def _add_result(self, message: Object, where: str) -> None:
        call_id = _needed(message, "tool_call_id", where)
        kind = "custom_tool_call" if self._custom.get(call_id) else "function_call"
        self._add_output(kind, call_id, message, where)

    def _add_old_result(self, message: Object, where: str) -> None:
        if not self._unanswered:
            raise BadRequest(
                f"'{where}' is the result of a function that no message before it calls.",
                param=where,
                code="invalid_value",
            )
        self._add_output("function_call", self._unanswered.pop(0), message, where)

    def _add_output(self, kind: str, call_id: str, message: Object, where: str) -> None:
        output = _content(message, where, _user_part)
        if isinstance(output, list) and len(output) == 1 and output[0].keys() == {"type", "text"}:
            output = output[0]["text"]  # the form that every upstream takes
        self.items.append({"type": f"{kind}_output", "call_id": call_id, "output": output})


def read(raw: msgspec.Raw | None, kind: type[_T], where: str, meaning: str) -> _T | None:
    """A value as this type, None if it is absent or null. Raises BadRequest that says where."""
    return None if raw is None else read_field({where: raw}, where, kind, meaning)


def unsupported(message: str, param: str) -> BadRequest:
    """The error for what the Responses API has no equivalent of."""
    return BadRequest(message, param=param, code="unsupported_value")


def _needed(fields: Fields, name: str, where: str) -> str:
    value = read(fields.get(name), str, f"{where}.{name}", "a string")
    if not value:
        raise BadRequest(
            f"'{where}.{name}' is missing.",
            param=f"{where}.{name}",
            code="missing_required_parameter",
        )
    return value


def _function_call(call_id: str, function: Object, where: str) -> dict[str, object]:
    arguments: object = function.get("arguments", "")
    if isinstance(arguments, msgspec.Raw) and is_json(arguments):
        arguments = bytes(arguments).decode()  # JSON itself in place of JSON in a string
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": _needed(function, "name", where),
        "arguments": arguments,
    }


def _content(message: Object, where: str, part_of: _PartOf) -> msgspec.Raw | str | list[_Part]:
    """A message's content: a string as it came, or its parts under their other names."""
    raw = message.get("content", NOTHING)
    if not is_set(raw):
        return ""
    where = f"{where}.content"
    if bytes(raw)[:1] == b'"':
        return raw
    parts = read(raw, list[Object], where, "a string or a list of parts") or []
    return [part_of(part, f"{where}[{n}]") for n, part in enumerate(parts)]


def _said(content: msgspec.Raw | str | list[_Part]) -> list[_Part]:
    """What an assistant said, as parts; an empty text is none."""
    if isinstance(content, list):
        return content
    if isinstance(content, str) or bytes(content) == b'""':
        return []
    return [{"type": "output_text", "text": content}]


def _user_part(part: Object, where: str) -> _Part:
    kind = read(part.get("type"), str, f"{where}.type", "a string")
    if kind == "text":
        return _with_breakpoint(part, {"type": "input_text", "text": part.get("text", "")})
    if kind == "image_url":
        return _with_breakpoint(part, _image(part.get("image_url", NOTHING), f"{where}.image_url"))
    if kind == "file":
        file = read(part.get("file"), Object, f"{where}.file", "an object") or {}
        known = {name: file[name] for name in _FILE if name in file}
        return _with_breakpoint(part, {"type": "input_file", **known})
    if kind == "input_audio":
        raise unsupported(
            f"'{where}' is a sound, which this model cannot hear. Send its transcript as text.",
            where,
        )
    return dict(part)  # perhaps a part of the Responses API already; if not, the vendor says so


def _image(image: msgspec.Raw, where: str) -> _Part:
    if bytes(image)[:1] == b'"':
        return {"type": "input_image", "image_url": image}
    fields = read(image, Object, where, "an object with a url") or {}
    detail = {"detail": fields["detail"]} if "detail" in fields else {}
    return {"type": "input_image", "image_url": fields.get("url"), **detail}


def _assistant_part(part: Object, where: str) -> _Part:
    kind = read(part.get("type"), str, f"{where}.type", "a string")
    if kind == "text":
        return {"type": "output_text", "text": part.get("text", "")}
    return dict(part)  # `refusal` has the same form in both


def _with_breakpoint(part: Object, made: _Part) -> _Part:
    return {**made, _BREAKPOINT: part[_BREAKPOINT]} if _BREAKPOINT in part else made

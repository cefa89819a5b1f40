"""What of a chat completion's body its input consists of: texts, and tokens by rule. Pure.

Every call is counted in its chat form, whatever the client or the upstream speak.
docs/counting.md tells the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import msgspec

from farebox.counting.estimate import text_tokens
from farebox.counting.images import image_tokens
from farebox.counting.rules import Rule
from farebox.counting.tools import put_tools

FILE_TOKENS = 1500  # a document of a few pages, where only its address is known
_FILE_CHARS_A_TOKEN = 25  # of a PDF in base64, most of which is no text
_AUDIO_CHARS_A_TOKEN = 4000  # of base64: a token is a tenth of a second
_SEALED_CHARS_A_TOKEN = 4  # of thoughts that are encrypted

_SPEAKERS = ("system", "developer", "user", "assistant")
# Members of anything's that no model is shown.
_UNSEEN_WORDS = """
annotations cache_control call_id id logprobs role signature status tool_call_id tool_use_id type
"""
_UNSEEN = frozenset(_UNSEEN_WORDS.split())
_HIDDEN = ("encrypted_content", "data", "file_data", "image_url")  # what is long and no text


@dataclass(frozen=True, slots=True)
class Tally:
    """Texts to be counted one by one, tokens on top; `exact`: the vendor will count the same, if
    the vocabulary is the model's own.
    """

    texts: tuple[str, ...]
    fixed_tokens: int
    exact: bool

    def estimate(self) -> int:
        """Tokens without any vocabulary."""
        return round(sum(map(text_tokens, self.texts))) + self.fixed_tokens


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around everything, as tokens."""

    around: Callable[[_Sum, list[str]], None]  # messages of these roles
    a_call: int
    a_result: int
    a_format: int
    a_name: int | None  # None: who speaks is not told
    effort_tells: bool  # words of the vendor's own come before a chat to be thought about hard


@dataclass(slots=True)
class _Sum:
    rule: Rule
    texts: list[str] = field(default_factory=list[str])
    fixed_tokens: float = 0.0
    exact: bool = True

    def put(self, text: str) -> None:
        if text:
            self.texts.append(text)

    def put_all(self, value: object) -> None:
        """All texts within a JSON value; their place in it says nothing of how they count."""
        self.exact = False
        waiting = [value]
        while waiting:
            each = waiting.pop()
            if isinstance(each, str):
                self.put(each)
            elif isinstance(each, list):
                waiting += reversed(cast("list[object]", each))
            elif isinstance(each, dict):
                members = dict(cast("dict[str, object]", each))
                for name in _HIDDEN:
                    hidden = members.pop(name, None)
                    if isinstance(hidden, str):
                        self.fixed_tokens += _of_hidden(name, hidden, self.rule)
                seen = [inner for name, inner in members.items() if name not in _UNSEEN]
                waiting += reversed(seen)

    def tally(self) -> Tally:
        return Tally(tuple(self.texts), round(self.fixed_tokens), self.exact)


def _of_hidden(name: str, value: str, rule: Rule) -> float:
    if name == "image_url":
        return image_tokens(value, "auto", rule.images)
    if name == "encrypted_content":
        return len(value) / _SEALED_CHARS_A_TOKEN
    return len(value) / _FILE_CHARS_A_TOKEN


def tally(fields: Mapping[str, msgspec.Raw], rule: Rule) -> Tally:
    """Of a chat body's messages, tools and response format."""
    total = _Sum(rule)
    frame = _FRAMES[rule.frame]
    messages = _decoded(fields, "messages")
    listed = cast("list[object]", messages) if isinstance(messages, list) else []
    for message in listed:
        if isinstance(message, dict):
            _put_message(total, frame, cast("dict[str, object]", message))
        else:
            total.put_all(message)
    frame.around(total, [_role(message) for message in listed])
    for name in ("tools", "functions"):
        tools = _decoded(fields, name)
        if tools:
            total.exact = False
            total.fixed_tokens += put_tools(tools, rule.frame, total.put)
    form = _decoded(fields, "response_format")
    if isinstance(form, dict) and cast("dict[str, object]", form).get("type") != "text":
        total.fixed_tokens += frame.a_format
        total.exact = False
        total.put(msgspec.json.encode(form).decode())
    if frame.effort_tells and _decoded(fields, "reasoning_effort") not in (None, "none"):
        total.exact = False
    return total.tally()


def tally_loosely(fields: Mapping[str, msgspec.Raw], names: Iterable[str], rule: Rule) -> Tally:
    """Of all texts in these fields of a body that has no chat form."""
    total = _Sum(rule)
    for name in names:
        total.put_all(_decoded(fields, name))
    return total.tally()


def _decoded(fields: Mapping[str, msgspec.Raw], name: str) -> object:
    return msgspec.json.decode(fields[name]) if name in fields else None


def _role(message: object) -> str:
    role = cast("dict[str, object]", message).get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) else ""


def _put_message(total: _Sum, frame: _Frame, message: dict[str, object]) -> None:
    for name, value in message.items():
        if name == "role":
            total.exact = total.exact and value in _SPEAKERS
            if value == "tool":
                total.fixed_tokens += frame.a_result
        elif name == "content":
            _put_content(total, value)
        elif name == "name" and isinstance(value, str) and frame.a_name is not None:
            total.fixed_tokens += frame.a_name
            total.put(value)
        elif name == "tool_calls" and isinstance(value, list):
            calls = cast("list[object]", value)
            total.fixed_tokens += frame.a_call * len(calls)
            total.put_all(calls)
        elif name not in _UNSEEN and value not in (None, "", []):
            total.put_all(value)


def _put_content(total: _Sum, content: object) -> None:
    parts = cast("list[object]", content) if isinstance(content, list) else [content]
    for part in parts:
        if isinstance(part, str):
            total.put(part)
        elif isinstance(part, dict):
            members = cast("dict[str, object]", part)
            put = _PARTS.get(str(members.get("type")))
            if put is None:
                total.put_all(members)
            else:
                put(total, members)


def _text(total: _Sum, part: dict[str, object]) -> None:
    text = part.get("text")
    total.put(text if isinstance(text, str) else "")


def _inner(part: dict[str, object], name: str) -> dict[str, object]:
    inner = part.get(name)
    return cast("dict[str, object]", inner) if isinstance(inner, dict) else {}


def _image(total: _Sum, part: dict[str, object]) -> None:
    image = _inner(part, "image_url") or {"url": part.get("image_url")}
    total.exact = False
    total.fixed_tokens += image_tokens(
        str(image.get("url")), str(image.get("detail")), total.rule.images
    )


def _file(total: _Sum, part: dict[str, object]) -> None:
    data = _inner(part, "file").get("file_data")
    total.exact = False
    total.fixed_tokens += (
        len(data) / _FILE_CHARS_A_TOKEN if isinstance(data, str) and data else FILE_TOKENS
    )


def _audio(total: _Sum, part: dict[str, object]) -> None:
    data = _inner(part, "input_audio").get("data")
    total.exact = False
    total.fixed_tokens += len(data) / _AUDIO_CHARS_A_TOKEN if isinstance(data, str) else 0


_PARTS: Mapping[str, Callable[[_Sum, dict[str, object]], None]] = {
    "text": _text,
    "image_url": _image,
    "file": _file,
    "input_audio": _audio,
}


def _openai_frame(total: _Sum, roles: list[str]) -> None:
    """Three tokens a message and the role's own, and three that lead to the answer."""
    total.fixed_tokens += 3 * len(roles) + 3
    for role in roles:
        total.put(role)


def _deepseek_frame(total: _Sum, roles: list[str]) -> None:
    """One begins the text and one each user's turn; two are between a user's turn, or a tool's
    result, and the assistant's, one of them for thinking or none; one ends the latter. A system's
    text stands alone.
    """
    total.fixed_tokens += 1
    for role, after in zip(roles, [*roles, "assistant"][1:], strict=True):
        if role in ("user", "developer"):
            total.fixed_tokens += 1
        if role == "assistant":
            total.fixed_tokens += 1
        elif role != "system" and after == "assistant":
            total.fixed_tokens += 2


# OpenAI does not tell what stands around a call of a tool; DeepSeek's encoding does.
_FRAMES: Mapping[str, _Frame] = {
    "openai": _Frame(_openai_frame, 8, 0, 10, a_name=1, effort_tells=False),
    "deepseek": _Frame(_deepseek_frame, 25, 7, 15, a_name=None, effort_tells=True),
}

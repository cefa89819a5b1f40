"""One request's fields on their way to a vendor: editing them, and naming what was changed.

Which edits a vendor needs is said in base.py and in the vendor's own file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, cast

import msgspec

from farebox.dialects.body import hides_letters
from farebox.dialects.chat_usual import WORDS
from farebox.errors import BadRequest

NULL: Final = b"null"
_UNFIT_FOR_HEADER = re.compile(r"[^!-~]|[,=]")
_RawList = list[msgspec.Raw]
_RawObject = dict[str, msgspec.Raw]


def mentions(data: bytes, needle: bytes) -> bool:
    """Whether JSON text may hold these bytes, letters and plain signs, in whatever way written.

    Cheap, and never wrong when it says no.
    """
    return needle in data or hides_letters(data)


class Body:
    """The top level of a request. What is not touched stays the bytes that came, in their order."""

    __slots__ = ("adjusted", "fields", "message_words", "messages_read")

    def __init__(
        self, fields: Mapping[str, msgspec.Raw], message_words: frozenset[bytes] | None = None
    ) -> None:
        self.fields: dict[str, object] = dict(fields)
        self.message_words = message_words  # as a Call has them; None: to be looked for
        self.messages_read = False  # whether anything may hang on more of them than their words
        self.adjusted: list[str] = []

    def raw(self, name: str) -> bytes:
        """A field as JSON; `null` if it is not there."""
        if name == "messages":
            self.messages_read = True
        value = self.fields.get(name)
        if value is None:
            return NULL
        return bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.raw(name) != NULL

    def messages_mention(self, word: bytes) -> bool:
        """Whether messages may have this role or member, a JSON string. Never wrong when it says
        no.
        """
        if self.message_words is not None and word in WORDS:
            return word in self.message_words
        return mentions(self.raw("messages"), word)

    def value(self, name: str) -> object:
        """A field decoded. Raises BadRequest if it is not JSON."""
        if name == "messages":
            self.messages_read = True
        value = self.fields.get(name)
        return decode(bytes(value), name) if isinstance(value, msgspec.Raw) else value

    def put(self, name: str, value: object) -> None:
        """Set a field: in its place if it is there, else at the end."""
        self.fields[name] = value

    def remove(self, name: str) -> bool:
        """Take a field out; whether it said something, which null does not."""
        if name not in self.fields:
            return False
        said = self.has(name)
        del self.fields[name]
        return said

    def note(self, field: str, what: str) -> None:
        """Name an adjustment for the header `x-farebox-adjusted`; the same one is named once."""
        adjustment = f"{_plain(field)}={what}"
        if adjustment not in self.adjusted:
            self.adjusted.append(adjustment)

    def drop(self, name: str) -> None:
        """Take a field out and say so."""
        if self.remove(name):
            self.note(name, "dropped")

    def encode(self) -> bytes:
        """The body to send."""
        return msgspec.json.encode(self.fields)

    def around(self, name: str) -> tuple[bytes, bytes]:
        """The body to send up to the value of this field, and what follows it."""
        names = list(self.fields)
        at = names.index(name)
        before = {each: self.fields[each] for each in names[:at]}
        after = {each: self.fields[each] for each in names[at + 1 :]}
        start = msgspec.json.encode({**before, name: 0}).removesuffix(b"0}")
        return start, (b"," if after else b"") + msgspec.json.encode(after).removeprefix(b"{")


@lru_cache(maxsize=1000)
def _plain(field: str) -> str:
    # Field names may be an operator's own words, and a header holds only plain ones.
    return _UNFIT_FOR_HEADER.sub("_", field)


def decode(data: bytes, param: str) -> object:
    """JSON as Python values. Raises BadRequest naming `param`."""
    try:
        return cast("object", msgspec.json.decode(data))
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(param) from error


def raw_list(data: bytes, param: str) -> _RawList | None:
    """The elements of a JSON array, undecoded; None for another type. Raises BadRequest."""
    if not data.startswith(b"["):
        return None
    try:
        return msgspec.json.decode(data, type=_RawList)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(param) from error


def raw_object(data: bytes, param: str) -> dict[str, object] | None:
    """The values of a JSON object, undecoded; None for another type. Raises BadRequest."""
    if not data.startswith(b"{"):
        return None
    try:
        return dict(msgspec.json.decode(data, type=_RawObject))
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(param) from error


def _unreadable(param: str) -> BadRequest:
    return BadRequest(
        f"'{param}' cannot be read: it holds broken UTF-8, a number out of range, "
        "or is nested too deep.",
        param=param,
    )


def _member(message: Mapping[str, object], name: str) -> bytes:
    value = message.get(name)
    return bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)


@dataclass(frozen=True, slots=True)
class MessageEdit:
    """A change to single messages: tried only on those whose JSON may hold `needle`, a role or the
    name of a member in its quotes.

    `apply` changes the message (its values undecoded) in place and tells what it did, as the part
    of the adjustment behind `messages.`, or None.
    """

    needle: bytes
    apply: Callable[[dict[str, object]], tuple[str, str] | None]


def edit_messages(body: Body, edits: tuple[MessageEdit, ...]) -> None:
    """Apply the edits to the messages that need them; the others stay the bytes that came."""
    wanted = [edit for edit in edits if body.messages_mention(edit.needle)]
    messages = raw_list(body.raw("messages"), "messages") if wanted else None
    if messages is None:
        return
    edited = False
    for at, message in enumerate(messages):
        changed = _edited(body, bytes(message), wanted)
        if changed is not None:
            messages[at] = changed
            edited = True
    if edited:
        body.put("messages", messages)


def _edited(body: Body, data: bytes, edits: list[MessageEdit]) -> msgspec.Raw | None:
    wanted = [edit for edit in edits if mentions(data, edit.needle)]
    message = raw_object(data, "messages") if wanted else None
    if message is None:
        return None
    done = [note for edit in wanted if (note := edit.apply(message)) is not None]
    for field, what in done:
        body.note(f"messages.{field}", what)
    return msgspec.Raw(msgspec.json.encode(message)) if done else None


def _developer_to_system(message: dict[str, object]) -> tuple[str, str] | None:
    if decode(_member(message, "role"), "messages") != "developer":
        return None
    message["role"] = "system"
    return "role", "developer->system"


def _drop(name: str, message: dict[str, object]) -> tuple[str, str] | None:
    if _member(message, name) == NULL:
        return None
    del message[name]
    return name, "dropped"


def _calls_tools(message: Mapping[str, object]) -> bool:
    return bool(raw_list(_member(message, "tool_calls"), "messages"))  # none in an empty list


def _add_reasoning(message: dict[str, object]) -> tuple[str, str] | None:
    if not _calls_tools(message) or _member(message, "reasoning_content") != NULL:
        return None
    message["reasoning_content"] = ""
    return "reasoning_content", "added"


def _fill_content(message: dict[str, object]) -> tuple[str, str] | None:
    if not _calls_tools(message) or _member(message, "content") != NULL:
        return None
    message["content"] = ""
    return "content", "added"


DEVELOPER_TO_SYSTEM: Final = MessageEdit(b'"developer"', _developer_to_system)
DROP_NAME: Final = MessageEdit(b'"name"', partial(_drop, "name"))
DROP_REASONING: Final = MessageEdit(b'"reasoning_content"', partial(_drop, "reasoning_content"))
ADD_REASONING: Final = MessageEdit(b'"tool_calls"', _add_reasoning)
FILL_CONTENT: Final = MessageEdit(b'"tool_calls"', _fill_content)

_SCHEMA_TEXT = (
    "Answer with one JSON object and nothing else. It must be valid against this JSON Schema:\n"
)


def json_schema_to_object(body: Body) -> None:
    """`response_format` json_schema as json_object, with the schema in the first system message."""
    if not mentions(body.raw("response_format"), b"json_schema"):
        return
    wanted = raw_object(body.raw("response_format"), "response_format") or {}
    if _member(wanted, "type") != b'"json_schema"':
        return
    messages = raw_list(body.raw("messages"), "messages")
    if messages is None:
        return  # the vendor will say what is wrong with it
    asked = raw_object(_member(wanted, "json_schema"), "response_format") or {}
    text = schema_text(_member(asked, "schema"))
    first = raw_object(bytes(messages[0]), "messages") if messages else None
    if first is not None and _append_to_system(first, text):
        messages[0] = msgspec.Raw(msgspec.json.encode(first))
    else:
        system = msgspec.json.encode({"role": "system", "content": text})
        messages.insert(0, msgspec.Raw(system))
    body.put("messages", messages)
    body.put("response_format", {"type": "json_object"})
    body.note("response_format", "json_object")


def schema_text(schema: bytes) -> str:
    """A JSON Schema as words to a model that knows no other way to be told; null: any object."""
    said = b'{"type":"object"}' if schema == NULL else schema
    return _SCHEMA_TEXT + said.decode(errors="replace")


def _append_to_system(message: dict[str, object], text: str) -> bool:
    # One system message rather than two: some chat templates take a single one, in front only.
    if decode(_member(message, "role"), "messages") not in ("system", "developer"):
        return False
    content = decode(_member(message, "content"), "messages")
    if isinstance(content, str):
        message["content"] = f"{content}\n\n{text}"
        return True
    if isinstance(content, list):
        message["content"] = [*cast("list[object]", content), {"type": "text", "text": text}]
        return True
    return False


def ask_for_usage(body: Body) -> None:
    """Have a stream end with its usage; other stream options stay as they are."""
    options = raw_object(body.raw("stream_options"), "stream_options") or {}
    if _member(options, "include_usage") == b"true":
        return
    options["include_usage"] = True
    body.put("stream_options", options)

"""Chat requests of the usual shape, read in one pass: messages of text and calls of functions.

To look for a word in a body costs about as much as to parse it, and there are ten to look for. Of
messages read here it is known without looking which there are. Whatever is unusual, or wrong, is
left to the ways that are for everything.
"""

from __future__ import annotations

from itertools import count
from struct import Struct
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from farebox.core.known import Known
from farebox.dialects.body import LARGE_BYTES, check_text, decode_checked
from farebox.dialects.chat_envelope import (
    COUNTED,
    Asked,
    Envelope,
    read_envelope,
    refuse_near_names,
)
from farebox.errors import BadRequest

_MESSAGES = b'"messages":[{'
_KEY_BYTES = _MESSAGES.index(b"[")
_NO_MESSAGES = b"[]"
_NOTHING = msgspec.Raw(b"")
_NULL = msgspec.Raw(b"null")
_QUOTE = ord('"')
_first_byte = Struct("B").unpack_from  # of a Raw: in half the time of a memoryview
_COPIED_BYTES = 16 * 1024  # of a body: to copy that much takes less time than to have a view of it


class _Shape(msgspec.Struct, forbid_unknown_fields=True, eq=False, gc=False):
    pass


class _Mark(_Shape):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | UnsetType = UNSET


class _Part(_Shape):
    type: Literal["text"]
    text: msgspec.Raw
    cache_control: _Mark | UnsetType = UNSET


class _Function(_Shape):
    name: str
    arguments: msgspec.Raw


class _FunctionCall(_Shape):
    id: str
    type: Literal["function"]
    function: _Function


class _Message(_Shape):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: msgspec.Raw | UnsetType = UNSET
    name: str | UnsetType = UNSET
    tool_calls: list[_FunctionCall] | UnsetType | None = UNSET
    tool_call_id: str | UnsetType = UNSET
    reasoning_content: msgspec.Raw | UnsetType = UNSET
    # Clients that send an answer back as they got it send these too.
    refusal: msgspec.Raw | UnsetType = UNSET
    annotations: Annotated[list[None], msgspec.Meta(max_length=0)] | UnsetType = UNSET
    audio: UnsetType | None = UNSET
    function_call: UnsetType | None = UNSET


class _Body(msgspec.Struct, gc=False):
    messages: list[_Message]


_BODY = msgspec.json.Decoder(_Body)
_ASKED = msgspec.json.Decoder(Asked)
_PARTS = msgspec.json.Decoder(list[_Part])
_encode = msgspec.json.encode

# What vendors differ on: what is looked for when messages are edited.
_DEVELOPER, _NAME, _REASONING = b'"developer"', b'"name"', b'"reasoning_content"'
_TOOL_CALLS = b'"tool_calls"'
WORDS = frozenset((_DEVELOPER, _NAME, _REASONING, _TOOL_CALLS))
"""A role and members of messages; of usual messages it is known which of them there are."""

_NO_WORDS: frozenset[bytes] = frozenset()

# By what a body is before its messages, and behind them: clients mostly send the same around
# others. Large ones hold a hundred tools.
KnownEnvelopes = Known[tuple[bytes, bytes], Envelope]
KNOWN = KnownEnvelopes(most=1000, most_bytes=4 * 1024 * 1024)
_FIELD_BYTES = 160  # of memory, for its name and Raw
_NUMBERS = count(1)

Usual = tuple[Envelope, dict[str, msgspec.Raw], frozenset[bytes]]
"""A request of the usual shape: its envelope, its fields as body.py gives them, and which of WORDS
its messages have.
"""


def read_usual(body: bytes, known: KnownEnvelopes = KNOWN) -> Usual | None:
    """A request whose messages are written without blanks, and are text and calls of functions
    alone, with no key twice; None for every other. Raises BadRequest and TooLarge as
    decode_fields(), refuse_near_names() and read_envelope() do, which an envelope that is known
    has passed before.
    """
    found = body.find(_MESSAGES)
    if found < 0:
        return None
    start = found + _KEY_BYTES
    if len(body) > LARGE_BYTES or not body.isascii():  # else there is nothing to be checked
        check_text(body)
    try:
        size_bytes, words = _survey(_BODY.decode(body).messages)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    # Were the list longer in the body than when it is made anew of its pieces, for a blank or a key
    # that comes twice, then what follows it here would begin within it. That is no end of a JSON
    # object: it closes too much, or has a quote too many.
    end = start + size_bytes
    around = body[:start], body[end:]
    envelope = known.find(around) or _read_unknown(around, len(body), known)
    if envelope is None:
        return None
    fields = dict(envelope.fields)
    messages = body[start:end] if len(body) <= _COPIED_BYTES else memoryview(body)[start:end]
    fields["messages"] = msgspec.Raw(messages)
    return envelope, fields, words


def _read_unknown(
    around: tuple[bytes, bytes], size_bytes: int, known: KnownEnvelopes
) -> Envelope | None:
    """The envelope of a body of that size, to be known from the second time on; None if that is
    for the general way to read. Raises BadRequest.
    """
    body = _NO_MESSAGES.join(around)
    try:
        fields, asked = decode_checked(body), _ASKED.decode(body)
    except (msgspec.MsgspecError, BadRequest, ValueError, RecursionError):
        return None
    if bytes(fields.get("messages", b"")) != _NO_MESSAGES:
        return None  # what was found is a key of that name further within
    refuse_near_names(fields, COUNTED)
    envelope = read_envelope(fields, asked)
    # What is large is read in another thread.
    if size_bytes <= LARGE_BYTES and known.has_come(around):
        numbered = replace(envelope, number=next(_NUMBERS))
        if known.keep(around, numbered, len(body) + _FIELD_BYTES * len(fields)):
            return numbered
    return envelope


def _survey(messages: list[_Message]) -> tuple[int, frozenset[bytes]]:
    """The bytes of the messages as JSON without blanks, and which words there are. Raises
    ValueError if something is no text where it usually is. Takes their content out.
    """
    words = _NO_WORDS
    size_bytes = 0
    texts: list[msgspec.Raw] = []
    for message in messages:
        content = message.content
        if content is not UNSET:
            # As _is_text(), but every message has one: a call would take longer than the question.
            if _first_byte(content)[0] != _QUOTE and content != _NULL:
                texts += _within(content)
            size_bytes += len(content)
            message.content = _NOTHING
        if message.role == "developer":
            words |= {_DEVELOPER}
        if message.name is not UNSET:
            words |= {_NAME}
        if message.reasoning_content is not UNSET:
            words |= {_REASONING}
            texts.append(message.reasoning_content)
        if message.refusal is not UNSET:
            texts.append(message.refusal)
        if message.tool_calls:
            words |= {_TOOL_CALLS}
            texts += [call.function.arguments for call in message.tool_calls]
    if texts and not all(map(_is_text, texts)):
        raise ValueError("more than text")
    return size_bytes + len(_encode(messages)), words


def _is_text(value: msgspec.Raw) -> bool:
    """Whether it is a string, or null."""
    return _first_byte(value)[0] == _QUOTE or value == _NULL


def _within(content: msgspec.Raw) -> list[msgspec.Raw]:
    """The texts of the parts that a content is a list of. Raises ValueError and MsgspecError if it
    is another list, or none.
    """
    parts = _PARTS.decode(content)
    if len(_encode(parts)) != len(content):
        raise ValueError("blanks, or a key that comes twice")
    return [part.text for part in parts]

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
_NO_MESSAGES = b"[]"
_NOTHING = msgspec.Raw(b"")
_TEXTS = frozenset(((ord('"'),), (ord("n"),)))  # how strings and null begin
_first_byte = Struct("B").unpack_from  # of a Raw: in half the time of a memoryview
_LIST = (ord("["),)


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


class _Body(Asked, kw_only=True):
    messages: list[_Message]


_BODY = msgspec.json.Decoder(_Body)
_PARTS = msgspec.json.Decoder(list[_Part])
_encode = msgspec.json.encode

# What vendors differ on: what is looked for when messages are edited.
_DEVELOPER, _NAME, _REASONING = b'"developer"', b'"name"', b'"reasoning_content"'
_TOOL_CALLS = b'"tool_calls"'
WORDS = frozenset((_DEVELOPER, _NAME, _REASONING, _TOOL_CALLS))
"""A role and members of messages; of usual messages it is known which of them there are."""


# By where the messages begin, and the body without them: clients mostly send the same again around
# other messages. Large ones hold a hundred tools.
KnownEnvelopes = Known[tuple[int, bytes], Envelope]
KNOWN = KnownEnvelopes(most=1000, most_bytes=4 * 1024 * 1024)
_FIELD_BYTES = 160  # of memory, for its name and Raw
_NUMBERS = count(1)


class Usual(msgspec.Struct, frozen=True, gc=False):
    """A request of the usual shape: its envelope, its fields as body.py gives them, and which of
    WORDS its messages have.
    """

    envelope: Envelope
    fields: dict[str, msgspec.Raw]
    words: frozenset[bytes]


def read_usual(body: bytes, known: KnownEnvelopes = KNOWN) -> Usual | None:
    """A request whose messages are written without blanks, and are text and calls of functions
    alone, with no key twice; None for every other. Raises BadRequest and TooLarge as
    decode_fields(), refuse_near_names() and read_envelope() do, which an envelope that is known
    has passed before.
    """
    found = body.find(_MESSAGES)
    if found < 0:
        return None
    start = found + _MESSAGES.index(b"[")
    check_text(body)
    try:
        asked = _BODY.decode(body)
        size_bytes, words = _survey(asked.messages)
        # Were the list longer in the body than when it is made anew of its pieces, for a blank or
        # a key that comes twice, then what follows it here would begin within it. That is no end
        # of a JSON object: it closes too much, or has a quote too many.
        end = start + size_bytes
        rest = body[:start] + _NO_MESSAGES + body[end:]
        key = start, rest
        envelope = known.find(key)
        fields = decode_checked(rest) if envelope is None else dict(envelope.fields)
    except (msgspec.MsgspecError, BadRequest, ValueError, RecursionError):
        return None
    if envelope is None:
        if bytes(fields.get("messages", b"")) != _NO_MESSAGES:
            return None  # what was found is a key of that name further within
        refuse_near_names(fields, COUNTED)
        envelope = read_envelope(fields, asked)
        # What is large is read in another thread.
        if len(body) <= LARGE_BYTES and known.has_come(key):
            numbered = replace(envelope, fields=dict(fields), number=next(_NUMBERS))
            if known.keep(key, numbered, len(rest) + _FIELD_BYTES * len(fields)):
                envelope = numbered
    fields["messages"] = msgspec.Raw(memoryview(body)[start:end])
    return Usual(envelope, fields, words)


def _survey(messages: list[_Message]) -> tuple[int, frozenset[bytes]]:
    """The bytes of the messages as JSON without blanks, and which words there are. Raises
    ValueError if something is no text where it usually is. Takes their content out.
    """
    words: set[bytes] = set()
    size_bytes = 0
    contents: list[msgspec.Raw] = []
    texts: list[msgspec.Raw] = []
    for message in messages:
        content = message.content
        if content is not UNSET:
            contents.append(content)
            size_bytes += len(content)
            message.content = _NOTHING
        if message.role == "developer":
            words.add(_DEVELOPER)
        if message.name is not UNSET:
            words.add(_NAME)
        if message.reasoning_content is not UNSET:
            words.add(_REASONING)
            texts.append(message.reasoning_content)
        if message.refusal is not UNSET:
            texts.append(message.refusal)
        if message.tool_calls:
            words.add(_TOOL_CALLS)
            texts += [call.function.arguments for call in message.tool_calls]
    if not _are_texts(contents):
        texts += _within(contents)
    if texts and not _are_texts(texts):
        raise ValueError("more than text")
    return size_bytes + len(_encode(messages)), frozenset(words)


def _are_texts(values: list[msgspec.Raw]) -> bool:
    """Whether all of them are strings or null."""
    return _TEXTS.issuperset(map(_first_byte, values))


def _within(contents: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """The same contents, with the texts of its parts in place of each that is a list. Raises
    ValueError and MsgspecError for other lists.
    """
    values: list[msgspec.Raw] = []
    for content in contents:
        if _first_byte(content) != _LIST:
            values.append(content)
            continue
        parts = _PARTS.decode(content)
        if len(_encode(parts)) != len(content):
            raise ValueError("blanks, or a key that comes twice")
        values += [part.text for part in parts]
    return values

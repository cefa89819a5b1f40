"""A JSON body's top level as raw values: decoding, and reading single fields with clear errors.

Nothing below the top level is decoded here, so that unknown fields pass through as they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from farebox.errors import BadRequest, TooLarge

Fields = Mapping[str, msgspec.Raw]
T = TypeVar("T")

LARGE_BYTES = 512 * 1024  # work on more is for a thread: it takes milliseconds, at worst seconds
_MAX_KEYS = 1000  # many times what any protocol has; each costs a microsecond or two
# A comma in a text is about a token, and no model takes this many. Between values it is a value,
# and values are read as objects fifty times their size.
_MAX_COMMAS = 2_500_000

_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Possessive: a key may be megabytes long, and giving back would need memory for each byte of it.
_KEY = re.compile(rb'\s*+("(?:[^"\\]++|\\.)*+")\s*+:\s*+')
_SHOWN_CHARS = 100  # of a key in an error
_NEXT = re.compile(rb"\s*([,}])")
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")  # or an underscore: all that names are made of


def decode_fields(body: bytes) -> dict[str, msgspec.Raw]:
    """The top level of a JSON object in UTF-8. Raises BadRequest; also for a key that stands
    twice, and for more values than any model could take.
    """
    check_text(body)
    return decode_checked(body)


def decode_checked(body: bytes) -> dict[str, msgspec.Raw]:
    """The same for what check_text() has let through."""
    try:
        fields = _TOP.decode(body)
    except msgspec.ValidationError:
        raise BadRequest('The body must be a JSON object, such as {"model": …}.') from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply. Keep it below 1000 levels.") from None
    if len(fields) > _MAX_KEYS:
        raise BadRequest(
            f"The body has {len(fields)} keys on its top level. Send at most {_MAX_KEYS}."
        )
    duplicate = _duplicate_key(body, fields)
    if duplicate is not None:
        key = duplicate[:_SHOWN_CHARS]
        raise BadRequest(f"The key {key!r} stands twice in the body. Send it once.", param=key)
    return fields


def check_text(body: bytes) -> None:
    """Raises BadRequest for what is no UTF-8, and TooLarge for more than any model could take."""
    if len(body) > _MAX_COMMAS and body.count(b",") > _MAX_COMMAS:
        raise TooLarge(f"The body has more than {_MAX_COMMAS} values or commas. Send fewer.")
    # msgspec.Raw keeps bytes unread, so what is inside must be checked to be UTF-8.
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"The body is not valid UTF-8 (byte {error.start}). Send JSON encoded as UTF-8."
        ) from None


def _duplicate_key(body: bytes, fields: Fields) -> str | None:
    # What is priced must be what is sent, and parsers differ on which of two equal keys counts.
    plain_bytes = 1 + len(fields)
    for key, value in fields.items():
        plain_bytes += len(key) + len(value) + 3
    if plain_bytes == len(body) and "".join(fields).isascii():
        return None  # compact JSON, as most clients send it: there is no room for a second key
    return _walk_for_duplicate(body, fields)


def _walk_for_duplicate(body: bytes, fields: Fields) -> str | None:
    seen: set[str] = set()
    position = body.index(b"{") + 1
    for _ in range(len(fields)):
        match = _KEY.match(body, position)
        if match is None:
            return None
        key = msgspec.json.decode(match[1], type=str)
        end = match.end() + len(fields[key])
        # The value kept is the last one, so an earlier one of the same key may differ in its
        # length.
        if key in seen or body[match.end() : end] != bytes(fields[key]):
            return key
        seen.add(key)
        after = _NEXT.match(body, end)
        if after is None:
            return key  # a longer number, which begins like the one kept: 12 and then 1
        if after[1] == b"}":
            return None
        position = after.end()
    match = _KEY.match(body, position)
    return None if match is None else msgspec.json.decode(match[1], type=str)


def hides_letters(data: bytes) -> bool:
    """Whether JSON text writes some plain letter as an escape, so that a name in it may not be
    found by its bytes. Nobody has a reason to, but JSON allows it.
    """
    return b"\\u00" in data and _ESCAPED_LETTER.search(data) is not None


def read_field(fields: Fields, name: str, kind: type[T], meaning: str) -> T | None:
    """One field as this type, None if it is absent or null. Raises BadRequest that names it."""
    raw = fields.get(name)
    if raw is None:
        return None
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind | None)  # type: ignore[arg-type]
    try:
        return decoder.decode(raw)
    except msgspec.MsgspecError as error:
        inside = str(error).partition(" - at `$")[2].rstrip("`")
        told = f"; look at {name}{inside}" if inside else f", not {_kind(bytes(raw))}"
        raise BadRequest(
            f"{name!r} must be {meaning}{told}.", param=name, code="invalid_value"
        ) from None
    except RecursionError:
        raise BadRequest(f"{name!r} is nested too deeply.", param=name) from None


def _kind(value: bytes) -> str:
    """A JSON value in a word or two; numbers, true and false as they are."""
    kinds = {b'"': "a string", b"[": "a list", b"{": "an object"}
    return kinds.get(value[:1]) or value[:_SHOWN_CHARS].decode("ascii", "replace")


def read_count(fields: Fields, name: str, most: int) -> int | None:
    """A field that is a whole number from 1 to `most`, None if absent or null. Raises
    BadRequest.
    """
    value = read_field(fields, name, int, "a whole number")
    if value is not None and not 1 <= value <= most:
        raise BadRequest(
            f"{name!r} must be between 1 and {most}, not {value}.", param=name, code="invalid_value"
        )
    return value

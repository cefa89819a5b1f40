"""Top-level fields of another dialect's request on their way to chat: what every translation of
one does with them.

Which fields there are, and what they mean, is the translations' business.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from farebox.dialects.body import Fields
from farebox.dialects.raw import to_raw
from farebox.dialects.values import Object
from farebox.errors import BadRequest

_NOTE_CHARS = 100


def value_of(fields: Fields, name: str) -> object:
    """A field decoded, None if it is not there. Raises BadRequest."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"'{name}' cannot be read: {error}.", param=name, code="invalid_value"
        ) from None


def encoded(body: Object) -> dict[str, msgspec.Raw]:
    """The fields of a body, as a Call has them."""
    return {name: to_raw(value) for name, value in body.items()}


def extensions(
    fields: Fields, known: frozenset[str], chats_own: frozenset[str]
) -> tuple[dict[str, msgspec.Raw], list[str]]:
    """What vendors know beyond both APIs passes as it came; and the names of what must not pass,
    since chat would take it for its own, or some upstream for what is known, whatever its case.
    """
    passed: dict[str, msgspec.Raw] = {}
    refused: list[str] = []
    for name, raw in fields.items():
        if name in known:
            continue
        plain = name.casefold()
        if plain in known or plain in chats_own:
            refused.append(name)
        else:
            passed[name] = raw
    return passed, refused


def notes(names: Iterable[str]) -> tuple[str, ...]:
    """What was left out, each name once, fit for a header: `tools.web_search=dropped`."""
    plain = (
        "".join(c if c.isascii() and c.isprintable() and c not in " ,=" else "_" for c in name)
        for name in dict.fromkeys(names)
    )
    return tuple(dict.fromkeys(f"{name[:_NOTE_CHARS]}=dropped" for name in plain))

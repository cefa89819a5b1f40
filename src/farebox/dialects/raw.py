"""Parts of a request that stay JSON text: read where something in them must be known, and made anew
where something changes.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from farebox.errors import BadRequest

T = TypeVar("T")


def read_raw(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw, path: str, wanted: str) -> T:
    """What a decoder makes of a part; `path` is where it stands. Raises BadRequest."""
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BadRequest(f"'{path}' must be {wanted}.", param=path, code="invalid_value") from None


def to_raw(value: object) -> msgspec.Raw:
    """A value as JSON text."""
    return msgspec.Raw(msgspec.json.encode(value))

"""What a worker and the counting process say to each other, as bytes. No I/O.

A frame is four bytes of length, eight of a number that the worker chose, and MessagePack: a request
is `[vocabulary, [text, …]]`, its answer the number of tokens or null.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

HEAD_BYTES = 12
ANSWER_LIMIT_S = 10.0  # the process may have to be started, and to load; large texts take seconds
MAX_TEXT_BYTES = 8 * 1024 * 1024  # of one request: more than any model takes
MAX_FRAME_BYTES = 2 * MAX_TEXT_BYTES  # each text takes up to five bytes beside its own

_HEAD = struct.Struct(">IQ")
_ENCODER = msgspec.msgpack.Encoder()
_REQUEST = msgspec.msgpack.Decoder(tuple[str, list[str]])
_ANSWER = msgspec.msgpack.Decoder(int | None)


class WireError(Exception):
    """What arrived is no frame of ours."""


def pack(vocabulary: str, texts: Sequence[str]) -> bytes:
    """A request's payload. It copies all of the texts, so for long ones it is for a thread."""
    return _ENCODER.encode((vocabulary, texts))


def unpack(payload: bytes) -> tuple[str, list[str]]:
    """What `pack` made. Raises WireError."""
    try:
        return _REQUEST.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(str(error)) from error


def answer(tokens: int | None) -> bytes:
    """An answer's payload."""
    return _ENCODER.encode(tokens)


def read_answer(payload: bytes) -> int | None:
    """What `answer` made. Raises WireError."""
    try:
        return _ANSWER.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(str(error)) from error


def frame(number: int, payload: bytes) -> bytes:
    """The payload with its head."""
    return _HEAD.pack(len(payload), number) + payload


def read_head(head: bytes) -> tuple[int, int]:
    """The payload's length and the request's number. Raises WireError."""
    size_bytes, number = _HEAD.unpack(head)
    if size_bytes > MAX_FRAME_BYTES:
        raise WireError(f"A frame of {size_bytes} bytes; {MAX_FRAME_BYTES} is the most.")
    return size_bytes, number

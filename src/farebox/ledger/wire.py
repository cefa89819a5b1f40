"""What a worker and its ledger process say to each other, as bytes. No I/O.

A frame is four bytes of length and MessagePack: a list of the structs of billing.messages, all that
one side had to say in one turn of its loop. What they mean is billing's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from farebox.billing.messages import Answer, Request

HEAD_BYTES = 4
MAX_MESSAGES = 1000  # in a frame: more are sent in several, so that neither side is held up
MAX_FRAME_BYTES = 64 * 1024 * 1024  # a Resume with some 500,000 calls in flight

_ENCODER = msgspec.msgpack.Encoder()
_T = TypeVar("_T")


class WireError(Exception):
    """What arrived is no frame of ours."""


def frames(messages: Sequence[Request] | Sequence[Answer]) -> bytes:
    """The messages in order, in as few frames as may be."""
    if len(messages) <= MAX_MESSAGES:
        return _frame(messages)
    return b"".join(
        _frame(messages[start : start + MAX_MESSAGES])
        for start in range(0, len(messages), MAX_MESSAGES)
    )


def _frame(messages: Sequence[Request] | Sequence[Answer]) -> bytes:
    payload = _ENCODER.encode(messages)
    return len(payload).to_bytes(HEAD_BYTES, "big") + payload


class Reader(Generic[_T]):
    """Finds the messages in bytes that come in pieces of any size."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[list[_T]]) -> None:
        self._decoder = decoder
        self._rest = bytearray()
        self._wanted = HEAD_BYTES  # before there is anything to be looked at

    def feed(self, data: bytes) -> list[_T]:
        """The messages of the frames that are whole now. Raises WireError."""
        if not self._rest:
            messages, used = self._read(data)
            if used < len(data):
                self._rest += data[used:]
            return messages
        self._rest += data
        if len(self._rest) < self._wanted:
            return []
        # A copy, once a frame: a bytearray that is being read cannot be made shorter.
        messages, used = self._read(bytes(self._rest))
        del self._rest[:used]
        return messages

    def _read(self, data: bytes) -> tuple[list[_T], int]:
        """The messages, and how many bytes they took."""
        messages: list[_T] = []
        start, end = 0, len(data)
        self._wanted = HEAD_BYTES
        while end - start >= HEAD_BYTES:
            size = int.from_bytes(data[start : start + HEAD_BYTES], "big")
            if size > MAX_FRAME_BYTES:
                raise WireError(f"A frame of {size} bytes; {MAX_FRAME_BYTES} is the most.")
            stop = start + HEAD_BYTES + size
            if stop > end:
                self._wanted = HEAD_BYTES + size
                break
            try:
                messages += self._decoder.decode(data[start + HEAD_BYTES : stop])
            except msgspec.MsgspecError as error:
                raise WireError(str(error)) from error
            start = stop
        return messages, start


def request_reader() -> Reader[Request]:
    """For the ledger's side."""
    return Reader(_REQUESTS)


def answer_reader() -> Reader[Answer]:
    """For the worker's side."""
    return Reader(_ANSWERS)


_REQUESTS = msgspec.msgpack.Decoder(list[Request])
_ANSWERS = msgspec.msgpack.Decoder(list[Answer])

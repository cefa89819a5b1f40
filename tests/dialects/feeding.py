"""How tests feed streams: as the relay does, in pieces of any length."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from hypothesis import strategies as st

from farebox.core.usage import Usage
from farebox.dialects.interpreter import Stream
from farebox.errors import UpstreamFailed


def feed(stream: Stream, *parts: bytes) -> bytes:
    """What leaves before the tail; it is fed to the end, or until nothing more can matter."""
    sent = b""
    for part in parts:
        if stream.finished:
            break
        sent += stream.feed(part)
    return sent if stream.finished else sent + stream.end()


def is_good(stream: Stream) -> bool:
    """Whether it ended as an answer does, so that a tail may follow."""
    return stream.ending and stream.failure is None and stream.error is None


def reason_of(stream: Stream) -> str | None:
    """Why it failed, if it did."""
    failure = stream.failure
    assert failure is None or isinstance(failure, UpstreamFailed)
    return failure and failure.reason


@dataclass(frozen=True)
class Passed:
    """What a stream gave: bytes that left before the commit, the tail, and what it knows."""

    sent: bytes
    tail: bytes
    failure: str | None
    error: Any
    stream: Any

    @classmethod
    def of(cls, stream: Any, parts: Iterable[bytes], usage: Usage) -> Self:
        """What one gives of these parts, with a tail for this usage if it ended well."""
        sent = feed(stream, *parts)
        tail = stream.tail(usage) if is_good(stream) else b""
        return cls(sent, tail, reason_of(stream), stream.error, stream)


def cut(body: bytes, most: int = 6) -> st.SearchStrategy[list[bytes]]:
    """A body in pieces, cut in up to so many places; some of the pieces may be empty."""
    return st.lists(st.integers(0, len(body)), max_size=most).map(
        lambda places: [
            body[start:end]
            for start, end in zip([0, *sorted(places)], [*sorted(places), len(body)], strict=True)
        ]
    )

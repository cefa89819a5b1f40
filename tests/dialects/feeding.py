"""How tests feed streams: as the relay does, in pieces of any length."""

from __future__ import annotations

from hypothesis import strategies as st

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


def cut(body: bytes, most: int = 6) -> st.SearchStrategy[list[bytes]]:
    """A body in pieces, cut in up to so many places; some of the pieces may be empty."""
    return st.lists(st.integers(0, len(body)), max_size=most).map(
        lambda places: [
            body[start:end]
            for start, end in zip([0, *sorted(places)], [*sorted(places), len(body)], strict=True)
        ]
    )

"""Server-sent events, sans-I/O: bytes in any pieces become whole events, no byte changed or lost.

What an event means is the dialects' business. Source: the HTML standard, "Server-sent events".
"""

from __future__ import annotations

import re

# A blank line ends an event; a line ends with CRLF, LF or CR. (`?+`: a CRLF is never halved.)
_BLANK_LINE = re.compile(rb"(?:\n|\r\n?+)(?:\n|\r\n?+)")
_LINE = re.compile(rb"\r\n|\n|\r")
_USUAL_BYTES = 4096  # of an event
_LF, _CR = b"\n\r"  # as numbers: to look for bytes in bytes costs an exception
_BOM = b"\xef\xbb\xbf"

Event = tuple[bytes, bytes | None]
"""An event's bytes as they came, its blank line included, and its data (None: it has none, a
comment).
"""


class EventTooLarge(ValueError):
    """An event is larger than the limit; the stream cannot be read on."""


class Splitter:
    """Splits a stream into events, wherever the reads cut it. Nothing is scanned twice."""

    __slots__ = ("_at_start", "_limit_bytes", "_scanned", "kept")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.kept = bytearray()  # of an event whose end has not come
        self._scanned = 0
        self._at_start = True

    def take_kept(self) -> bytes:
        """What is kept, to be fed again with what follows."""
        if not self.kept:
            return b""
        kept = bytes(self.kept)
        self.kept.clear()
        self._scanned = 0
        return kept

    def feed(self, data: bytes) -> list[Event]:
        """The events that this piece completes. Raises EventTooLarge."""
        buffer: bytes | bytearray = data
        if self.kept:
            self.kept += data
            buffer = self.kept
        events: list[Event] = []
        start = 0
        position = self._scanned
        while position < len(buffer) and (end := _event_end(buffer, position)):
            self._append(events, bytes(buffer[start:end]))
            start = position = end
        self._keep(buffer, start)
        return events

    def close(self) -> list[Event]:
        """What was left at the stream's end, as an event: some servers forget the last blank
        line. It is added, since another event may be sent behind this one.
        """
        rest = bytes(self.kept).rstrip(b"\r\n")
        self.kept = bytearray()
        events: list[Event] = []
        if rest.strip():
            self._append(events, rest + b"\n\n")
        return events

    def _append(self, events: list[Event], raw: bytes) -> None:
        if self._at_start:
            self._at_start = False
            events.append((raw, event_data(raw.removeprefix(_BOM))))
        else:
            events.append((raw, event_data(raw)))

    def _keep(self, buffer: bytes | bytearray, start: int) -> None:
        if buffer is self.kept:
            del self.kept[:start]
        elif start < len(buffer):
            self.kept += memoryview(buffer)[start:]
        if len(self.kept) > self._limit_bytes:
            raise EventTooLarge(f"An event is larger than {self._limit_bytes} bytes.")
        # A blank line may have begun in the last three bytes.
        self._scanned = max(0, len(self.kept) - 3)


def _event_end(buffer: bytes | bytearray, position: int) -> int:
    """Where the first event that ends after `position` ends; 0 if none does yet."""
    # Only so far that a stream with other line ends is not read to its end for each event.
    end = buffer.find(b"\n\n", position, position + _USUAL_BYTES)
    if end >= 0 and buffer.find(b"\r", position, end) < 0:
        return end + 2  # nearly every event there is
    match = _BLANK_LINE.search(buffer, position)
    if match is None or (match.end() == len(buffer) and buffer[-1] == 13):
        return 0  # a CR at the end may be the first half of a CRLF
    return match.end()


def event_data(raw: bytes) -> bytes | None:
    """The data of one event: its `data` lines joined by LF, or None."""
    if raw.startswith(b"data: ") and raw.endswith(b"\n\n"):
        data = raw[6:-2]
        if _LF not in data and _CR not in data:
            return data  # nearly every event there is
    lines: list[bytes] = []
    for line in _LINE.split(raw):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None


def event(data: bytes) -> bytes:
    """An event of these data, a `data` line for each of theirs (which end with LF)."""
    return b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"

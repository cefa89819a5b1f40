"""The lines that an answer's head is put together from by the fast lane, each made once: those of a
status are the same for a second, and most others in most answers. And those before chunks.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE

_MOST_LINES = 1000  # that are kept: of figures, such as a body's length, there is no end


class FirstLines(dict[int, bytes]):
    """What a head of each status begins with, while the server has the same headers for all."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        """`headers`: the list itself, which the server replaces when anything in it changes."""
        super().__init__()
        self.headers = headers

    def __missing__(self, status: int) -> bytes:
        lines = self[status] = b"".join((STATUS_LINE[status], *map(line, self.headers)))
        return lines


class _Lines(dict[tuple[bytes, bytes], bytes]):
    """The line of each header, a name in lower case and a value. Raises RuntimeError for a value
    that is no line, with the words of uvicorn.
    """

    def __missing__(self, header: tuple[bytes, bytes]) -> bytes:
        if HEADER_VALUE_RE.search(header[1]):
            raise RuntimeError("Invalid HTTP header value.")
        if len(self) >= _MOST_LINES:
            self.clear()
        made = self[header] = b"%b: %b\r\n" % header
        return made


line = _Lines().__getitem__


class _SizeLines(dict[int, bytes]):
    """What stands before a chunk of so many bytes (RFC 9112, 7.1)."""

    def __missing__(self, size_bytes: int) -> bytes:
        if len(self) >= _MOST_LINES:
            self.clear()
        made = self[size_bytes] = b"%x\r\n" % size_bytes
        return made


size_lines = _SizeLines()

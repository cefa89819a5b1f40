"""What the head of a request may be and says, and heads that are known.

A client mostly sends the same head again, but for the digits of its Content-Length. So one that has
passed every check is remembered by its bytes, and the same bytes with other digits are not read
again: whoever read them would find the same.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from farebox.core.known import Known
from farebox.errors import BadRequest

HOP = b"x-farebox-hop"  # written by vendors/
UNCODED = (b"", b"identity")  # content codings that leave a body as it is
_LENGTH = b"content-length"
_KEYS = (b"authorization", b"x-api-key")
_VERSIONS = ("1.1", "1.0")
_MAX_HEADERS = 200  # clients behind several proxies send fifty
_END = b"\r\n\r\n"
_MAX_KNOWN_BYTES = 4096  # of a head that is remembered
_MOST_KNOWN = 1000
_MAX_DIGITS = 12  # of a length that is read here: a terabyte

Headers = list[tuple[bytes, bytes]]
R = TypeVar("R")


class HeadTooLarge(BadRequest):
    """431: the request line and headers are larger than what is read."""

    status = 431
    code = "request_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The request's URL and headers are larger than {limit_bytes} bytes or more than "
            f"{_MAX_HEADERS}."
        )


def check_head(method: bytes, url: bytes, version: str, headers: Headers, limit_bytes: int) -> None:
    """Raise BadRequest for a head that the parser lets through and that must not be served."""
    size, hosts, keys = len(url), 0, list[bytes]()
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"host":
            hosts += 1
        elif name in _KEYS:
            keys.append(name)
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise BadRequest("No transfer-encoding but chunked is read here.")
    if size > limit_bytes or len(headers) > _MAX_HEADERS:
        raise HeadTooLarge(limit_bytes)
    if version not in _VERSIONS:
        raise BadRequest(f"HTTP/{version} is not spoken here. Use HTTP/1.1.")
    if hosts > 1 or (version == "1.1" and not hosts):
        raise BadRequest("The request must have one Host header.")
    if len(set(keys)) < len(keys):
        # Whoever looked at the other one on the way saw another caller.
        raise BadRequest("The request has two Authorization headers, or two x-api-key. Send one.")
    if method == b"CONNECT":
        raise BadRequest("This is no proxy: CONNECT is not served here.")


class Head:
    """What a head says to those who serve its request."""

    __slots__ = ("coding", "fields", "has_parts", "headers", "hops", "is_plain", "keys")

    def __init__(self, headers: Headers) -> None:
        """`headers` as they came, names in lower case."""
        self.headers = headers
        self.fields = fields = dict(headers)  # by name, the last of each
        self.keys = fields.get(_KEYS[0], b""), fields.get(_KEYS[1], b"")  # what auth.py reads
        self.hops = tuple(value for name, value in headers if name == HOP)
        self.coding = fields.get(b"content-encoding", b"").strip().lower()
        self.has_parts = fields.get(b"content-type", b"").lower().startswith(b"multipart/")
        self.is_plain = self.coding in UNCODED and not self.has_parts  # the body, as it comes

    @property
    def length_bytes(self) -> int | None:
        """Of the body, as the head says it; None if that is not said."""
        length = self.fields.get(_LENGTH)
        return None if length is None else int(length)  # the parser lets digits only through


class KnownHead(msgspec.Struct, Generic[R], frozen=True):
    """What a head that is known says, but for its Content-Length, and what stands around that."""

    before: bytes
    before_bytes: int
    after: bytes
    after_bytes: int
    head: Head
    route: R  # whatever its URL names to those who serve it


class KnownHeads(Generic[R]):
    """Those of one worker. One is known from the second time that it came: with some clients, or
    proxies before them, no head is ever the same.
    """

    def __init__(self) -> None:
        most_bytes = _MOST_KNOWN * _MAX_KNOWN_BYTES
        # By what stands around the length.
        self._known = Known[tuple[bytes, bytes], KnownHead[R]](_MOST_KNOWN, most_bytes)

    def find(
        self, data: bytes, latest: KnownHead[R] | None = None
    ) -> tuple[KnownHead[R], int, int] | None:
        """The known head that `data` begin with, how long the body is, and where it stands in them.
        None if they begin with another head, or not with a whole one. `latest` is the one that came
        last on their connection: mostly it comes again, and is known without being looked for.
        """
        if latest is not None:
            place, after, after_bytes = latest.before_bytes, latest.after, latest.after_bytes
            # By slices: the methods of bytes that take places take twice as long.
            if data[:place] == latest.before:
                digits, found, _ = data[place : place + _MAX_DIGITS + after_bytes].partition(after)
                if found and digits.isdigit():
                    return latest, int(digits), place + len(digits) + after_bytes
        parts = _around_length(data)
        if parts is None:
            return None
        before, digits, after = parts
        known = self._known.find((before, after))
        if known is None or not digits.isdigit() or len(digits) > _MAX_DIGITS:
            return None
        return known, int(digits), len(before) + len(digits) + len(after)

    def learn(self, data: bytes, head: Head, route: R) -> None:
        """Perhaps know the head that `data` begin with from now on.

        The parser has read it as `head`, and the end of the body is where its Content-Length says.
        It is looked at again here, so that nothing hangs on where the parser saw lines or an end.
        """
        parts = _around_length(data)
        if parts is None:
            return
        before, digits, after = parts
        size_bytes = len(before) + len(after)
        if size_bytes + _MAX_DIGITS > _MAX_KNOWN_BYTES:
            return  # with a longer length, its end would not be looked for
        key = before, after
        if self._known.has_come(key) and _is_read_as(before + digits + after, head):
            rest = [header for header in head.headers if header[0] != _LENGTH]
            known = KnownHead(before, len(before), after, len(after), Head(rest), route)
            self._known.keep(key, known, size_bytes)


def _around_length(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """A head in three parts: up to its Content-Length, that, and what stands behind it."""
    end = data.find(_END, 0, _MAX_KNOWN_BYTES)
    at = data.find(b"\r\nContent-Length: ", 0, max(end, 0))
    if at < 0:
        at = data.find(b"\r\ncontent-length: ", 0, max(end, 0))
    if at < 0:
        return None
    place = at + len(b"\r\nContent-Length: ")
    stop = data.find(b"\r", place)
    return data[:place], data[place:stop], data[stop : end + len(_END)]


def _is_read_as(raw: bytes, head: Head) -> bool:
    """Whether it is this, line by line, with one length in digits that say where the body ends."""
    read: list[tuple[bytes, bytes]] = []
    for line in raw.removesuffix(_END).split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        read.append((name.lower(), value.strip(b" \t")))
    names = [name for name, _ in read]
    return (
        read == head.headers
        and names.count(_LENGTH) == 1
        and head.fields[_LENGTH].isdigit()
        and b"transfer-encoding" not in names
    )

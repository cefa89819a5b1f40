"""What the head of a request may be and says, and heads that are known.

A client mostly sends the same head again, but for the digits of its Content-Length. So one that has
passed every check is remembered by its bytes, and the same bytes with other digits are not read
again: whoever read them would find the same.
"""

from __future__ import annotations

from farebox.errors import BadRequest

HOP = b"x-farebox-hop"  # written by vendors/
_LENGTH = b"content-length"
_KEYS = (b"authorization", b"x-api-key")
_VERSIONS = ("1.1", "1.0")
_MAX_HEADERS = 200  # clients behind several proxies send fifty
_END = b"\r\n\r\n"
_MAX_KNOWN_BYTES = 4096  # of a head that is remembered
_MAX_DIGITS = 12  # of a length that is read here: a terabyte

Headers = list[tuple[bytes, bytes]]


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

    __slots__ = ("coding", "fields", "has_parts", "headers", "hops")

    def __init__(self, headers: Headers) -> None:
        """`headers` as they came, names in lower case."""
        self.headers = headers
        self.fields = fields = dict(headers)  # by name, the last of each
        self.hops = tuple(value for name, value in headers if name == HOP)
        self.coding = fields.get(b"content-encoding", b"").strip().lower()
        self.has_parts = fields.get(b"content-type", b"").lower().startswith(b"multipart/")

    @property
    def length_bytes(self) -> int | None:
        """Of the body, as the head says it; None if that is not said."""
        length = self.fields.get(_LENGTH)
        return None if length is None else int(length)  # the parser lets digits only through


class KnownHead:
    """The bytes of a head around the digits of its Content-Length, and what it says but for
    that.
    """

    __slots__ = ("_after", "_before", "head", "url")

    def __init__(self, before: bytes, after: bytes, url: bytes, head: Head) -> None:
        self._before = before
        self._after = after
        self.url = url
        self.head = head

    def begins(self, data: bytes) -> tuple[int, int] | None:
        """How long the body is of which `data` begin with this head, and where it stands in them.
        None if they begin with another head, or not with a whole one.
        """
        if not data.startswith(self._before):
            return None
        start = len(self._before)
        end = data.find(b"\r", start, start + _MAX_DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._after, end):
            return None
        return int(digits), end + len(self._after)


def known_head(data: bytes, url: bytes, head: Head) -> KnownHead | None:
    """The head that `data` begin with, to be known from now on; None if it is not one for that.

    The parser has read it as `head`, and the end of the body is where its Content-Length says. It
    is looked at again here, so that nothing hangs on where the parser saw a line or its end.
    """
    end = data.find(_END, 0, _MAX_KNOWN_BYTES)
    lines = data[: max(0, end)].split(b"\r\n")
    if len(lines) != len(head.headers) + 1 or b"transfer-encoding" in head.fields:
        return None
    at = len(lines[0]) + 2
    place = 0  # of the digits
    for line, (name, value) in zip(lines[1:], head.headers, strict=True):
        written, _, rest = line.partition(b":")
        if (written.lower(), rest.strip(b" \t")) != (name, value):
            return None
        if name == _LENGTH:
            if place or not value.isdigit() or rest.lstrip(b" \t") != value:
                return None
            place = at + len(line) - len(value)
        at += len(line) + 2
    if not place:
        return None
    after = data[place + len(head.fields[_LENGTH]) : end + len(_END)]
    rest = [header for header in head.headers if header[0] != _LENGTH]
    return KnownHead(data[:place], after, url, Head(rest))

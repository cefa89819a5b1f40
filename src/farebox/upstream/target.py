"""Where a request goes and how its head is written. Sending it is the connection's business."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from farebox.core.call import Headers

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_METHOD = re.compile(r"[A-Z]+")
_UNSAFE_IN_VALUE = re.compile(rb"[\r\n\0]")
_UNSAFE_IN_URL = re.compile(r"[^\x21-\x7e]")
_PORTS = {"http": 80, "https": 443}
# The client writes these itself; a second one would let two parties read the message differently.
OURS = frozenset(
    (
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what connections are pooled by. `host` is without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def is_secure(self) -> bool:
        """Whether TLS is spoken to it."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """host:port as a CONNECT request names it, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """The authority, without the port that the scheme implies."""
        if self.port == _PORTS[self.scheme]:
            return self.authority.rpartition(":")[0]
        return self.authority


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart: the origin, and path and query exactly as given."""

    origin: Origin
    path: str

    @property
    def absolute(self) -> str:
        """The form in which a proxy wants it (RFC 9112, 3.2.2)."""
        return f"{self.origin.scheme}://{self.origin.host_header}{self.path}"


def parse_url(url: str) -> Target:
    """Take a URL apart. Raises ValueError, without the URL (it may hold a secret)."""
    if _UNSAFE_IN_URL.search(url):
        raise ValueError(
            "The upstream URL holds a space, control or non-ASCII character; percent-encode it."
        )
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise ValueError("The upstream URL must begin with http:// or https://.")
    if "@" in parts.netloc:
        raise ValueError("The upstream URL must not hold a user name or password; use a header.")
    host = parts.hostname
    if not host:
        raise ValueError("The upstream URL names no host.")
    port = _PORTS[scheme] if parts.port is None else parts.port  # ValueError when out of range
    if port == 0:
        raise ValueError("The upstream URL names port 0; ports are 1 to 65535.")
    path = parts.path or "/"
    if parts.query:
        path = f"{path}?{parts.query}"
    return Target(Origin(scheme, host, port), path)


def request_line_rest(target: Target, *, absolute: bool, extra: Headers = ()) -> bytes:
    """What follows the method in every request to a URL: built once, sent often."""
    lines = [
        f" {target.absolute if absolute else target.path} HTTP/1.1",
        f"host: {target.origin.host_header}",
        "accept-encoding: identity",  # compressing a stream delays it
        "",
    ]
    return "\r\n".join(lines).encode("ascii") + b"".join(b"%b: %b\r\n" % pair for pair in extra)


def request_head(method: str, rest: bytes, headers: Headers, body_bytes: int) -> bytes:
    """From the method to the empty line. Raises ValueError for what could be read as more."""
    start = _head_start(method, rest, headers)
    if body_bytes or method not in ("GET", "DELETE"):
        return b"%bcontent-length: %d\r\n\r\n" % (start, body_bytes)
    return start + b"\r\n"


@lru_cache(maxsize=256)  # a channel sends the same headers again and again
def _head_start(method: str, rest: bytes, headers: Headers) -> bytes:
    """All but the length and the empty line."""
    # HEAD and CONNECT are refused: no body follows their heads.
    if not _METHOD.fullmatch(method) or method in ("HEAD", "CONNECT"):
        raise ValueError(f"The method {method[:20]!r} cannot be sent; use GET, POST or the like.")
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is not a header name.")
        if name.lower() in OURS:
            raise ValueError(f"The header {name!r} is written by the client itself; leave it out.")
        if _UNSAFE_IN_VALUE.search(value):
            raise ValueError(f"The header {name!r} holds a line break or a zero byte; remove it.")
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join((method.encode("ascii"), rest, *lines))

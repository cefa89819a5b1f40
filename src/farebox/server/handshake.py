"""Which request is the handshake of a WebSocket, and what of its head a Socket is told.

Source: RFC 6455, 4.2.1.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

SOCKET_PATH = b"/v1/responses"  # where a handshake is answered
# What a Socket is told of the head, and how long a line of it may be: its library reads no more.
_TOLD = frozenset(
    (
        b"host",
        b"upgrade",
        b"connection",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-extensions",
        b"authorization",
        b"x-api-key",
        b"x-farebox-hop",
    )
)
_ONCE = (b"upgrade", b"sec-websocket-key", b"sec-websocket-version")
_MAX_LINE_BYTES = 8_000
_NONCE_BYTES = 16

_Headers = Sequence[tuple[bytes, bytes]]


def is_handshake(url: bytes, headers: _Headers) -> bool:
    """Whether a GET of HTTP/1.1 with this head is one, whole and right, at the path for it. What is
    not is answered as if it had not asked, with what is wrong.
    """
    by_name = dict(headers)
    names = [name for name, _ in headers]
    return (
        url.partition(b"?")[0].rstrip(b"/") == SOCKET_PATH
        and by_name.get(b"upgrade", b"").strip().lower() == b"websocket"
        and by_name.get(b"sec-websocket-version", b"").strip() == b"13"
        and _is_nonce(by_name.get(b"sec-websocket-key", b""))
        and all(names.count(name) == 1 for name in _ONCE)
        and not {b"content-length", b"transfer-encoding"} & by_name.keys()
        and all(len(name) + len(value) < _MAX_LINE_BYTES for name, value in _told(headers))
    )


def head_for_socket(headers: _Headers) -> bytes:
    """The head of a handshake with what counts of these headers."""
    lines = [b"GET %b HTTP/1.1" % SOCKET_PATH]
    lines += [b"%b: %b" % header for header in _told(headers)]
    return b"\r\n".join((*lines, b"", b""))


def _told(headers: _Headers) -> list[tuple[bytes, bytes]]:
    return [header for header in headers if header[0] in _TOLD]


def _is_nonce(key: bytes) -> bool:
    """Whether it is 16 bytes in base 64, as every handshake has."""
    try:
        return len(base64.b64decode(key.strip(), validate=True)) == _NONCE_BYTES
    except binascii.Error:
        return False

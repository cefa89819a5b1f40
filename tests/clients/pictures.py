"""A picture to send."""

from __future__ import annotations

import zlib


def png() -> bytes:
    """8 by 8 grey dots."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_ = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + sum_

    size = (8).to_bytes(4, "big")
    head = chunk(b"IHDR", size + size + bytes([8, 0, 0, 0, 0]))
    rows = zlib.compress(b"".join(b"\x00" + b"\x80" * 8 for _ in range(8)))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")

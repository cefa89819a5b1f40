"""Undoing a content-encoding that nobody asked for. Framing is the parser's business."""

from __future__ import annotations

import zlib

_STEP_BYTES = 64 * 1024  # made at once: a small read may stand for a thousand times its size
_GZIP = 16 + zlib.MAX_WBITS
_DEFLATE = zlib.MAX_WBITS
_RAW_DEFLATE = -zlib.MAX_WBITS
_WINDOW_BITS = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _DEFLATE}


class DecodingError(Exception):
    """What came is not what its content-encoding says."""


class Decoder:
    """Inflates gzip and deflate (zlib, or bare as some servers send it) step by step."""

    __slots__ = ("_bits", "_inflate", "_is_full", "_rest", "_started", "made_bytes")

    def __init__(self, coding: bytes) -> None:
        """Raises DecodingError for a coding that is not known."""
        bits = _WINDOW_BITS.get(coding.strip().lower())
        if bits is None:
            raise DecodingError("unknown content-encoding")
        self._bits = bits
        self._inflate = zlib.decompressobj(bits)
        self._rest = b""
        self._is_full = False  # the last step filled its room, so zlib may hold more
        self._started = False
        self.made_bytes = 0  # altogether

    @property
    def has_rest(self) -> bool:
        """Whether decode(b"") would go on with what is there."""
        return bool(self._rest) or self._is_full

    @property
    def is_whole(self) -> bool:
        """Whether the body may end here. An empty body is whole in any coding."""
        return not self.has_rest and (self._inflate.eof or not self._started)

    def decode(self, data: bytes) -> bytes:
        """The next at most 64 KiB; perhaps none yet. Raises DecodingError."""
        data = self._rest + data if self._rest else data
        if not data and not self._is_full:
            return b""
        if data and self._inflate.eof:  # a gzip body may have several members (RFC 1952, 2.2)
            if self._bits != _GZIP:
                raise DecodingError("data after the end of the compressed body")
            self._inflate = zlib.decompressobj(_GZIP)
        elif not self._started and self._bits == _DEFLATE and data[0] & 0x0F != zlib.DEFLATED:
            self._inflate = zlib.decompressobj(_RAW_DEFLATE)
        self._started = True
        try:
            out = self._inflate.decompress(data, _STEP_BYTES)
        except zlib.error as error:
            raise DecodingError("broken compressed body") from error
        self._rest = self._inflate.unconsumed_tail or self._inflate.unused_data
        self._is_full = len(out) == _STEP_BYTES and not self._inflate.eof
        self.made_bytes += len(out)
        return out

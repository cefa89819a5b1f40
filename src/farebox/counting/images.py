"""How many tokens an image takes: its size from the first bytes of its data, and the vendors'
tables. Pure; nothing is decoded but headers, and no length in them is trusted.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable

from farebox.counting.rules import Area, Images, Patches, Tiles

USUAL_SIZE = (1024, 1024)  # of an image whose size the body does not tell, such as an address
# A photograph's own data may hold a small picture and much text before the size stands there.
_HEADER_CHARS = 512 * 1024
_MOST_SIDE = 1 << 16  # more is no image that anybody takes
_PATCH = 32
_ORIGINAL = Patches(most=10_000)  # of detail "original", which only models with patches know

Size = tuple[int, int]  # width and height in pixels


def image_tokens(url: str, detail: str, images: Images) -> int:
    """Of an image as chat names it: a data URL, or an address."""
    width, height = size_of_url(url) or USUAL_SIZE
    match images:
        case Tiles():
            return images.base if detail == "low" else _tiles(width, height, images)
        case Patches():
            return _patches(width, height, _ORIGINAL if detail == "original" else images)
        case Area():
            return _area(width, height, images)


def _tiles(width: int, height: int, rule: Tiles) -> int:
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    across, down = (math.ceil(round(side * scale, 6) / 512) for side in (width, height))
    return rule.base + rule.each * across * down


def _patches(width: int, height: int, rule: Patches) -> int:
    across, down = math.ceil(width / _PATCH), math.ceil(height / _PATCH)
    if across * down > rule.most:
        # Shrunk so that the patches are as many as there may be, and then to whole patches.
        scale = math.sqrt(_PATCH**2 * rule.most / (width * height))
        wide, high = width * scale / _PATCH, height * scale / _PATCH
        fit = min(max(1, math.floor(wide)) / wide, max(1, math.floor(high)) / high)
        across, down = math.ceil(round(wide * fit, 6)), math.ceil(round(high * fit, 6))
    return -(-min(across * down, rule.most) * rule.factor_permille // 1000)


def _area(width: int, height: int, rule: Area) -> int:
    scale = min(1.0, rule.longest / max(width, height))
    return min(rule.most, math.ceil(width * height * scale * scale / rule.pixels_a_token))


def size_of_url(url: str) -> Size | None:
    """The size of an image in a data URL with base64; None for what is none, or tells none."""
    head, comma, data = url[:_HEADER_CHARS].partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    try:
        return image_size(base64.b64decode(data[: len(data) // 4 * 4]))
    except (binascii.Error, ValueError):
        return None


def image_size(data: bytes) -> Size | None:
    """The size of a PNG, JPEG, GIF or WebP by its header."""
    for magic, read in _KINDS.items():
        if data.startswith(magic):
            size = read(data)
            if size is not None and all(0 < side <= _MOST_SIDE for side in size):
                return size
    return None


def _png(data: bytes) -> Size | None:
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _gif(data: bytes) -> Size | None:
    if len(data) < 10:
        return None
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def _jpeg(data: bytes) -> Size | None:
    """Of the first frame header; the segments before it are passed over by their lengths."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # padding
            at += 1
        elif kind in (0x01, *range(0xD0, 0xD9)):  # without a length
            at += 2
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            high, wide = data[at + 5 : at + 7], data[at + 7 : at + 9]
            return int.from_bytes(wide, "big"), int.from_bytes(high, "big")
        else:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if length < 2:
                return None
            at += 2 + length
    return None


def _webp(data: bytes) -> Size | None:
    if len(data) < 30 or data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        wide, high = data[24:27], data[27:30]
        return 1 + int.from_bytes(wide, "little"), 1 + int.from_bytes(high, "little")
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        wide, high = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
        return wide, high
    return None


_KINDS: dict[bytes, Callable[[bytes], Size | None]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8": _jpeg,
    b"GIF87a": _gif,
    b"GIF89a": _gif,
    b"RIFF": _webp,
}

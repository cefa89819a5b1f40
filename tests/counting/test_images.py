"""The size of an image from its first bytes, and its tokens by the vendors' tables."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.counting.images import image_size, image_tokens, size_of_url
from farebox.counting.rules import Area, Patches, Tiles

SIDES = st.integers(1, 16_383)


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\2\0\0\0"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"


def jpeg(width: int, height: int) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 5002) + b"\xff\xc0\0\x11\x08\0\1\0\1" + b"E" * 4991
    frame = b"\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + b"\3" + b"\0" * 9
    return b"\xff\xd8" + b"\xff\xe0\0\4JF" + exif + b"\xff" + frame


def webp(kind: bytes, data: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body + b"\0" * 16


def webp_lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\x30\1\0\x9d\1\x2a" + struct.pack("<HH", width, height))


def webp_lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14))


def webp_extended(width: int, height: int) -> bytes:
    sides = [(side - 1).to_bytes(3, "little") for side in (width, height)]
    return webp(b"VP8X", b"\0\0\0\0" + b"".join(sides))


KINDS = [png, gif, jpeg, webp_lossy, webp_lossless, webp_extended]


def url(data: bytes) -> str:
    return "data:image/any;base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize("kind", KINDS)
@given(width=SIDES, height=SIDES)
def test_a_header_tells_the_size(kind, width: int, height: int) -> None:
    """PNG, GIF, JPEG with a small picture in its Exif data, and WebP's three forms."""
    assert image_size(kind(width, height)) == (width, height)
    assert size_of_url(url(kind(width, height))) == (width, height)


@pytest.mark.parametrize("kind", KINDS)
@given(at=st.integers(0, 60), cut=st.integers(0, 60), byte=st.integers(0, 255))
def test_a_broken_header_is_no_defect(kind, at: int, cut: int, byte: int) -> None:
    """A size of sides that there are, or none."""
    data = bytearray(kind(640, 480))
    data[at % len(data)] = byte
    for broken in (bytes(data), bytes(data[:cut])):
        size = image_size(broken)
        assert size is None or all(0 < side <= 1 << 16 for side in size)


@given(data=st.binary(max_size=64))
def test_any_bytes_may_be_asked(data: bytes) -> None:
    """Also behind the signs of each kind."""
    for start in (b"", b"\xff\xd8", b"GIF87a", b"RIFF", b"\x89PNG\r\n\x1a\n"):
        size = image_size(start + data)
        assert size is None or min(size) > 0


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/a.png",
        "data:image/png,raw",
        "data:image/png;base64,%%%%",
        "data:image/png;base64,",
        "data:image/png;base64",
        "",
        "data:image/png;base64," + "é" * 8,
    ],
)
def test_what_tells_no_size_has_the_usual_one(address: str) -> None:
    """1024 pixels square."""
    assert size_of_url(address) is None
    assert image_tokens(address, "auto", Tiles()) == 85 + 4 * 170


@pytest.mark.parametrize(
    ("size", "detail", "tokens"),
    [
        ((1024, 1024), "high", 765),
        ((2048, 4096), "high", 1105),
        ((4096, 8192), "low", 85),
        ((512, 512), "auto", 255),
        ((1, 1), "auto", 255),
    ],
)
def test_tiles_are_counted_as_in_the_guide(size, detail: str, tokens: int) -> None:
    """The examples of OpenAI's guide, and the smallest."""
    assert image_tokens(url(png(*size)), detail, Tiles()) == tokens


@pytest.mark.parametrize(
    ("size", "rule", "tokens"),
    [
        ((1024, 1024), Patches(), 1024),
        ((1800, 2400), Patches(), 1452),
        ((1024, 1024), Patches(factor_permille=1620), 1659),
        ((32, 33), Patches(), 2),
        ((16_000, 40), Patches(), 1000),
    ],
)
def test_patches_are_counted_as_in_the_guide(size, rule: Patches, tokens: int) -> None:
    """The examples of OpenAI's guide, a factor, and extreme shapes."""
    assert image_tokens(url(png(*size)), "auto", rule) == tokens


@given(width=SIDES, height=SIDES)
def test_no_size_takes_more_than_the_most(width: int, height: int) -> None:
    """And none takes nothing."""
    image = url(png(width, height))
    assert 0 < image_tokens(image, "auto", Patches()) <= 1536
    assert 0 < image_tokens(image, "original", Patches()) <= 10_000
    assert 85 < image_tokens(image, "auto", Tiles()) <= 85 + 170 * 8
    assert 0 < image_tokens(image, "auto", Area()) <= 1600

"""Compressed bodies undone: whole, split, broken, and far larger than they came."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.upstream.decoding import Decoder, DecodingError
from tests.upstream.asking import answer_to, ask, body_of, failure_of, head_of
from tests.upstream.raw_server import Peer, raw_server


def bare_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


CODINGS = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"X-GZip", gzip.compress),
    "two members": (b"gzip", lambda d: gzip.compress(d[:7]) + gzip.compress(d[7:])),
    "deflate": (b"deflate", zlib.compress),
    "bare deflate": (b"deflate", bare_deflate),
}


def drain(decoder: Decoder, pieces: list[bytes]) -> bytes:
    out: list[bytes] = []
    for piece in pieces:
        out.append(decoder.decode(piece))
        while decoder.has_rest:
            out.append(decoder.decode(b""))
    return b"".join(out)


@pytest.mark.parametrize("coding", CODINGS)
@given(data=st.binary(max_size=2000), cut=st.integers(min_value=0, max_value=2000))
def test_any_split_of_a_compressed_body_gives_it_back(coding, data, cut):
    """And it is whole exactly at its end."""
    name, compress = CODINGS[coding]
    packed = compress(data)
    decoder = Decoder(name)
    assert drain(decoder, [packed[:cut], packed[cut:]]) == data
    assert decoder.is_whole


def test_a_bomb_is_unpacked_step_by_step():
    """64 KiB at a time, whatever it stands for."""
    decoder = Decoder(b"gzip")
    piece, total = decoder.decode(gzip.compress(bytes(20_000_000))), 0
    while piece or decoder.has_rest:
        assert len(piece) <= 64 * 1024
        total += len(piece)
        piece = decoder.decode(b"")
    assert (total, decoder.is_whole) == (20_000_000, True)


def test_a_body_that_stops_early_is_not_whole():
    """An empty one is."""
    decoder = Decoder(b"gzip")
    assert decoder.is_whole
    decoder.decode(gzip.compress(b"hello")[:-3])
    assert not decoder.is_whole


@given(data=st.binary(min_size=1, max_size=200), coding=st.sampled_from([b"gzip", b"deflate"]))
def test_garbage_raises_nothing_but_a_decoding_error(data, coding):
    """Whatever it is."""
    decoder = Decoder(coding)
    try:
        drain(decoder, [data])
    except DecodingError:
        return


@pytest.mark.anyio
async def test_a_compressed_answer_that_nobody_asked_for_is_read(make_client):
    """The head no longer says that it is compressed, or how long it was."""
    packed = gzip.compress(b"hello" * 1000)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\nx: y\r\n\r\n"
            % len(packed)
        )
        for byte in packed:
            await peer.send(bytes([byte]))
        await peer.keep_answering()

    async with raw_server(script) as server:
        client = make_client()
        exchange = ask(client, server.url())
        assert (await head_of(exchange)).headers == {b"x": b"y"}
        assert await body_of(exchange) == b"hello" * 1000
        exchange.close()
        assert await answer_to(client, server.url()) == (200, b"hello")
        assert server.accepted == 1


@pytest.mark.parametrize(
    ("coding", "body", "reason"),
    [
        (b"br", b"abc", "bad_encoding"),
        (b"gzip, br", b"abc", "bad_encoding"),
        (b"gzip", b"no gzip at all", "bad_encoding"),
        (b"deflate", zlib.compress(b"a") + b"more", "bad_encoding"),
        (b"gzip", gzip.compress(b"hello", mtime=0)[:-1], "truncated"),
        (b"gzip", gzip.compress(bytes(300_000)), "too_large"),
    ],
)
@pytest.mark.anyio
async def test_a_compressed_answer_that_cannot_be_read_is_a_failure(
    make_client, coding, body, reason
):
    """Unknown, broken, cut short, or more than the gateway takes."""

    async def script(peer: Peer) -> None:
        await peer.answer(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (coding, len(body), body)
        )
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client(max_answer_bytes=200_000)
        assert await failure_of(ask(client, server.url())) == (reason, 502)
        await server.wait_until_open(0)

"""Reading a body: size, time and encoding."""

import asyncio
import contextlib
import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.settings import Settings
from farebox.errors import BadRequest, TooLarge
from farebox.server.asgi_reply import AsgiRequest
from farebox.server.body import read_body
from farebox.server.reply import ClientGone

pytestmark = pytest.mark.anyio

SETTINGS = Settings(Path("/nowhere"), "", max_body_bytes=10_000, body_timeout_s=0.2)
JSON = b'{"model":"m"}'


def request_of(parts, headers=()):
    """A request over ASGI whose body comes in these parts, and no end of it after them."""
    waiting = [
        {"type": "http.request", "body": part, "more_body": n < len(parts) - 1}
        for n, part in enumerate(parts)
    ]

    async def receive():
        if waiting:
            return waiting.pop(0)
        return await asyncio.Future()

    return AsgiRequest({"headers": list(headers)}, receive)


async def read(parts, headers=None):
    return await read_body(request_of(parts, (headers or {}).items()), SETTINGS)


async def refusal(parts, headers=None):
    with pytest.raises(BadRequest) as caught:
        await read(parts, headers)
    return caught.value


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20))
def test_a_body_is_its_parts_in_order(parts):
    """However a body is cut on its way, it is read whole."""
    assert asyncio.run(read(parts)) == b"".join(parts)


@pytest.mark.parametrize("encoding", [b"gzip", b"x-gzip", b"GZIP", b"deflate", b"identity", b""])
async def test_the_usual_encodings_are_read(encoding):
    """A body may come as it is, as gzip, or as deflate (zlib's format)."""
    packed = {b"deflate": zlib.compress(JSON), b"identity": JSON, b"": JSON}
    body = packed.get(encoding, gzip.compress(JSON))
    assert await read([body[:5], body[5:]], {b"content-encoding": encoding}) == JSON


async def test_other_encodings_are_415():
    """An encoding that is not read is named, and what to do instead."""
    error = await refusal([JSON], {b"content-encoding": b"br"})
    assert error.status == 415
    assert "'br'" in error.message


async def test_a_multipart_body_is_415():
    """A form with parts is never JSON."""
    assert (await refusal([JSON], {b"content-type": b"Multipart/form-data; x"})).status == 415


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"text/plain",
        b"",
        b"application/x-www-form-urlencoded",
    ],
)
async def test_the_content_type_is_not_insisted_on(content_type):
    """`curl -d` says that it sends a form; what counts is whether the body is JSON."""
    assert await read([JSON], {b"content-type": content_type}) == JSON


async def test_a_body_that_is_said_to_be_too_large_is_not_read():
    """A Content-Length above the limit is refused before anything is read."""
    error = await refusal([], {b"content-length": b"10001"})
    assert isinstance(error, TooLarge)
    assert (error.status, error.code) == (413, "request_too_large")


async def test_a_body_at_the_limit_is_read_and_one_above_is_413():
    """The limit itself is allowed; what goes beyond it while streaming is refused."""
    assert len(await read([b"x" * 9_999, b"x"])) == 10_000
    assert (await refusal([b"x" * 9_999, b"xx", b"x"])).status == 413


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_a_compressed_bomb_is_413(pack):
    """The limit holds for what a body inflates to, not for what travels."""
    headers = {b"content-encoding": b"gzip"}
    assert len(await read([pack(b"x" * 10_000)], headers)) == 10_000
    assert (await refusal([pack(b"x" * 10_001)], headers)).status == 413
    assert (await refusal([pack(b"x" * 5_000_000)], headers)).status == 413


@given(st.binary(max_size=200))
def test_no_compressed_rubbish_is_a_defect(rubbish):
    """Whatever claims to be gzip is either read or refused as the client's fault."""
    with contextlib.suppress(BadRequest):
        asyncio.run(read([rubbish], {b"content-encoding": b"gzip"}))


async def test_gzip_that_is_cut_or_followed_by_something_is_400():
    """Half a body, or a body with something behind it, is not guessed at."""
    packed = gzip.compress(JSON)
    for body in (packed[:-3], packed + b"more", b""):
        assert (await refusal([body], {b"content-encoding": b"gzip"})).status == 400


async def test_a_body_that_does_not_come_is_408():
    """Reading ends after its time limit, in the shape of the client's other errors."""
    with pytest.raises(BadRequest) as caught:
        await read_body(request_of([]), SETTINGS)
    assert caught.value.status == 408


async def test_a_client_that_leaves_while_sending_is_nobody_to_answer():
    """Hanging up within the body is no error of anybody's."""

    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await read_body(AsgiRequest({"headers": []}, receive), SETTINGS)

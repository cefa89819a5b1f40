"""Handshakes of WebSockets: which succeed, and how the others are answered."""

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.server.sockets import FIRST, HANDSHAKE, REST, ask, say, socket
from tests.server.worker import SSE_HEAD, make_worker, parse, running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("key", ["", "Bearer sk-fb-nobody", "Basic eA=="])
async def test_a_handshake_needs_a_key(worker, key):
    """401 as a plain answer, in OpenAI's shape."""
    uri = f"ws://127.0.0.1:{worker.port}/v1/responses"
    headers = {"Authorization": key} if key else {}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(uri, additional_headers=headers, proxy=None):
            pass
    response = refused.value.response
    assert response.status_code == 401
    assert json.loads(response.body)["error"]["code"] == "invalid_api_key"
    assert response.headers["x-request-id"].startswith("req_")


async def test_a_key_in_x_api_key_opens_a_socket_and_is_charged(worker):
    """As in any request."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    uri = f"ws://127.0.0.1:{worker.port}/v1/responses"
    headers = {"X-Api-Key": worker.secret}
    async with connect(uri, additional_headers=headers, proxy=None) as opened:
        assert (await ask(opened))[-1]["type"] == "response.completed"
    assert [settlement.account_id for settlement in worker.books.settlements] == [1]


async def test_a_handshake_that_went_through_this_gateway_is_a_loop(worker):
    """508 before anything is served."""
    uri = f"ws://127.0.0.1:{worker.port}/v1/responses"
    headers = {"Authorization": f"Bearer {worker.secret}", "x-farebox-hop": "inst_here"}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(uri, additional_headers=headers, proxy=None):
            pass
    assert refused.value.response.status_code == 508


async def test_without_a_handshake_get_is_426_and_head_says_whether_the_key_is_good(worker):
    """426 makes Codex use POST; its doctor asks with HEAD."""
    plain = await worker.ask("GET", "/v1/responses", secret=worker.secret)
    assert (plain.status, plain.headers["upgrade"]) == (426, "websocket")
    assert "POST" in plain.json["error"]["message"]
    good = await worker.ask("HEAD", "/v1/responses", secret=worker.secret)
    bad = await worker.ask("HEAD", "/v1/responses", secret="sk-fb-nobody")
    assert (good.status, good.body, bad.status) == (200, b"", 401)


async def test_where_sockets_are_switched_off_a_handshake_is_426():
    """With a sentence that says so, and the connection goes on."""
    async with running(make_worker(responses_websocket=False)) as worker:
        with pytest.raises(InvalidStatus) as refused:
            async with socket(worker):
                pass
        assert refused.value.response.status_code == 426
        request = b"GET /v1/responses HTTP/1.1\r\n" + HANDSHAKE + b"\r\n"
        last = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        raw = await say(worker, request + last)
        assert (raw.count(b"HTTP/1.1 426 "), raw.count(b"HTTP/1.1 200 ")) == (1, 1)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"version: 13", b"version: 8"), 426),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 426),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"\xff"), 426),
        ((b"upgrade: websocket", b"upgrade: h2c"), 426),
        ((b"upgrade: websocket", b"upgrade: websocket\r\nupgrade: websocket"), 426),
        ((b"host: a\r\n", b"host: a\r\nauthorization: Bearer " + b"x" * 9_000 + b"\r\n"), 426),
        ((b"host: a\r\n", b"host: a\r\ncontent-length: 0\r\n"), 426),
        ((b"host: a\r\n", b"host: a\r\nhost: b\r\n"), 400),
        ((b"host: a\r\n", b"host: a\r\nauthorization: a\r\nauthorization: b\r\n"), 400),
        ((b"host: a\r\n", b"host: a\r\nx: " + b"y" * 80_000 + b"\r\n"), 431),
        ((b"host: a\r\n", b""), 400),
        ((b"", b""), 401),
    ],
)
async def test_a_handshake_that_is_not_right_is_no_handshake(worker, change, status):
    """It is answered as the request that it is, and what counts for heads counts for it."""
    old, new = change
    lines = HANDSHAKE.replace(old, new, 1) + b"connection: close\r\n\r\n"
    lines = lines.replace(b"connection: Upgrade\r\n", b"", 1).replace(
        b"connection: close", b"connection: close, Upgrade"
    )
    answer = parse(await say(worker, b"GET /v1/responses HTTP/1.1\r\n" + lines))
    assert answer.status == status


async def test_nothing_may_follow_a_handshake_at_once(worker):
    """It would be read before anybody knows who sent it."""
    raw = await say(worker, b"GET /v1/responses HTTP/1.1\r\n" + HANDSHAKE + b"\r\n\x81\x80....")
    assert parse(raw).status == 400


async def test_other_paths_are_not_upgraded(worker):
    """The handshake is ignored there."""
    request = b"GET /healthz HTTP/1.1\r\n" + HANDSHAKE.replace(b"Upgrade", b"close, Upgrade")
    assert parse(await say(worker, request + b"\r\n")).status == 200


async def test_a_handshake_may_follow_other_requests_on_its_connection(worker):
    """When they have been answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    key = b"authorization: Bearer %b\r\n" % worker.secret.encode()
    async with asyncio.timeout(20):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b'{"ok":true}')
        writer.write(b"GET /v1/responses HTTP/1.1\r\n" + HANDSHAKE + key + b"\r\n")
        assert await reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
    writer.close()


async def test_responses_on_a_socket_are_counted_and_logged_like_requests(worker, capsys):
    """A line for the handshake and one for each response, which has its charge."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        await ask(opened)
        await ask(opened, model="nowhere")
    text = worker.state.metrics.exposition().decode()
    for status in ("1xx", "2xx", "4xx"):
        assert f'farebox_requests_total{{route="/v1/responses",status="{status}"}} 1.0' in text
    assert "farebox_requests_in_flight 0.0" in text
    lines = [line for line in capsys.readouterr().out.splitlines() if "route=" in line]
    assert ["method=WS" in line for line in lines] == [False, True, True]
    assert "charge_nanocredits=20000" in lines[1]

"""The whole client against servers that others wrote, and under calls broken off at random."""

import asyncio
import http.server
import random
import socket
import threading

import pytest
import uvicorn

from farebox.core.ports import UpstreamRequest
from farebox.errors import UpstreamFailed
from tests.upstream.asking import PATIENCE_S, answer_to, ask, body_of
from tests.upstream.raw_server import CHUNKED, OK, Peer, raw_server

pytestmark = pytest.mark.anyio


class Echo(http.server.BaseHTTPRequestHandler):
    """Says back what it was sent; closes where the path asks for it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        if self.path == "/close":
            self.send_header("connection", "close")
        else:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.path == "/close"

    def do_GET(self) -> None:
        self.send_error(404, "nothing here")

    def log_message(self, format: str, *args: object) -> None:
        pass


async def test_pythons_own_server_is_understood(make_client):
    """Content-Length, until close, errors with a body."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        client, base = make_client(), f"http://127.0.0.1:{server.server_port}"
        for size in (1, 100_000, 3_000_000):
            body = b"x" * size
            assert await answer_to(client, f"{base}/echo", body) == (200, body)
            assert await answer_to(client, f"{base}/close", body) == (200, body)
        status, page = await answer_to(client, f"{base}/none", b"", method="GET")
        assert (status, b"nothing here" in page) == (404, True)
        await client.aclose()
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


async def echo_in_pieces(scope, receive, send) -> None:
    """An ASGI application that streams its request back."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message["body"], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_uvicorn_is_understood(make_client):
    """Chunked answers, one connection for all of them."""
    config = uvicorn.Config(echo_in_pieces, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    client = make_client()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    try:
        for size in (0, 1, 100_000, 3_000_000):
            assert await answer_to(client, url, b"x" * size) == (200, b"x" * size)
        assert client.open_connections == 1
        await client.aclose()
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://user:secret@127.0.0.1:1/", ()),
        ("http://127.0.0.1:1/\r\nx: y", ()),
        ("http://127.0.0.1:1/", ((b"x", b"a\r\nsecret: b"),)),
        ("http://127.0.0.1:1/", ((b"host", b"secret"),)),
    ],
)
async def test_what_must_not_be_sent_is_refused_when_it_is_opened(make_client, url, headers):
    """As a ValueError that does not repeat it, and nothing is opened."""
    client = make_client()
    with pytest.raises(ValueError, match=r"\.$") as caught:
        client.open(UpstreamRequest(url, headers, b""))
    assert "secret" not in str(caught.value)
    assert client.open_connections == 0


async def test_many_urls_of_one_origin_share_its_connections(make_client):
    """More of them than are remembered."""
    async with raw_server(Peer.keep_answering) as server:
        client = make_client()
        for i in range(1100):
            await answer_to(client, server.url(f"/v1/responses/{i}"))
        assert server.accepted == 1
        assert server.requests[-1].line == b"POST /v1/responses/1099 HTTP/1.1"


async def misbehave(peer: Peer) -> None:
    """Answer, stall, break off or reset, by chance."""
    chance = random.Random(peer.number)
    while True:
        await peer.request()
        what = chance.randrange(6)
        await asyncio.sleep(chance.random() * 0.01)
        if what == 0:
            peer.reset()
            return
        if what == 1:
            await peer.send(CHUNKED + b"2\r\nhi\r\n")
            return
        if what == 2:
            await peer.send(CHUNKED)
            await asyncio.sleep(chance.random() * 0.02)
            await peer.send(b"2\r\nhi\r\n0\r\n\r\n")
        else:
            await peer.send(OK)


async def test_calls_broken_off_at_random_leave_nothing_and_harm_no_other(make_client):
    """Five hundred calls over at most eight connections, a third of them aborted somewhere."""
    chance = random.Random(42)
    outcomes = {"whole": 0, "failed": 0, "dropped": 0}

    async def call(client, url) -> None:
        await asyncio.sleep(chance.random() * 0.3)
        exchange = ask(client, url, b"x" * chance.choice((10, 100_000)))
        try:
            if chance.random() < 0.33:
                await exchange.head(chance.random() * 0.01)
                exchange.abort()
                outcomes["dropped"] += 1
            else:
                assert await body_of(exchange) in (b"hello", b"hi")
                outcomes["whole"] += 1
        except UpstreamFailed as failure:
            outcomes["failed"] += failure.reason in ("reset", "truncated", "closed")
        finally:
            exchange.close()

    async with raw_server(misbehave) as server:
        client = make_client(pool_per_origin=8, connect_timeout_s=PATIENCE_S)
        await asyncio.gather(*(call(client, server.url()) for _ in range(500)))
        assert sum(outcomes.values()) == 500
        assert min(outcomes.values()) > 50
        assert client.open_connections <= 8
        await client.aclose()
        await server.wait_until_open(0)

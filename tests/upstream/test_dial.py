"""Connecting: refused, unknown, slow, TLS good and bad, through proxies and without."""

import asyncio
import datetime as dt
import socket

import pytest
import trustme

from tests.upstream.asking import answer_to, ask, failure_of
from tests.upstream.certificates import server_tls, trusting
from tests.upstream.raw_server import Peer, raw_server

pytestmark = pytest.mark.anyio


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_a_refused_connection_is_a_failure_with_its_cause(make_client):
    """The cause is for the log; the message says nothing of where."""
    exchange = ask(make_client(), f"http://127.0.0.1:{unused_port()}/v1")
    assert await failure_of(exchange) == ("connect", 502)


async def test_a_name_that_does_not_exist_is_a_failure(make_client):
    """DNS is asked again for each call."""
    assert await failure_of(ask(make_client(), "http://bad..name/v1")) == ("dns", 502)


async def test_a_connection_that_does_not_open_in_time_is_a_failure(make_client):
    """A listener whose queue is full takes no more."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        client = make_client(connect_timeout_s=0.1)
        exchange = ask(client, f"http://127.0.0.1:{address[1]}/v1")
        assert await failure_of(exchange) == ("connect_timeout", 504)
        for filler in fillers:
            filler.close()


async def test_a_tls_handshake_that_hangs_counts_as_connecting(make_client):
    """TCP is open, but nobody speaks TLS."""
    async with raw_server(Peer.hung_up) as server:
        client = make_client(connect_timeout_s=0.1)
        exchange = ask(client, f"https://127.0.0.1:{server.port}/v1")
        assert await failure_of(exchange) == ("connect_timeout", 504)
        await server.wait_until_open(0)


async def test_aborting_while_connecting_leaves_nothing(make_client):
    """Neither before the first step nor in the middle of a handshake."""
    async with raw_server(Peer.hung_up) as server:
        client = make_client()
        ask(client, f"https://127.0.0.1:{server.port}/v1").abort()
        exchange = ask(client, f"https://127.0.0.1:{server.port}/v1")
        assert await exchange.head(0.05) is None
        exchange.abort()
        assert await failure_of(exchange) == ("aborted", 502)
        await server.wait_until_open(0)
        assert client.open_connections == 0


async def test_ipv6_is_spoken(make_client):
    """Addresses in brackets, and so in Host."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return  # a machine without IPv6 has nothing to show
    async with raw_server(Peer.keep_answering, host="::1") as server:
        url = server.url(host="[::1]")
        assert await answer_to(make_client(), url) == (200, b"hello")
        assert server.requests[0].get(b"host") == [f"[::1]:{server.port}".encode()]


async def test_a_verified_server_is_spoken_to_and_its_connection_kept(make_client):
    """TLS with SNI and ALPN; large bodies both ways."""
    body = b"x" * 2_000_000

    async def script(peer: Peer) -> None:
        tls = peer.writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "http/1.1"
        await peer.keep_answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n" + body)

    async with raw_server(script, tls=server_tls("localhost", "127.0.0.1")) as server:
        client = make_client(tls=trusting())
        for host in ("localhost", "localhost", "127.0.0.1"):
            assert await answer_to(client, server.url(host=host), body) == (200, body)
        assert server.accepted == 2
        assert [received.body for received in server.requests] == [body] * 3


YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@pytest.mark.parametrize(
    "tls",
    [
        pytest.param(server_tls("other.example"), id="wrong host"),
        pytest.param(server_tls("localhost", not_after=YESTERDAY), id="expired"),
        pytest.param(server_tls("localhost", authority=trustme.CA()), id="unknown authority"),
    ],
)
async def test_a_server_that_cannot_prove_its_name_is_not_spoken_to(make_client, tls):
    """Not a byte of the request, and above all not the key, reaches it."""
    async with raw_server(Peer.keep_answering, tls=tls) as server:
        client = make_client(tls=trusting())
        assert await failure_of(ask(client, server.url(host="localhost"))) == ("tls", 502)
        assert server.requests == []
        await server.wait_until_open(0)


async def test_tls_to_a_server_without_it_is_a_failure(make_client):
    """Its answer is no TLS record."""

    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client(tls=trusting())
        exchange = ask(client, f"https://localhost:{server.port}/v1")
        assert await failure_of(exchange) == ("tls", 502)


async def test_http_through_a_proxy_names_the_whole_url(make_client):
    """In absolute form, with the proxy's credentials, over one connection."""
    async with raw_server(Peer.keep_answering) as proxy:
        proxies = {"http": f"http://me:pw@127.0.0.1:{proxy.port}"}
        client = make_client(proxies=proxies)
        for _ in range(2):
            assert await answer_to(client, "http://up.example/v1?a=b") == (200, b"hello")
        assert proxy.accepted == 1
        received = proxy.requests[0]
        assert received.line == b"POST http://up.example/v1?a=b HTTP/1.1"
        assert received.get(b"host") == [b"up.example"]
        assert received.get(b"proxy-authorization") == [b"Basic bWU6cHc="]


async def relay(peer: Peer, port: int) -> list[bytes]:
    """What a proxy does: answer CONNECT, then pass bytes both ways. Gives the head it was sent."""
    head = await peer.head()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await peer.send(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    back = asyncio.create_task(pump(reader, peer.writer))
    try:
        await pump(peer.reader, writer)
    finally:
        back.cancel()
        writer.close()
    return head


async def test_https_through_a_proxy_is_tunnelled(make_client):
    """The proxy sees CONNECT and its own credentials; the upstream's key it does not."""
    heads: list[list[bytes]] = []
    async with raw_server(Peer.keep_answering, tls=server_tls("up.example")) as server:

        async def script(peer: Peer) -> None:
            heads.append([])
            heads[-1] += await relay(peer, server.port)

        async with raw_server(script) as proxy:
            proxies = {"https": f"http://me:pw@127.0.0.1:{proxy.port}"}
            client = make_client(tls=trusting(), proxies=proxies)
            for _ in range(2):
                url = f"https://up.example:{server.port}/v1"
                assert await answer_to(client, url, b"x" * 500_000) == (200, b"hello")
            assert (proxy.accepted, server.accepted) == (1, 1)
            assert server.requests[0].line == b"POST /v1 HTTP/1.1"
            assert server.requests[0].get(b"proxy-authorization") == []
            await client.aclose()
            await proxy.wait_until_open(0)
    authority = f"up.example:{server.port}".encode()
    assert heads == [
        [
            b"CONNECT %b HTTP/1.1" % authority,
            b"host: " + authority,
            b"proxy-authorization: Basic bWU6cHc=",
        ]
    ]


@pytest.mark.parametrize(
    "refusal",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nno!",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nand more",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 20_000,
        b"",
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_a_failure(make_client, refusal):
    """Whatever it says instead."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(refusal)

    async with raw_server(script) as proxy:
        client = make_client(proxies={"https": f"http://127.0.0.1:{proxy.port}"})
        assert await failure_of(ask(client, "https://up.example/v1")) == ("proxy", 502)
        await proxy.wait_until_open(0)


async def test_a_wrong_certificate_behind_a_tunnel_is_a_failure(make_client):
    """The tunnel is closed again."""
    async with raw_server(Peer.keep_answering, tls=server_tls("other.example")) as server:

        async def script(peer: Peer) -> None:
            await relay(peer, server.port)

        async with raw_server(script) as proxy:
            proxies = {"https": f"http://127.0.0.1:{proxy.port}"}
            client = make_client(tls=trusting(), proxies=proxies)
            assert await failure_of(ask(client, "https://up.example/v1")) == ("tls", 502)
            await proxy.wait_until_open(0)


async def test_a_name_that_tls_cannot_ask_for_is_a_failure_behind_a_tunnel_too(make_client):
    """A proxy may take a label that is too long for a certificate. The tunnel is closed again."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.hung_up()

    async with raw_server(script) as proxy:
        client = make_client(proxies={"https": f"http://127.0.0.1:{proxy.port}"})
        assert await failure_of(ask(client, f"https://{'a' * 64}.example/v1")) == ("connect", 502)
        await proxy.wait_until_open(0)


async def test_loopback_is_reached_straight_whatever_the_proxies(make_client):
    """The proxy hears nothing."""
    async with raw_server(Peer.keep_answering) as server, raw_server(Peer.hung_up) as proxy:
        client = make_client(proxies={"http": f"http://127.0.0.1:{proxy.port}"})
        assert await answer_to(client, server.url()) == (200, b"hello")
        assert proxy.accepted == 0

"""Which connection serves which call, how many there are, and when they go."""

import asyncio

import pytest

from tests.upstream.asking import PATIENCE_S, answer_to, ask, body_of, failure_of, head_of
from tests.upstream.raw_server import CHUNKED, OK, Peer, raw_server

pytestmark = pytest.mark.anyio


async def test_one_connection_serves_calls_one_after_the_other(make_client):
    """A hundred calls, one connection."""
    async with raw_server(Peer.keep_answering) as server:
        client = make_client()
        for _ in range(100):
            assert await answer_to(client, server.url()) == (200, b"hello")
        assert (server.accepted, client.open_connections) == (1, 1)


async def test_calls_at_a_time_have_a_connection_each_and_share_them_later(make_client):
    """Twenty at once open twenty; the next twenty open none."""
    async with raw_server(Peer.keep_answering) as server:
        client = make_client()
        for _ in range(2):
            answers = await asyncio.gather(*(answer_to(client, server.url()) for _ in range(20)))
            assert answers == [(200, b"hello")] * 20
        assert (server.accepted, client.open_connections) == (20, 20)


async def test_the_connection_used_last_is_used_first(make_client):
    """So that the ones that are not needed fall idle."""

    async def script(peer: Peer) -> None:
        await peer.keep_answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % peer.number)

    async with raw_server(script) as server:
        client = make_client()
        exchanges = [ask(client, server.url()) for _ in range(3)]
        numbers = [await body_of(exchange) for exchange in exchanges]
        for exchange in exchanges:
            exchange.close()
        assert [await answer_to(client, server.url()) for _ in range(3)] == [(200, numbers[2])] * 3


async def test_beyond_the_limit_calls_wait_their_turn(make_client):
    """First come, first served, over one connection."""
    async with raw_server(Peer.keep_answering) as server:
        client = make_client(pool_per_origin=1)
        exchanges = [ask(client, server.url(), b"%d" % i) for i in range(5)]
        for exchange in exchanges:
            assert await body_of(exchange) == b"hello"
            exchange.close()
        assert [received.body for received in server.requests] == [b"0", b"1", b"2", b"3", b"4"]
        assert server.accepted == 1


async def test_who_waits_too_long_for_a_connection_fails(make_client):
    """The connect limit counts; who was aborted in the queue is out of it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.2)
        await peer.send(OK)
        await peer.keep_answering()

    async with raw_server(script) as server:
        client = make_client(pool_per_origin=1, connect_timeout_s=0.1)
        first = ask(client, server.url(), b"first")
        assert await first.head(0.03) is None
        aborted, late = ask(client, server.url(), b"aborted"), ask(client, server.url(), b"late")
        aborted.abort()
        assert await failure_of(late) == ("connect_timeout", 504)
        third = ask(client, server.url(), b"third")
        assert await body_of(first) == b"hello"
        first.close()
        assert await body_of(third) == b"hello"
        third.close()
        assert [received.body for received in server.requests] == [b"first", b"third"]


async def test_a_dropped_connection_makes_place_for_who_waits(make_client):
    """Also when it was its exchange that failed."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number > 1:
            await peer.send(OK)
            await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client(pool_per_origin=1)
        first, second = ask(client, server.url()), ask(client, server.url())
        assert await failure_of(first) == ("closed", 502)
        assert await body_of(second) == b"hello"
        second.close()


async def test_an_idle_connection_is_closed_after_its_time(make_client):
    """The oldest first, each at its own time."""
    async with raw_server(Peer.keep_answering) as server:
        client = make_client(pool_idle_s=0.15)
        exchanges = [ask(client, server.url()) for _ in range(2)]
        for exchange in exchanges:
            await body_of(exchange)
        exchanges[0].close()
        await asyncio.sleep(0.1)
        exchanges[1].close()
        await server.wait_until_open(1)
        assert await answer_to(client, server.url()) == (200, b"hello")
        assert server.accepted == 2
        await server.wait_until_open(0)
        assert client.open_connections == 0


@pytest.mark.parametrize("goodbye", [Peer.reset, Peer.half_close])
async def test_a_connection_closed_while_idle_is_forgotten(make_client, goodbye):
    """The next call opens a new one, without a retry."""

    async def script(peer: Peer) -> None:
        await peer.answer()
        await asyncio.sleep(0.03)
        goodbye(peer)
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client()
        for _ in range(2):
            assert await answer_to(client, server.url()) == (200, b"hello")
            await server.wait_until_open(0)
            await asyncio.sleep(0.02)
            assert client.open_connections == 0
        assert (server.accepted, len(server.requests)) == (2, 2)


async def test_data_on_an_idle_connection_closes_it(make_client):
    """Nobody asked for it, so it must not be taken for the next answer."""

    async def script(peer: Peer) -> None:
        await peer.answer()
        await asyncio.sleep(0.03)
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client()
        for _ in range(2):
            assert await answer_to(client, server.url()) == (200, b"hello")
            await server.wait_until_open(0)
        assert server.accepted == 2


async def test_data_after_an_answer_not_yet_closed_costs_the_connection_only(make_client):
    """The answer stays readable."""

    async def script(peer: Peer) -> None:
        await peer.answer()
        await asyncio.sleep(0.03)
        await peer.send(b"more")
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client()
        exchange = ask(client, server.url())
        await head_of(exchange)
        await server.wait_until_open(0)
        assert await body_of(exchange) == b"hello"
        exchange.close()
        assert client.open_connections == 0


@pytest.mark.parametrize("read_first", [False, True])
async def test_closing_before_the_end_drops_the_connection(make_client, read_first):
    """The rest of the answer would be in the way of the next."""

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED + b"2\r\nhi\r\n")
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client()
        exchange = ask(client, server.url())
        await head_of(exchange)
        if read_first:
            assert await exchange.read(PATIENCE_S) == b"hi"
        exchange.close()
        exchange.close()
        await server.wait_until_open(0)


async def test_origins_do_not_share_connections(make_client):
    """Scheme, host and port together make an origin."""
    async with raw_server(Peer.keep_answering) as one, raw_server(Peer.keep_answering) as two:
        client = make_client(pool_per_origin=1)
        for url in (one.url(), two.url(), one.url("/other"), one.url(host="localhost")):
            assert await answer_to(client, url) == (200, b"hello")
        assert (one.accepted, two.accepted, client.open_connections) == (2, 1, 3)


async def test_closing_the_client_breaks_off_everything(make_client):
    """Calls under way, in the queue and being connected fail; later ones too."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client(pool_per_origin=2)
        exchanges = [ask(client, server.url()) for _ in range(2)]
        await server.wait_until_open(2)
        exchanges += [ask(client, server.url()), ask(client, server.url("/", host="localhost"))]
        waiting = [asyncio.create_task(failure_of(exchange)) for exchange in exchanges]
        await asyncio.sleep(0)
        await client.aclose()
        assert client.open_connections == 0
        assert await asyncio.gather(*waiting) == [("aborted", 502)] * 4
        assert await failure_of(ask(client, server.url())) == ("aborted", 502)
        await server.wait_until_open(0)

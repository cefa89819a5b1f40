"""Waiting, time limits, the retry, aborting: one exchange as its caller sees it."""

import asyncio

import pytest

from farebox.errors import UpstreamFailed
from tests.upstream.asking import PATIENCE_S, answer_to, ask, body_of, failure_of, head_of
from tests.upstream.raw_server import CHUNKED, OK, Peer, raw_server

pytestmark = pytest.mark.anyio


async def test_an_answer_has_status_lower_case_headers_and_body(make_client):
    """Header names come in lower case, each once, values as sent."""

    async def script(peer: Peer) -> None:
        await peer.answer(
            b"HTTP/1.1 418 Teapot\r\nX-One: A b \r\nSet-Cookie: a\r\nset-cookie: b\r\n"
            b"Content-Length: 3\r\n\r\nabc"
        )

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        head = await head_of(exchange)
        assert (head.status, head.headers) == (
            418,
            {b"x-one": b"A b", b"set-cookie": b"b", b"content-length": b"3"},
        )
        assert await body_of(exchange) == b"abc"
        exchange.close()


async def test_the_request_arrives_as_given(make_client):
    """Method, path and query as given; Host, Content-Length and Accept-Encoding are added."""
    async with raw_server(Peer.keep_answering) as server:
        url = server.url("/a%20b/c?d=%2F&e")
        await answer_to(make_client(), url, b'{"a":1}', headers=((b"x-a", b"b"),))
        (received,) = server.requests
        assert received.line == b"POST /a%20b/c?d=%2F&e HTTP/1.1"
        assert received.headers == (
            (b"host", f"127.0.0.1:{server.port}".encode()),
            (b"accept-encoding", b"identity"),
            (b"x-a", b"b"),
            (b"content-length", b"7"),
        )
        assert received.body == b'{"a":1}'


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 262_145, 5_000_000])
async def test_a_body_of_any_size_arrives_whole(make_client, size):
    """Also one that needs many writes."""
    body = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
    async with raw_server(Peer.keep_answering) as server:
        client = make_client()
        assert await answer_to(client, server.url(), body[:size]) == (200, b"hello")
        assert await answer_to(client, server.url(), body[:size]) == (200, b"hello")
        assert [received.body for received in server.requests] == [body[:size]] * 2
        assert server.accepted == 1


async def test_head_and_read_return_none_when_patience_ends_and_can_be_asked_again(make_client):
    """The relay uses the pauses to send signs of life to its client."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.1)
        await peer.send(CHUNKED)
        await asyncio.sleep(0.1)
        await peer.send(b"2\r\nhi\r\n0\r\n\r\n")

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        assert await exchange.head(0.01) is None
        assert await exchange.head(0) is None
        head = await head_of(exchange)
        assert await exchange.head(0) == head
        assert await exchange.read(0.01) is None
        assert await exchange.read(PATIENCE_S) == b"hi"
        assert await exchange.read(PATIENCE_S) == b""
        assert await exchange.read(PATIENCE_S) == b""
        exchange.close()


async def test_read_gives_all_that_has_arrived_at_once(make_client):
    """Chunks that came together leave together."""

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED + b"1\r\na\r\n" * 100 + b"0\r\n\r\n")

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        assert await exchange.read(PATIENCE_S) == b"a" * 100
        exchange.close()


async def test_no_answer_is_a_first_byte_timeout(make_client):
    """Counted from the request being written; the connection is dropped."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client(first_byte_timeout_s=0.05)
        assert await failure_of(ask(client, server.url())) == ("first_byte_timeout", 504)
        await server.wait_until_open(0)


async def test_a_request_may_have_its_own_first_byte_limit(make_client):
    """Models that think long need longer than others."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.1)
        await peer.send(OK)
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client(first_byte_timeout_s=0.03)
        slow = ask(client, server.url(), first_byte_timeout_s=5)
        fast = ask(client, server.url())
        assert await failure_of(fast) == ("first_byte_timeout", 504)
        assert await body_of(slow) == b"hello"
        slow.close()


async def test_a_head_that_drips_does_not_stretch_the_first_byte_limit(make_client):
    """The limit is for the whole head, else an upstream could hold a call for ever."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for byte in b"HTTP/1.1 200 OK\r\nx-slow: 1234567890\r\n":
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.01)

    async with raw_server(script) as server:
        client = make_client(first_byte_timeout_s=0.1)
        assert await failure_of(ask(client, server.url())) == ("first_byte_timeout", 504)


async def test_silence_within_an_answer_is_an_idle_timeout(make_client):
    """What came before it is readable."""

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED + b"2\r\nhi\r\n")
        await peer.hung_up()

    async with raw_server(script) as server:
        exchange = ask(make_client(idle_timeout_s=0.05), server.url())
        await head_of(exchange)
        assert await exchange.read(PATIENCE_S) == b"hi"
        with pytest.raises(UpstreamFailed) as caught:
            await exchange.read(PATIENCE_S)
        assert (caught.value.reason, caught.value.status) == ("idle_timeout", 504)
        exchange.close()
        await server.wait_until_open(0)


async def test_a_slow_but_steady_answer_is_no_timeout(make_client):
    """Every byte is a sign of life."""

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED)
        for _ in range(20):
            await asyncio.sleep(0.02)
            await peer.send(b"1\r\na\r\n")
        await peer.send(b"0\r\n\r\n")

    async with raw_server(script) as server:
        client = make_client(idle_timeout_s=0.15, first_byte_timeout_s=0.15)
        assert await answer_to(client, server.url()) == (200, b"a" * 20)


async def test_a_slow_reader_does_not_make_the_upstream_look_silent(make_client):
    """While nobody reads, the upstream is paused and its silence is ours."""
    body = b"x" * 3_000_000

    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async with raw_server(script) as server:
        exchange = ask(make_client(idle_timeout_s=0.1), server.url())
        await head_of(exchange)
        await asyncio.sleep(0.3)
        assert await body_of(exchange) == body
        exchange.close()


async def test_a_reused_connection_that_was_closed_unseen_is_replaced_once(make_client):
    """The request goes out again on a fresh connection, body and all."""

    async def script(peer: Peer) -> None:
        await peer.answer()
        if peer.number == 1:
            await peer.request()  # takes the second request, then hangs up without a word
        else:
            await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client()
        assert await answer_to(client, server.url(), b"one") == (200, b"hello")
        assert await answer_to(client, server.url(), b"two") == (200, b"hello")
        assert [received.body for received in server.requests] == [b"one", b"two", b"two"]
        assert server.accepted == 2


@pytest.mark.parametrize("goodbye", [Peer.reset, Peer.half_close])
async def test_the_retry_happens_only_once(make_client, goodbye):
    """A fresh connection that fails in the same way is a failure."""

    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.answer()
        await peer.request()
        goodbye(peer)

    async with raw_server(script) as server:
        client = make_client()
        assert await answer_to(client, server.url()) == (200, b"hello")
        reason = "reset" if goodbye is Peer.reset else "closed"
        assert await failure_of(ask(client, server.url())) == (reason, 502)
        assert server.accepted == 2


async def test_a_fresh_connection_that_closes_is_not_retried(make_client):
    """Nothing suggests that a second try would end otherwise."""

    async def script(peer: Peer) -> None:
        await peer.request()

    async with raw_server(script) as server:
        assert await failure_of(ask(make_client(), server.url())) == ("closed", 502)
        assert server.accepted == 1


async def test_once_a_byte_of_the_answer_came_there_is_no_retry(make_client):
    """The upstream has begun to work on it, perhaps at a price."""

    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.answer(b"HTTP/1.1 2")

    async with raw_server(script) as server:
        client = make_client()
        await answer_to(client, server.url())
        assert await failure_of(ask(client, server.url())) == ("closed", 502)
        assert server.accepted == 1


async def test_abort_wakes_who_waits_and_drops_the_connection(make_client):
    """Also within an answer; it may be repeated, and close() after it does nothing."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 2:
            await peer.send(CHUNKED)
        await peer.hung_up()

    async with raw_server(script) as server:
        client = make_client()
        for _ in range(2):
            exchange = ask(client, server.url())
            waiting = asyncio.create_task(failure_of(exchange))
            await server.wait_until_open(1)
            await asyncio.sleep(0.02)
            exchange.abort()
            exchange.abort()
            assert await waiting == ("aborted", 502)
            exchange.close()
            await server.wait_until_open(0)
        assert client.open_connections == 0


async def test_a_waiting_task_may_be_cancelled_and_another_take_over(make_client):
    """The exchange itself goes on."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.05)
        await peer.send(OK)

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await exchange.head(PATIENCE_S)
        assert await body_of(exchange) == b"hello"
        exchange.close()


async def test_an_early_answer_to_a_body_still_being_sent_is_read(make_client):
    """An upstream may refuse before it has read all; the connection is not used again."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(0.1)

    async with raw_server(script) as server:
        client = make_client()
        assert await answer_to(client, server.url(), b"x" * 30_000_000) == (413, b"no")
        assert client.open_connections <= 1
        await server.wait_until_open(0)


async def test_an_upstream_that_takes_no_more_of_the_request_times_out(make_client):
    """The first-byte limit then counts from the last part written."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.sleep(5)

    async with raw_server(script) as server:
        client = make_client(first_byte_timeout_s=0.1)
        exchange = ask(client, server.url(), b"x" * 30_000_000)
        assert await failure_of(exchange) == ("first_byte_timeout", 504)

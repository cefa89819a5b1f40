"""TLS sessions: resumed by the next connection to a host, and when they are not."""

import asyncio
import ssl

import pytest

from tests.upstream.asking import answer_to, ask, failure_of
from tests.upstream.certificates import server_tls, trusting
from tests.upstream.raw_server import CHUNKED, OK, Peer, raw_server

pytestmark = pytest.mark.anyio
LAST = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"


class Noting:
    """A script that gives one answer a connection, and notes which of them resumed a session."""

    def __init__(self, answer: bytes = LAST) -> None:
        self.answer = answer
        self.resumed: list[bool] = []

    async def __call__(self, peer: Peer) -> None:
        self.resumed.append(peer.writer.get_extra_info("ssl_object").session_reused)
        await peer.answer(self.answer)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "answer", [LAST, b"HTTP/1.1 200 OK\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"]
)
async def test_the_next_connection_to_a_host_resumes_its_session(make_client, version, answer):
    """However the answer ends, and again and again."""
    tls, script = server_tls("localhost"), Noting(answer)
    tls.maximum_version = version
    async with raw_server(script, tls=tls) as server:
        client = make_client(tls=trusting())
        for _ in range(4):
            assert await answer_to(client, server.url(host="localhost")) == (200, b"hello")
            await server.wait_until_open(0)
        assert script.resumed == [False, True, True, True]


async def test_connections_opened_at_the_same_time_may_resume_the_same_session(make_client):
    """A burst after a pause costs no full handshakes."""
    script = Noting()
    async with raw_server(script, tls=server_tls("localhost")) as server:
        client = make_client(tls=trusting())
        await answer_to(client, server.url(host="localhost"))
        calls = [answer_to(client, server.url(host="localhost")) for _ in range(5)]
        assert await asyncio.gather(*calls) == [(200, b"hello")] * 5
        assert script.resumed == [False] + [True] * 5


async def test_a_session_is_resumed_by_its_own_host_only(make_client):
    """Another name has to prove itself, also at the same address."""
    script = Noting()
    async with raw_server(script, tls=server_tls("localhost", "127.0.0.1")) as server:
        client = make_client(tls=trusting())
        for host in ("localhost", "127.0.0.1", "localhost", "127.0.0.1"):
            await answer_to(client, server.url(host=host))
        assert script.resumed == [False, False, True, True]


async def test_what_resumes_goes_back_to_a_certificate_that_was_seen_lately(make_client):
    """A chain of resumed sessions has an end."""
    script = Noting()
    async with raw_server(script, tls=server_tls("localhost")) as server:
        client = make_client(tls=trusting(resume_s=0.3))
        for _ in range(3):
            await answer_to(client, server.url(host="localhost"))
            await asyncio.sleep(0.2)
        assert script.resumed[2] is False


async def test_a_server_that_forgot_the_session_is_spoken_to_all_the_same(make_client):
    """It was started anew, with other ticket keys; its certificate is looked at again."""
    one, two = Noting(), Noting()
    tls = trusting()
    async with raw_server(one, tls=server_tls("localhost")) as server:
        await answer_to(make_client(tls=tls), server.url(host="localhost"))
    async with raw_server(two, tls=server_tls("localhost")) as server:
        for _ in range(2):
            await answer_to(make_client(tls=tls), server.url(host="localhost"))
    assert (one.resumed, two.resumed) == ([False], [False, True])


async def test_another_server_in_its_place_cannot_use_the_session(make_client):
    """One without the certificate is refused, whatever was agreed before, and is forgotten."""
    good, tls = Noting(), trusting()
    async with raw_server(good, tls=server_tls("localhost")) as server:
        client = make_client(tls=tls)
        await answer_to(client, server.url(host="localhost"))
        async with raw_server(Noting(), tls=server_tls("other.example")) as impostor:
            assert await failure_of(ask(client, impostor.url(host="localhost"))) == ("tls", 502)
            assert impostor.requests == []
        await answer_to(client, server.url(host="localhost"))
    assert good.resumed == [False, False]


async def test_a_session_that_was_forgotten_does_not_come_back(make_client):
    """Not by a connection that resumed it before: its host has to show its certificate again."""
    resumed: list[bool] = []
    may_answer = asyncio.Event()

    async def script(peer: Peer) -> None:
        resumed.append(peer.writer.get_extra_info("ssl_object").session_reused)
        if len(resumed) == 2:
            await may_answer.wait()
        await peer.answer(LAST)

    async with raw_server(script, tls=server_tls("localhost")) as server:
        client = make_client(tls=trusting())
        await answer_to(client, server.url(host="localhost"))
        waiting = asyncio.create_task(answer_to(client, server.url(host="localhost")))
        async with asyncio.timeout(5):
            while len(resumed) < 2:
                await asyncio.sleep(0.005)
        async with raw_server(Noting(), tls=server_tls("other.example")) as impostor:
            assert await failure_of(ask(client, impostor.url(host="localhost"))) == ("tls", 502)
        may_answer.set()
        await waiting
        await answer_to(client, server.url(host="localhost"))
    assert resumed == [False, True, False]


async def test_a_kept_connection_needs_no_session(make_client):
    """One handshake serves all calls on it."""
    resumed: list[bool] = []

    async def script(peer: Peer) -> None:
        resumed.append(peer.writer.get_extra_info("ssl_object").session_reused)
        await peer.keep_answering(OK)

    async with raw_server(script, tls=server_tls("localhost")) as server:
        client = make_client(tls=trusting())
        for _ in range(3):
            await answer_to(client, server.url(host="localhost"))
    assert resumed == [False]

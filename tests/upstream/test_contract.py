"""One contract, and every server that it was seen to hold with (real_servers.py).

The wire between (wire.py) counts connections and fails on demand, which servers do not.
"""

import asyncio
import tracemalloc

import pytest

from farebox.core.ports import Exchange, UpstreamHead, UpstreamRequest
from farebox.errors import UpstreamFailed
from farebox.upstream.client import Client
from tests.relaying import USAGE, Relaying
from tests.upstream.asking import PATIENCE_S, answer_to, body_of, head_of
from tests.upstream.certificates import trusting
from tests.upstream.pythons_server import IDLE_CLOSE_S
from tests.upstream.real_servers import Sample, Served
from tests.upstream.wire import Wire, hang_up, reset, wire_to

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024
_CALLS = 120
GOODBYES = pytest.mark.parametrize("goodbye", [hang_up, reset])


@pytest.fixture(params=["pythons", "pythons_tls", "pythons_streams", "nginx", "llama", "fake"])
def served(request: pytest.FixtureRequest) -> Served:
    """Each of the servers."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["pythons", "pythons_tls", "nginx"])
def echoing(request: pytest.FixtureRequest) -> Served:
    """Those that take a large body and say it back, and soon close what lies idle."""
    return request.getfixturevalue(request.param)


def opened(client: Client, wire: Wire, sample: Sample) -> Exchange:
    return client.open(
        UpstreamRequest(wire.base + sample.path, sample.headers, sample.body, sample.method)
    )


async def called(client: Client, wire: Wire, sample: Sample) -> UpstreamHead:
    """One call whose answer is as it should be."""
    exchange = opened(client, wire, sample)
    try:
        head = await head_of(exchange)
        assert head.status == sample.status
        assert sample.is_right(await body_of(exchange))
        return head
    finally:
        exchange.close()


async def failure_in(exchange: Exchange) -> tuple[str, bytes]:
    """Why an answer broke off, and what of its body was readable before."""
    parts: list[bytes] = []
    try:
        while data := await exchange.read(PATIENCE_S):
            parts.append(data)
    except UpstreamFailed as failure:
        return failure.reason, b"".join(parts)
    finally:
        exchange.close()
    raise AssertionError("the answer was taken for whole")


async def test_answers_are_whole_in_every_framing_that_the_server_has(make_client, served):
    """Length, chunks, until close; each twice, and one after the other on one client."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        client = make_client()
        for sample in served.samples * 2:
            head = await called(client, wire, sample)
            coding = head.headers.get(b"transfer-encoding")
            if sample.framing == "chunked":
                assert coding == b"chunked"
            elif sample.framing == "length":
                assert (coding, head.headers.get(b"content-length") is not None) == (None, True)
            else:
                assert head.headers.get(b"connection") == b"close"


async def test_calls_one_after_the_other_take_one_connection(make_client, served):
    """Whatever was asked, as long as the server keeps it."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        client = make_client()
        for sample in served.samples:
            if sample.keeps:
                await called(client, wire, sample)
        assert (wire.accepted, client.open_connections) == (1, 1)


async def test_calls_at_a_time_are_answered_each_with_its_own(make_client, served):
    """Through fewer connections than calls."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        client = make_client(pool_per_origin=2)

        async def call(i: int) -> None:
            await called(client, wire, served.samples[-(i % 2)])
            assert client.open_connections <= 2

        await asyncio.gather(*map(call, range(12)))


async def test_a_server_may_limit_the_calls_on_a_connection(make_client, served):
    """More in a row than any of them takes on one, and each is answered."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        client = make_client()
        for _ in range(_CALLS):
            await called(client, wire, served.samples[0])
        assert wire.accepted >= _CALLS / (served.most_calls or _CALLS)
        assert client.open_connections <= 1


@pytest.mark.parametrize("pause_s", [IDLE_CLOSE_S, IDLE_CLOSE_S * 1.5])
async def test_a_server_may_close_what_lies_idle(make_client, echoing, pause_s):
    """The next call is answered, also when it meets the goodbye on its way."""
    async with wire_to(echoing.port, is_tls=echoing.is_tls) as wire:
        client = make_client()
        await called(client, wire, echoing.kept)
        await asyncio.sleep(pause_s)
        await called(client, wire, echoing.kept)
        if pause_s > IDLE_CLOSE_S:
            assert wire.accepted == 2


@GOODBYES
async def test_an_idle_connection_that_was_lost_is_not_used(make_client, served, goodbye):
    """Seen in time, it costs nothing but a new one."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        client = make_client()
        wire.goodbye = goodbye
        await called(client, wire, served.kept)
        wire.cut_all()
        await wire.wait_until_closed()
        await asyncio.sleep(0.02)
        assert client.open_connections == 0
        await called(client, wire, served.kept)
        assert wire.accepted == 2


@GOODBYES
async def test_a_used_connection_lost_under_a_call_is_replaced_once(make_client, served, goodbye):
    """The caller sees only the answer. On a new connection the same thing is a failure."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        client = make_client()
        await called(client, wire, served.kept)
        wire.goodbye, wire.cut_requests_from = goodbye, wire.to_server_bytes
        await called(client, wire, served.kept)
        assert wire.accepted == 2
        wire.cuts = 2
        wire.cut_requests_from = wire.to_server_bytes
        reason, _ = await failure_in(opened(client, wire, served.kept))
        assert reason == ("reset" if goodbye is reset else "closed")
        assert wire.accepted == 3


async def test_a_replaced_connection_is_no_failure_for_the_relay(fake_upstream):
    """It hears of one attempt that went well, so that no channel is blamed for it."""
    async with wire_to(fake_upstream.port) as wire:
        base_url = fake_upstream.base_url("openai")
        through_wire = {"openai": base_url.replace(str(fake_upstream.port), str(wire.port))}
        async with Relaying(fake_upstream, base_urls=through_wire) as relaying:
            for accepted in (1, 2, 3):
                await relaying.call(usage=USAGE)
                wire.cuts, wire.cut_requests_from = 1, wire.to_server_bytes
                assert wire.accepted == accepted
                attempts = relaying.settlement.attempts
                assert [(each.status, each.error) for each in attempts] == [(200, None)]


@GOODBYES
@pytest.mark.parametrize("came", [0, 5, 40])
async def test_an_answer_lost_before_its_head_is_a_failure(make_client, served, goodbye, came):
    """On a new connection: nothing says that a second try would end otherwise."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        wire.goodbye, wire.cut_after = goodbye, came
        reason, body = await failure_in(opened(make_client(), wire, served.kept))
        assert (reason, body) == ("reset" if goodbye is reset else "closed", b"")
        assert wire.accepted == 1


@GOODBYES
async def test_an_answer_lost_within_its_body_gives_what_came(make_client, served, goodbye):
    """And is never taken for whole, also when all but its last byte has come."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        client = make_client()
        await called(client, wire, served.kept)
        wire.goodbye, wire.cut_after = goodbye, 2 * wire.to_client_bytes - 1
        reason, _ = await failure_in(opened(client, wire, served.kept))
        assert reason == ("reset" if goodbye is reset else "truncated")
        await called(client, wire, served.kept)


async def test_a_server_that_falls_silent_has_its_limits(make_client, served):
    """Before the answer, within its head, within its body."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        client = make_client(first_byte_timeout_s=5.0, idle_timeout_s=0.15)
        await called(client, wire, served.kept)
        answer_bytes = wire.to_client_bytes
        await client.aclose()
        client = make_client(first_byte_timeout_s=0.15, idle_timeout_s=0.15)
        for stall_bytes, wanted in (
            (0, "first_byte_timeout"),
            (20, "first_byte_timeout"),
            (answer_bytes - 1, "idle_timeout"),
        ):
            wire.to_client_bytes, wire.stall_after = 0, stall_bytes
            reason, _ = await failure_in(opened(client, wire, served.kept))
            assert reason == wanted
        await wire.wait_until_closed()


async def test_hanging_up_ends_the_connection_and_spoils_no_other(make_client, served):
    """Within an answer or before it."""
    async with wire_to(served.port, is_tls=served.is_tls) as wire:
        client = make_client()
        for is_answered in (False, True):
            exchange = opened(client, wire, served.samples[1])
            if is_answered:
                await head_of(exchange)
            exchange.abort()
            await wire.wait_until_closed()
            await called(client, wire, served.samples[1])
            wire.cut_all()
            await wire.wait_until_closed()


async def test_large_bodies_go_both_ways(make_client, echoing):
    """Thirty-two mebibytes there and back."""
    body = bytes(range(256)) * (32 * MIB // 256)
    async with wire_to(echoing.port, is_tls=echoing.is_tls) as wire:
        url = f"{wire.base}{echoing.echo}"
        assert await answer_to(make_client(), url, body) == (200, body)


async def test_a_slow_server_is_not_fed_from_copies(make_client, echoing):
    """While it takes nothing, a request of 32 MiB costs little beside itself."""
    body = b"x" * (32 * MIB)
    async with wire_to(echoing.port, is_tls=echoing.is_tls) as wire:
        client = make_client()
        wire.may_pass_up.clear()
        tracemalloc.start()
        try:
            exchange = client.open(UpstreamRequest(f"{wire.base}{echoing.echo}", (), body))
            assert await exchange.head(0.2) is None
            assert tracemalloc.get_traced_memory()[1] < 2 * MIB
        finally:
            tracemalloc.stop()
        assert wire.to_server_bytes < 8 * MIB
        wire.may_pass_up.set()
        assert await body_of(exchange) == body
        exchange.close()


async def test_a_slow_reader_holds_the_server_back(make_client, echoing):
    """What is not read stays there: 32 MiB do not come over the wire, nor into memory."""
    body = b"x" * (32 * MIB)
    async with wire_to(echoing.port, is_tls=echoing.is_tls) as wire:
        exchange = make_client().open(UpstreamRequest(f"{wire.base}{echoing.echo}", (), body))
        await head_of(exchange)
        seen = -1
        async with asyncio.timeout(10):
            while seen != wire.to_client_bytes:
                seen = wire.to_client_bytes
                await asyncio.sleep(0.1)
        assert seen < 16 * MIB
        first = await exchange.read(PATIENCE_S)
        assert first is not None
        assert len(first) <= MIB // 2
        assert first + await body_of(exchange) == body
        exchange.close()


async def test_nginx_resumes_tls_sessions(make_client, nginx_ports):
    """It says so itself: `r` for resumed. It closes after each call here."""
    client = make_client(tls=trusting())
    said = [await answer_to(client, f"https://localhost:{nginx_ports[1]}/") for _ in range(3)]
    assert said == [(200, b"TLSv1.3 ."), (200, b"TLSv1.3 r"), (200, b"TLSv1.3 r")]

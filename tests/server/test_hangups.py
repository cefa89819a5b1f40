"""When a client hangs up while its upstream is silent, between real servers: the upstream is let go
in time, though nothing comes that would wake the call; or what comes then is read to its end.
"""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from farebox.core.usage import Usage
from farebox.routing.catalogue import Catalogue
from farebox.upstream.client import Client
from tests.server.worker import BOTH_WAYS, make_worker, running
from tests.upstream.raw_server import raw_server

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

STREAMED = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'
WHOLE = STREAMED.replace(b"true", b"false")
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
END = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}\n\n'
    b"data: [DONE]\n\n"
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
BEGINNINGS = {
    "nothing": (STREAMED, b""),
    "head": (STREAMED, HEAD % b"text/event-stream"),
    "event": (STREAMED, HEAD % b"text/event-stream" + b"%x\r\n%b\r\n" % (len(EVENT), EVENT)),
    "json": (WHOLE, HEAD % b"application/json" + b"1\r\n{\r\n"),
}


class Silent:
    """An upstream that says the beginning of an answer and then nothing, until it is let go."""

    def __init__(self, beginning):
        self.beginning = beginning
        self.said, self.let_go = asyncio.Event(), asyncio.Event()

    async def __call__(self, peer):
        await peer.request()
        if self.beginning:
            await peer.send(self.beginning)
        self.said.set()
        await peer.hung_up()
        self.let_go.set()


@contextlib.asynccontextmanager
async def asking(silent, **settings):
    """A worker that asks this upstream, and would look at its calls once an hour by itself."""
    worker = make_worker(keepalive_s=3600.0, **settings)
    gateway = worker.state.gateway
    async with raw_server(silent) as server:
        old = gateway.catalogue
        channels = [
            replace(channel, base_url=server.url("/v1")) for channel in old.channels.values()
        ]
        models, groups = old.models.values(), old.groups.values()
        gateway.catalogue = Catalogue.of(old.version, channels, models, groups)
        client = gateway.upstream = Client(worker.state.settings, proxies={})
        try:
            async with running(worker):
                yield worker
        finally:
            await client.aclose()


@pytest.mark.parametrize("drain_s", [0.0, 0.2])
@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_the_upstream_is_let_go(carrier, beginning, drain_s):
    """At once, or when it has been drained for as long as may be; and the call is settled."""
    body, said = BEGINNINGS[beginning]
    silent = Silent(said)
    async with asking(silent, drain_after_hangup_s=drain_s) as worker, asyncio.timeout(8):
        _, writer = await worker.send("POST", "/v1/chat/completions", {}, body, worker.secret)
        await silent.said.wait()
        await asyncio.sleep(0.05)  # so that it has reached the worker
        writer.close()
        await silent.let_go.wait()
        while worker.served.tasks:
            await asyncio.sleep(0.002)
        (settlement,) = worker.books.settlements
        assert settlement.outcome == "client_gone"
        assert [attempt.error for attempt in settlement.attempts] == ["client_gone"]


async def test_a_stream_that_begins_behind_the_hang_up_is_read_for_its_usage():
    """Its head had come, so it is drained: in several reads, and charged by what it reports."""
    gone = asyncio.Event()

    async def late(peer):
        await peer.request()
        await peer.send(BEGINNINGS["head"][1])
        await gone.wait()
        for event in (EVENT, EVENT, END):
            await peer.send(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(0.02)
        await peer.send(b"0\r\n\r\n")

    async with asking(late, drain_after_hangup_s=5.0) as worker, asyncio.timeout(8):
        _, writer = await worker.send("POST", "/v1/chat/completions", {}, STREAMED, worker.secret)
        while not worker.served.tasks:
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)  # so that the upstream's head has come
        writer.close()
        while worker.served.connections:
            await asyncio.sleep(0.002)
        gone.set()
        while not worker.books.settlements:
            await asyncio.sleep(0.002)
        (settlement,) = worker.books.settlements
        assert (settlement.outcome, settlement.flags) == ("client_gone", ())
        assert settlement.usage == Usage(uncached_input=10, output=5)
        assert [attempt.error for attempt in settlement.attempts] == [None]

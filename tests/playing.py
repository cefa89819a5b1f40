"""An upstream that says a chat answer byte by byte, as a test writes it down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from tests.fakes.upstream import FakeUpstream
from tests.relaying import USAGE, RecordingClient, Relaying
from tests.upstream.raw_server import CHUNKED, Peer, raw_server

STREAM = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-type: text/event-stream\r\n\r\n")
JSON = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-type: application/json\r\n\r\n")
END = b"0\r\n\r\n"

Step = bytes | float | asyncio.Event | Literal["hung up"]
"""What is sent, how many seconds are slept, or what is waited for: an event, or that the gateway
hangs up.
"""


def part(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunk(text: str = "", finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """An event of a stream."""
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    shown = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": [choice]}
    return part(b"data: " + json.dumps({**shown, **more}).encode() + b"\n\n")


def usage_event(usage: bytes) -> bytes:
    """The event that tells the usage, which are JSON."""
    return part(b'data: {"id":"c","choices":[],"usage":' + usage + b"}\n\n")


DONE = part(b"data: [DONE]\n\n")
GOOD_USAGE = usage_event(json.dumps(USAGE).encode())


def text_of(client: RecordingClient) -> str:
    """What a client got of the answer."""
    choices = [each for event in client.events if "choices" in event for each in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


class PacedClient(RecordingClient):
    """A client for whom the upstream says the next chunk when it has the one before."""

    def __init__(self, *chunks: bytes) -> None:
        super().__init__()
        self._gates: list[asyncio.Event] = []
        self.steps: list[Step] = []
        for each in chunks:
            gate = asyncio.Event()
            self._gates.append(gate)
            self.steps += [each, gate]

    def keep(self, data: bytes, *, last: bool = False) -> None:
        super().keep(data, last=last)
        if self._gates:
            self._gates.pop(0).set()


async def seen(client: RecordingClient, text: str) -> None:
    """Wait until the client has this text."""
    async with asyncio.timeout(20):
        while text not in text_of(client):
            await asyncio.sleep(0.002)


@asynccontextmanager
async def played(upstream: FakeUpstream, *steps: Step, **more: Any) -> AsyncIterator[Relaying]:
    """A relay whose upstream answers each request with these steps; its connection is reset where
    they do not come to an end. `more` is Relaying's.
    """

    async def script(peer: Peer) -> None:
        await peer.request()
        for step in steps:
            if isinstance(step, bytes):
                await peer.send(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif step == "hung up":
                await peer.hung_up()
            else:
                await asyncio.sleep(step)
        if steps[-1] != END:
            peer.reset()

    async with raw_server(script) as server:
        base_urls = {"openai": server.url("/v1")}
        async with Relaying(upstream, base_urls=base_urls, **more) as relaying:
            relaying.played = server
            yield relaying

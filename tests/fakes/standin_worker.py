"""A worker without a gateway in it: it keeps the bus's rules, or breaks one, and answers HTTP.

Every GET is answered with one JSON object that says who answers and what it was told. `GET /slow`
takes a second. `STANDIN` in the environment, or the setting `vice`, chooses a vice: `fail` ends it
before it is ready, `late` has it ready after a while, `deaf` makes it ignore Drain.
"""

import argparse
import asyncio
import json
import os
import socket
import sys

from farebox.core.bus import Bus, Changed, Drain, Ready, Start

VICE = os.environ.get("STANDIN", "")


class Standin:
    """One worker's life."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.changes: list[tuple[int, int]] = []
        self.calls: set[asyncio.Task[None] | None] = set()
        self.start: Start

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls.add(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /slow"):
            await asyncio.sleep(1)
        body = json.dumps(
            {
                "slot": self.start.slot,
                "pid": os.getpid(),
                "owner": self.start.owner,
                "instance": self.start.instance_id,
                "port": self.start.settings["port"],
                "local": self.start.local and self.start.local.base_url,
                "local_key": self.start.local and self.start.local.api_key,
                "changes": self.changes,
                "ledger": self.start.ledger,
                "metrics": os.environ["PROMETHEUS_MULTIPROC_DIR"],
                "trim_bytes": os.environ["MALLOC_TRIM_THRESHOLD_"],
            }
        ).encode()
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()
        self.calls.discard(asyncio.current_task())

    async def run(self, listen_fd: int) -> None:
        start = await self.bus.receive()
        assert isinstance(start, Start)
        self.start = start
        self.vice = start.settings.get("vice", VICE)
        if self.vice == "fail":
            sys.exit(3)
        if self.vice == "late":
            await asyncio.sleep(0.7)
        server = await asyncio.start_server(self.answer, sock=socket.socket(fileno=listen_fd))
        self.bus.send(Ready(start.slot, os.getpid()))
        while message := await self.bus.receive():
            if isinstance(message, Changed):
                self.changes.append((message.catalogue, message.keys))
            if isinstance(message, Drain) and self.vice != "deaf":
                break
        server.close()
        await asyncio.gather(*filter(None, self.calls))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bus-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    ends = parser.parse_args()
    async with await Bus.connect(ends.bus_fd) as bus:
        await Standin(bus).run(ends.listen_fd)


asyncio.run(main())

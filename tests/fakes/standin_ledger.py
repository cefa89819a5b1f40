"""A ledger process without a ledger in it: it keeps the rules of its place.

It appends its process and what it was told of workers to DATA_DIR/ledgers, says that it is ready,
and ends on SIGTERM or when its standard input ends, once nobody is connected any more. If that ends
before it was told anything, it was a spare. `STANDIN` in the environment may be `no-ledger`: then
it ends before it is ready.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path


async def live(listen_fd: int) -> None:
    sys.stdout.write("here\n")
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        return
    order = json.loads(line)
    if os.environ.get("STANDIN") == "no-ledger":
        sys.exit(4)
    data_dir = Path(order["settings"]["data_dir"])
    with (data_dir / "ledgers").open("a") as file:
        file.write(f"{os.getpid()} {order['workers']}\n")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), stop.set)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, sock=socket.socket(fileno=listen_fd)):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


parser = argparse.ArgumentParser()
parser.add_argument("--listen-fd", type=int, required=True)
asyncio.run(live(parser.parse_args().listen_fd))

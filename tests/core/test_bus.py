"""The bus: messages survive the wire, and a dead peer is told from a silent one."""

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from farebox.core.bus import (
    Bus,
    BusError,
    Changed,
    Drain,
    LocalEndpoint,
    Message,
    Ready,
    Start,
    decode,
    encode,
    plain_settings,
    read_settings,
)
from farebox.core.settings import Settings

pytestmark = pytest.mark.anyio

SETTINGS = Settings(
    data_dir=Path("/data"),
    database="sqlite:////data/farebox.db",
    secret_file=Path("/secret"),
    trusted_proxies=("10.0.0.0/8", "::1"),
    drain_timeout_s=1.5,
)
PLAIN = {**plain_settings(SETTINGS), "of_a_newer_version": 1}
MESSAGES: list[Message] = [
    Start(0, "w0-abc", "fb_1", PLAIN),
    Start(1, "w1-def", "fb_1", PLAIN, LocalEndpoint("http://127.0.0.1:1/v1", "secret")),
    Start(2, "w2-ghi", "fb_1", PLAIN, ledger="/tmp/farebox-1/ledger"),
    Changed(catalogue=3, keys=9),
    Drain(30.0),
    Drain(900.0, hand_over=True),
    Ready(slot=1, pid=4711),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_a_message_survives_the_wire(message: Message) -> None:
    """What is decoded equals what was encoded, settings that only one side knows included."""
    assert decode(encode(message)) == message


def test_settings_survive_json() -> None:
    """Paths and tuples are what they were."""
    assert read_settings(json.loads(json.dumps(plain_settings(SETTINGS)))) == SETTINGS


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]\n",
        b'{"kind":"start"}\n',
        b'{"kind":"no"}\n',
        b'{"kind":"drain","x":1}\n',
        b"\xff\n",
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    """A line that is no message raises BusError, whatever is wrong with it."""
    with pytest.raises(BusError):
        decode(line)


def test_the_local_key_is_not_in_a_repr() -> None:
    """Start may be logged: the random key of the local model does not show."""
    endpoint = LocalEndpoint("http://127.0.0.1:1/v1", "secret_key")
    assert "secret_key" not in repr(Start(0, "w0", "fb", PLAIN, endpoint))


async def test_both_ends_send_and_receive_in_order() -> None:
    """Messages arrive in the order in which they were sent, in both directions at once."""
    left, right = socket.socketpair()
    async with await Bus.connect(left) as supervisor, await Bus.connect(right.detach()) as worker:
        for message in MESSAGES:
            supervisor.send(message)
        worker.send(MESSAGES[-1])
        assert [await worker.receive() for _ in MESSAGES] == MESSAGES
        assert await supervisor.receive() == MESSAGES[-1]


async def test_a_closed_end_is_none_on_the_other() -> None:
    """A peer that closed or died ends `receive` with None, and sending to it raises nothing."""
    left, right = socket.socketpair()
    bus, other = await Bus.connect(left), await Bus.connect(right)
    waiting = asyncio.create_task(bus.receive())
    await asyncio.sleep(0)
    other.close()
    assert await waiting is None
    for _ in range(3):
        bus.send(Changed(1, 1))
        await asyncio.sleep(0)
    assert await bus.receive() is None
    bus.close()


async def test_a_line_cut_by_death_is_no_message() -> None:
    """Half a line, then the end: the peer is gone, and nothing is made of the half."""
    left, right = socket.socketpair()
    os.write(right.fileno(), encode(Drain(1.0))[:-1])
    right.close()
    async with await Bus.connect(left) as bus:
        assert await bus.receive() is None

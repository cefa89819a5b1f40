"""The relay's client by ASGI and by the fast lane: when it counts as gone, and that nothing is left
of it.
"""

import asyncio
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from farebox.server.asgi_reply import AsgiReply, AsgiRequest
from farebox.server.forms import OPENAI
from farebox.server.lane import Lane, LaneCycle
from farebox.server.protocol import Protocol
from tests.server.worker import BOTH_WAYS, make_worker

pytestmark = [pytest.mark.anyio, BOTH_WAYS]


@contextmanager
def client_of(reply, stall_s):
    """The relay's client, for as long as a test needs it."""
    assert not reply.release()
    try:
        yield reply.client(stall_s)
    finally:
        reply.release()


class AsgiConnection:
    """An ASGI server's side of one request, moved by the test."""

    def __init__(self):
        self.sent = []
        self.left = asyncio.Event()
        self.takes = asyncio.Event()
        self.takes.set()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        await self.takes.wait()
        self.sent.append(message)

    @property
    def reply(self):
        request = AsgiRequest({"headers": []}, self.receive)
        return AsgiReply(request, self.send, "req_1", OPENAI, close=False)

    def client(self, stall_s=60.0):
        return client_of(self.reply, stall_s)

    def leave(self):
        self.left.set()

    def take(self, takes):
        (self.takes.set if takes else self.takes.clear)()

    @property
    def body(self):
        """What was sent of the body."""
        return b"".join(each["body"] for each in self.sent if each["type"] == "http.response.body")


class LaneConnection(asyncio.Transport):
    """A connection with one request on the lane, moved by the test."""

    def __init__(self):
        super().__init__()
        self.sent = []
        config = uvicorn.Config(None, log_config=None, lifespan="off")  # pyright: ignore[reportArgumentType]
        config.load()
        worker = make_worker()
        self.protocol = Protocol(
            worker.state.settings,
            Lane(worker.state),
            config=config,
            server_state=ServerState(),
            app_state={},
        )
        self.protocol.connection_made(self)
        # Nobody serves it, so that the test can.
        self.protocol._start_asgi_task = lambda cycle, app: None
        self.protocol.data_received(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
        )
        self.cycle: Any = self.protocol.cycle
        assert isinstance(self.cycle, LaneCycle)

    def get_extra_info(self, name, default=None):
        return default

    def is_closing(self):
        return False

    def pause_reading(self):
        pass

    def get_write_buffer_size(self):
        return 0

    def write(self, data):
        self.sent.append(bytes(data))

    @property
    def reply(self):
        return self.cycle

    def client(self, stall_s=60.0):
        return client_of(self.cycle, stall_s)

    def leave(self):
        self.protocol.connection_lost(OSError())

    def take(self, takes):
        (self.protocol.resume_writing if takes else self.protocol.pause_writing)()

    @property
    def body(self):
        """What was sent of the body."""
        return b"".join(self.sent).partition(b"\r\n\r\n")[2]


def connect(carrier):
    """A connection whose client the test moves."""
    return LaneConnection() if carrier == "lane" else AsgiConnection()


HEAD = ((b"content-length", b"1"),)


async def settle():
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answer_is_sent_with_its_request_id(carrier):
    """The head with x-request-id, then the body: as ASGI messages, or as the bytes themselves, the
    head with the first of the body.
    """
    connection = connect(carrier)
    with connection.client() as client:
        await client.send_head(200, ((b"content-type", b"text/event-stream"),))
        await client.send(b"a")
        await client.send(b"b", last=True)
        assert not client.gone
    if isinstance(connection, AsgiConnection):
        headers = [(b"content-type", b"text/event-stream"), (b"x-request-id", b"req_1")]
        assert connection.sent == [
            {"type": "http.response.start", "status": 200, "headers": headers},
            {"type": "http.response.body", "body": b"a", "more_body": True},
            {"type": "http.response.body", "body": b"b", "more_body": False},
        ]
        return
    request_id = connection.cycle.request_id.encode()
    assert connection.sent == [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: %b\r\n"
        b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n" % request_id,
        b"1\r\nb\r\n0\r\n\r\n",
    ]


async def test_a_whole_answer_leaves_at_once_where_nothing_is_waited_for(carrier):
    """By the lane, in the same bytes as a head and a body; ASGI has to be awaited. Not to a client
    that takes nothing, or has gone.
    """
    connection = connect(carrier)
    with connection.client() as client:
        connection.take(False)
        assert not client.answer_now(200, HEAD, b"x")
        connection.take(True)
        assert client.answer_now(200, HEAD, b"x") == (carrier == "lane")
        if isinstance(connection, AsgiConnection):
            return
        other = LaneConnection()
        with other.client() as its_client:
            await its_client.send_head(200, HEAD)
            await its_client.send(b"x", last=True)
        ids = connection.cycle.request_id.encode(), other.cycle.request_id.encode()
        assert connection.sent == [other.sent[0].replace(ids[1], ids[0])]
        assert connection.cycle.response_complete
    left = LaneConnection()
    with left.client() as client:
        left.leave()
        assert not client.answer_now(200, HEAD, b"x")
    assert left.sent == []


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0"])
async def test_a_header_that_would_be_two_is_never_sent(value):
    """The lane writes heads itself, so it looks at the values itself, as uvicorn does."""
    connection = LaneConnection()
    with connection.client() as client, pytest.raises(RuntimeError):
        await client.send_head(200, ((b"x-farebox-adjusted", value),))
    with connection.client() as client, pytest.raises(RuntimeError):
        client.answer_now(200, (*HEAD, (b"x-farebox-adjusted", value)), b"x")
    assert connection.sent == []


async def test_a_hang_up_is_told_once_and_sending_goes_nowhere(carrier):
    """Whoever waits for it is called once; sending to a client that has gone does nothing."""
    connection, calls = connect(carrier), []
    with connection.client() as client:
        client.on_gone(lambda: calls.append("gone"))
        connection.leave()
        await settle()
        assert client.gone
        assert calls == ["gone"]
        await client.send_head(200, ())
        await client.send(b"x", last=True)
        client.on_gone(lambda: calls.append("late"))
    assert calls == ["gone", "late"]
    assert connection.sent == []


async def test_whether_the_client_has_gone_is_said_when_it_is_released(carrier):
    """And nothing is told of it any more; without a client there was none to go."""
    connection, calls = connect(carrier), []
    reply = connection.reply
    assert not reply.release()
    client = reply.client(60.0)
    await settle()
    assert not reply.release()
    client = reply.client(60.0)
    client.on_gone(lambda: calls.append("gone"))
    connection.leave()
    await settle()
    assert [reply.release(), reply.release()] == [True, True]
    assert calls == ["gone"]


async def test_a_callback_can_be_taken_back(carrier):
    """None forgets the callback."""
    connection, calls = connect(carrier), []
    with connection.client() as client:
        client.on_gone(lambda: calls.append("gone"))
        client.on_gone(None)
        connection.leave()
        await settle()
        assert client.gone
    assert calls == []


async def test_the_end_of_a_complete_answer_is_no_hang_up(carrier):
    """Servers say `disconnect` after the last byte too; nobody left then."""
    connection, calls = connect(carrier), []
    with connection.client() as client:
        client.on_gone(lambda: calls.append("gone"))
        await client.send_head(200, HEAD)
        await client.send(b"x", last=True)
        connection.leave()
        await settle()
        assert not client.gone
    assert calls == []


async def test_sending_waits_for_a_slow_client(carrier):
    """Back-pressure reaches the sender."""
    connection = connect(carrier)
    with connection.client() as client:
        await client.send_head(200, HEAD)
        connection.take(False)
        sending = asyncio.create_task(client.send(b"x"))
        await settle()
        assert not sending.done()
        connection.take(True)
        await sending
        assert not client.gone
    assert connection.body == b"x"


async def test_a_client_that_takes_nothing_counts_as_gone(carrier):
    """After the limit without progress the sender goes on, as if the client had hung up."""
    connection, calls = connect(carrier), []
    with connection.client(stall_s=0.1) as client:
        client.on_gone(lambda: calls.append("gone"))
        await asyncio.sleep(0.15)  # idle time is no stall
        assert not client.gone
        connection.take(False)
        async with asyncio.timeout(2):
            await client.send(b"x")
        assert client.gone
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
    assert calls == ["gone"]


async def test_being_cancelled_from_outside_is_not_swallowed(carrier):
    """Only the stall timer's own cancellation ends in the client."""
    connection = connect(carrier)
    connection.take(False)
    with connection.client() as client:
        sending = asyncio.create_task(client.send(b"x"))
        await settle()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not client.gone


async def test_nothing_is_left_when_the_call_is_over(carrier):
    """Neither a task nor a timer outlives a call."""
    before = asyncio.all_tasks()
    connection, calls = connect(carrier), []
    with connection.client(stall_s=0.05) as client:
        client.on_gone(lambda: calls.append("gone"))
        await client.send_head(200, ())
        await client.send(b"x")
    await settle()
    assert asyncio.all_tasks() == before
    await asyncio.sleep(0.1)
    connection.leave()
    await settle()
    assert calls == []

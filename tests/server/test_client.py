"""The relay's client over ASGI: when it counts as gone, and that nothing is left of it."""

import asyncio

import pytest

from farebox.server.asgi_reply import AsgiReply, AsgiRequest
from farebox.server.forms import OPENAI

pytestmark = pytest.mark.anyio


class Connection:
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

    def client(self, stall_s=60.0):
        request = AsgiRequest({}, self.receive)
        return AsgiReply(request, self.send, "req_1", OPENAI, close=False).client(stall_s)


async def settle():
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answer_is_sent_with_its_request_id():
    """Head and body go out as ASGI messages, the head with x-request-id."""
    connection = Connection()
    async with connection.client() as client:
        await client.send_head(200, ((b"content-type", b"text/event-stream"),))
        await client.send(b"a")
        await client.send(b"b", last=True)
        assert not client.gone
    headers = [(b"content-type", b"text/event-stream"), (b"x-request-id", b"req_1")]
    assert connection.sent == [
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b", "more_body": False},
    ]


async def test_a_hang_up_is_told_once_and_sending_goes_nowhere():
    """Whoever waits for it is called once; sending to a client that has gone does nothing."""
    connection, calls = Connection(), []
    async with connection.client() as client:
        client.on_gone(lambda: calls.append("gone"))
        connection.left.set()
        await settle()
        assert client.gone
        assert calls == ["gone"]
        await client.send_head(200, ())
        await client.send(b"x", last=True)
        client.on_gone(lambda: calls.append("late"))
    assert calls == ["gone", "late"]
    assert connection.sent == []


async def test_a_callback_can_be_taken_back():
    """None forgets the callback."""
    connection, calls = Connection(), []
    async with connection.client() as client:
        client.on_gone(lambda: calls.append("gone"))
        client.on_gone(None)
        connection.left.set()
        await settle()
        assert client.gone
    assert calls == []


async def test_the_end_of_a_complete_answer_is_no_hang_up():
    """Servers say `disconnect` after the last byte too; nobody left then."""
    connection, calls = Connection(), []
    async with connection.client() as client:
        client.on_gone(lambda: calls.append("gone"))
        await client.send(b"x", last=True)
        connection.left.set()
        await settle()
        assert not client.gone
    assert calls == []


async def test_sending_waits_for_a_slow_client():
    """Back-pressure reaches the sender."""
    connection = Connection()
    async with connection.client() as client:
        connection.takes.clear()
        sending = asyncio.create_task(client.send(b"x"))
        await settle()
        assert not sending.done()
        connection.takes.set()
        await sending
        assert not client.gone
    assert [message["body"] for message in connection.sent] == [b"x"]


async def test_a_client_that_takes_nothing_counts_as_gone():
    """After the limit without progress the sender goes on, as if the client had hung up."""
    connection, calls = Connection(), []
    async with connection.client(stall_s=0.1) as client:
        client.on_gone(lambda: calls.append("gone"))
        await asyncio.sleep(0.15)  # idle time is no stall
        assert not client.gone
        connection.takes.clear()
        async with asyncio.timeout(2):
            await client.send(b"x")
        assert client.gone
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
    assert calls == ["gone"]


async def test_being_cancelled_from_outside_is_not_swallowed():
    """Only the stall timer's own cancellation ends in the client."""
    connection = Connection()
    connection.takes.clear()
    async with connection.client() as client:
        sending = asyncio.create_task(client.send(b"x"))
        await settle()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not client.gone


async def test_nothing_is_left_when_the_call_is_over():
    """Neither a task nor a timer outlives a call."""
    before = asyncio.all_tasks()
    connection, calls = Connection(), []
    async with connection.client(stall_s=0.05) as client:
        client.on_gone(lambda: calls.append("gone"))
        await client.send(b"x")
    await settle()
    assert asyncio.all_tasks() == before
    await asyncio.sleep(0.1)
    connection.left.set()
    await settle()
    assert calls == []

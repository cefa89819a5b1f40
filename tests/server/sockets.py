"""A client of the Responses API over a WebSocket, for tests."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n'
REST = (
    b'data: {"choices":[{"index":0,"delta":{"content":" there"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}\n\n'
    b"data: [DONE]\n\n"
)
HANDSHAKE = (
    b"host: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def message(text, role="user"):
    """One item of input."""
    return {"role": role, "content": text}


@asynccontextmanager
async def socket(worker, secret=None, **options):
    """A socket with the worker's own key, unless told otherwise."""
    key = {"Authorization": f"Bearer {secret or worker.secret}"}
    uri = f"ws://127.0.0.1:{worker.port}/v1/responses"
    options = {"max_size": None, **options}
    async with connect(uri, additional_headers=key, proxy=None, **options) as opened:
        yield opened


async def create(opened, text="Hi", **more):
    """Ask for a response."""
    frame = {
        "type": "response.create",
        "model": "m",
        "input": [message(text)],
        "store": False,
        **more,
    }
    await opened.send(json.dumps(frame))


async def frames(opened):
    """The frames of one response, or the error in its place."""
    found = []
    async with asyncio.timeout(20):
        while not found or found[-1]["type"] not in (
            "response.completed",
            "response.incomplete",
            "response.failed",
            "error",
        ):
            found.append(json.loads(await opened.recv()))
    return found


async def ask(opened, text="Hi", **more):
    """Ask for a response and read it."""
    await create(opened, text, **more)
    return await frames(opened)


async def closing(opened):
    """The code with which the other side closes."""
    async with asyncio.timeout(10):
        with suppress(ConnectionClosed):
            async for _ in opened:
                pass
    return opened.close_code


async def until(holds):
    """Wait for something that must come soon."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


async def say(worker, raw):
    """Send these bytes and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(raw)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


async def opened_raw(worker):
    """A raw connection on which a handshake has succeeded."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port, limit=4096)
    key = b"authorization: Bearer %b\r\n" % worker.secret.encode()
    writer.write(b"GET /v1/responses HTTP/1.1\r\n" + HANDSHAKE + key + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def sent_messages(worker, n):
    """The roles and texts that the upstream was sent for the call of that number."""
    found = json.loads(worker.upstream.requests[n].body)["messages"]
    return [(each["role"], _text(each["content"])) for each in found]


def _text(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)

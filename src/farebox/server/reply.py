"""The sending side of a request: what every answer carries, and errors in the request's form."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from farebox.core.call import Headers
from farebox.errors import FareboxError
from farebox.server.forms import Form

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CLOSE = (b"connection", b"close")
_DISCARD_LIMIT_S = 2.0


class Reply:
    """An ASGI `send` that adds the request's id and remembers the status that was sent."""

    __slots__ = ("_extra", "_form", "_send", "request_id", "request_read", "status")

    def __init__(self, send: Send, request_id: str, form: Form, *, close: bool) -> None:
        """`close`: ask the client to use another connection next time."""
        own = form.ids(request_id)
        self._extra: Headers = (*own, _CLOSE) if close else own
        self._form = form
        self._send = send
        self.request_id = request_id
        self.request_read = False  # the request's body has come to its end
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._extra]
        await self._send(message)

    def noting(self, receive: Receive) -> Receive:
        """The same `receive`, of which this reply learns when the request was read to its end."""

        async def receive_and_note() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                self.request_read = True
            return message

        return receive_and_note

    async def head(self, status: int, headers: Headers) -> None:
        """Send the status and headers."""
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, *self._extra],
            }
        )

    async def body(self, data: bytes, *, last: bool) -> None:
        """Send a part of the body; `last` ends the answer."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def error(self, error: FareboxError, receive: Receive, headers: Headers = ()) -> None:
        """Answer with an error: its status, its headers and these, and its body."""
        data = self._form.body(error, self.request_id)
        await self.head(self._form.status(error), (*error_headers(error, len(data)), *headers))
        if self.request_read or error.status == 408:
            await self.body(data, last=True)
            return
        # The client is still sending. A connection closed now would be reset by what comes in,
        # and the answer lost with it; so the rest is read, and dropped, before the answer ends.
        await self.body(data, last=False)
        await _discard_rest(receive)
        await self.body(b"", last=True)


async def _discard_rest(receive: Receive) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_LIMIT_S):
            while (await receive()).get("more_body", False):
                pass


def error_headers(error: FareboxError, length_bytes: int) -> Headers:
    """The headers of an error: its type and length, and what tells clients whether to try again."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % length_bytes),
    ]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, error.retry_after_s)))
    if error.should_retry is not None:
        # Read by OpenAI's own SDKs, ahead of the status.
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status == 408:
        headers.append(_CLOSE)  # the rest of the body may still come, and nobody reads it
    return tuple(headers)

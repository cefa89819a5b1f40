"""The two seams of a request: what came, and what answers it. Who carries them is the ASGI
application's business (asgi_reply.py) or the fast lane's (lane.py); handlers know no difference.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from farebox.core.call import Headers
from farebox.core.ports import Client
from farebox.errors import FareboxError
from farebox.server.forms import Form
from farebox.server.heads import Head

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSE = (b"connection", b"close")
_DISCARD_LIMIT_S = 2.0


class ClientGone(Exception):
    """The client hung up before its request was complete: there is nobody to answer."""


class Request(Protocol):
    """What came."""

    @property
    def method(self) -> str:
        """As it was written, `POST`."""
        ...

    @property
    def path(self) -> str:
        """Decoded, without the query and without slashes too many."""
        ...

    @property
    def head(self) -> Head:
        """What its head says, but for the length of the body."""
        ...

    @property
    def length_bytes(self) -> int | None:
        """Of the body, as the head says it; None if that is not said."""
        ...

    @property
    def arrived(self) -> bool:
        """Whether all of the body is here."""
        ...

    def whole(self) -> bytes | None:
        """All of the body, if it is here at once; None: read() it."""
        ...

    async def read(self) -> tuple[bytes, bool]:
        """The next part of the body, and whether more will come. Raises ClientGone."""
        ...


class Reply(ABC):
    """What answers: it adds the request's id to each head and remembers the status."""

    __slots__ = ("closes", "request_id", "status")

    closes: bool  # ask the client to use another connection next time
    request_id: str
    status: int | None  # None: not answered yet

    @property
    @abstractmethod
    def form(self) -> Form:
        """The form of what is answered."""

    @property
    @abstractmethod
    def request(self) -> Request:
        """What is answered."""

    @abstractmethod
    async def send_head(self, status: int, headers: Headers) -> None:
        """Send the status and headers, by the first of the body at the latest."""

    @abstractmethod
    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body, waiting while the client is slow; `last` ends the answer."""

    @abstractmethod
    async def respond(self, response: Asgi) -> None:
        """Let a framework's response answer, once the request is read."""

    @abstractmethod
    def client(self, stall_s: float) -> Client:
        """The relay's client, until release(). It has gone when it closed its connection, or when
        it took nothing for `stall_s` while something waited to be sent.
        """

    @abstractmethod
    def release(self) -> bool:
        """The relay is done with its client, if it had one. Whether that has gone: then nobody is
        there to be told of a FareboxError. May be repeated.
        """

    @abstractmethod
    async def cut_off(self, error: BaseException) -> None:
        """Whatever has no answer of its own, or came in the way of one, has ended the request."""

    @abstractmethod
    def end(self) -> None:
        """Nothing more comes: an answer that is not whole ends with its connection."""

    async def error(self, error: FareboxError, headers: Headers = ()) -> None:
        """Answer with an error: its status, its headers and these, and its body."""
        form = self.form
        data = form.body(error, self.request_id)
        status = self.status = form.status(error)
        await self.send_head(status, (*error_headers(error, len(data)), *headers))
        if self.request.arrived or error.status == 408:
            await self.send(data, last=True)
            return
        # The client is still sending. A connection closed now would be reset by what comes in,
        # and the answer lost with it; so the rest is read, and dropped, before the answer ends.
        await self.send(data)
        await _discard_rest(self.request)
        await self.send(b"", last=True)


async def _discard_rest(request: Request) -> None:
    with contextlib.suppress(TimeoutError, ClientGone):
        async with asyncio.timeout(_DISCARD_LIMIT_S):
            while (await request.read())[1]:
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
        headers.append(CLOSE)  # the rest of the body may still come, and nobody reads it
    return tuple(headers)

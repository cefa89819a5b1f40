"""A request and its answer as ASGI messages: the seams of reply.py under any ASGI server."""

from __future__ import annotations

from typing import Any

from farebox.core.call import Headers
from farebox.server.client import AsgiClient
from farebox.server.forms import Form
from farebox.server.heads import Head
from farebox.server.reply import (
    CLOSE,
    Asgi,
    ClientGone,
    Message,
    Receive,
    Reply,
    Scope,
    Send,
)


class AsgiRequest:
    """What came, as a scope and the `receive` that belongs to it."""

    __slots__ = ("_receive", "arrived", "head", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self.head = Head(scope["headers"])
        self.arrived = False
        self.scope = scope

    @property
    def method(self) -> str:
        """As it was written, `POST`."""
        return self.scope["method"]

    @property
    def path(self) -> str:
        """Decoded, without the query and without slashes too many."""
        return self.scope["path"]

    @property
    def length_bytes(self) -> int | None:
        """Of the body, as the head says it."""
        return self.head.length_bytes

    def whole(self) -> bytes | None:
        """Never: ASGI's `receive` has to be awaited."""
        return None

    async def read(self) -> tuple[bytes, bool]:
        """The next part of the body, and whether more will come. Raises ClientGone."""
        message = await self.receive()
        if message["type"] != "http.request":
            raise ClientGone
        return message.get("body", b""), message.get("more_body", False)

    async def receive(self) -> Message:
        """The next ASGI message; that the body has come to its end is noted."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.arrived = True
        return message


class AsgiReply(Reply):
    """What answers, as an ASGI `send` that adds the request's id and remembers the status."""

    __slots__ = ("_client", "_form", "_request", "_send")

    def __init__(
        self, request: AsgiRequest, send: Send, request_id: str, form: Form, *, close: bool
    ) -> None:
        """`close`: ask the client to use another connection next time."""
        self.closes = close
        self.request_id = request_id
        self.status = None
        self._client: AsgiClient | None = None  # while the relay has it
        self._form = form
        self._request = request
        self._send = send

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = self._form.ids(self.request_id)
            extra = (*own, CLOSE) if self.closes else own
            message["headers"] = [*message.get("headers", ()), *extra]
        await self._send(message)

    @property
    def form(self) -> Form:
        """The form of what is answered."""
        return self._form

    @property
    def request(self) -> AsgiRequest:
        """What is answered."""
        return self._request

    async def send_head(self, status: int, headers: Headers) -> None:
        """Send the status and headers."""
        start: dict[str, Any] = {"type": "http.response.start", "status": status}
        await self({**start, "headers": headers})

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body; `last` ends the answer."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def cut_off(self, error: BaseException) -> None:
        """Leave it to the ASGI server."""
        raise error

    def end(self) -> None:
        """The ASGI server sees by itself that nothing more comes."""
        self.release()

    async def respond(self, response: Asgi) -> None:
        """Let a framework's response answer."""
        await response(self._request.scope, self._request.receive, self)

    def client(self, stall_s: float) -> AsgiClient:
        """The relay's client; it watches for the disconnect."""
        self._client = AsgiClient(self._request.receive, self, stall_s)
        return self._client

    def release(self) -> bool:
        """The relay is done with its client, and the watch stops."""
        if self._client is None:
            return False
        self._client.stop()
        return self._client.gone

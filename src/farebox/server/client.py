"""The relay's Client over ASGI: sending with back-pressure, noticing that the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, Self

from farebox.core.call import Headers
from farebox.core.ports import Client
from farebox.server.reply import Receive


class Sending(Protocol):
    """What takes the head and body of an answer to the client: a Reply, or frames on a socket."""

    async def send_head(self, status: int, headers: Headers) -> None:
        """Send the status and headers."""
        ...

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body; `last` ends the answer."""
        ...


class AsgiClient:
    """One call's client. Use it as a context manager, or stop() it: that ends the watch.

    The client has gone when it closed its connection, or when it took nothing for `stall_s`
    while something waited to be sent.
    """

    __slots__ = (
        "_callback",
        "_complete",
        "_gone",
        "_loop",
        "_reply",
        "_sender",
        "_sent_s",
        "_stall_s",
        "_stalled",
        "_timer",
        "_watch",
    )

    def __init__(self, receive: Receive, reply: Sending, stall_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._reply = reply
        self._stall_s = stall_s
        self._gone = False
        self._stalled = False
        self._complete = False
        self._callback: Callable[[], None] | None = None
        self._sender: asyncio.Task[object] | None = None  # who waits in send(), if anybody
        self._sent_s = 0.0  # when that wait began, by the loop's clock
        self._watch = self._loop.create_task(self._wait_for_disconnect(receive))
        self._timer = self._loop.call_later(stall_s, self._check_stall)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """The call is over. May be repeated."""
        self._timer.cancel()
        self._callback = None
        self._watch.cancel()

    drains = True  # whoever hangs up has not said that the answer is not wanted

    @property
    def gone(self) -> bool:
        """Whether the client has hung up."""
        return self._gone

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call this once when the client hangs up (at once if it has); None forgets it."""
        if callback is not None and self._gone:
            callback()
            return
        self._callback = callback

    async def send_head(self, status: int, headers: Headers) -> None:
        """The status and headers; `x-request-id` is added."""
        if not self._gone:
            await self._reply.send_head(status, headers)

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Part of the body, waiting while the client is slow; `last` ends the answer."""
        if self._gone:
            return
        self._sender = asyncio.current_task()
        self._sent_s = self._loop.time()
        try:
            await self._reply.send(data, last=last)
            self._complete = last
        except asyncio.CancelledError:
            # The stall timer cancels the waiting sender; any other cancellation goes on upwards.
            if not self._stalled or self._sender is None or self._sender.uncancel() > 0:
                raise
        finally:
            self._sender = None

    def send_now(self, data: bytes) -> bool:
        """Never: ASGI's `send` has to be awaited."""
        del data
        return False

    def answer_now(self, status: int, headers: Headers, body: bytes) -> bool:
        """Never: see send_now()."""
        del status, headers, body
        return False

    async def _wait_for_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _check_stall(self) -> None:
        # One timer a call, looking now and then, instead of one for each send.
        waited_s = self._loop.time() - self._sent_s if self._sender else 0.0
        if waited_s < self._stall_s:
            self._timer = self._loop.call_later(self._stall_s - waited_s, self._check_stall)
            return
        sender = self._sender
        self._stalled = True
        self._leave()
        if sender is not None:
            sender.cancel()

    def _leave(self) -> None:
        # Servers report a disconnect after a complete answer too; that one is nobody's hang-up.
        if self._gone or self._complete:
            return
        self._gone = True
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Wrapped:
    """A client in front of another one: a subclass says what becomes of the answer."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def gone(self) -> bool:
        """Whether the client has hung up."""
        return self._client.gone

    @property
    def drains(self) -> bool:
        """As the client."""
        return self._client.drains

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """As the client."""
        self._client.on_gone(callback)

    def send_now(self, data: bytes) -> bool:
        """Never: a subclass's send() sees all of the answer."""
        del data
        return False

    def answer_now(self, status: int, headers: Headers, body: bytes) -> bool:
        """Never: see send_now()."""
        del status, headers, body
        return False

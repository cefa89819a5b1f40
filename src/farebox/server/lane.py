"""The fast lane: a hot request is served on its connection, with no ASGI between.

The parser, the order of a pipeline and the end of connections stay those of connection.py,
protocol.py and uvicorn, which treat one of these like one of uvicorn's own cycles. So the bytes of
an answer are the same by either way, and whatever is refused before a head is whole is refused by
the same code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from farebox.core import clock
from farebox.core.call import Headers
from farebox.core.ids import new_request_id
from farebox.server.forms import Form, form_of
from farebox.server.head_lines import FirstLines, line, size_lines
from farebox.server.heads import Head, KnownHeads
from farebox.server.reply import CLOSE, Asgi, ClientGone, Message, Reply, Scope
from farebox.server.serving import HOT, Handler, serve
from farebox.server.state import State
from farebox.telemetry import logs

_WORTH_READING_BYTES = 1024 * 1024  # of a body that is waited for, if there is more of it
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# What uvicorn answers when an application fails without an answer of its own.
_FAILED = b"Internal Server Error"
_FAILED_HEADERS = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(_FAILED)),
    CLOSE,
)


@dataclass(frozen=True, slots=True)
class Route:
    """What a hot path names."""

    path: str
    handle: Handler
    form: Form
    around_id: tuple[bytes, ...]  # the lines of a head that bear the request's id, without it

    @classmethod
    def of(cls, path: str, handle: Handler) -> Route:
        """The route of a path."""
        form = form_of(path, ())
        lines = b"".join([b"%b: \0\r\n" % name for name in form.id_headers])
        return cls(path, handle, form, tuple(lines.split(b"\0")))


class Lane:
    """The lane of one worker: the requests that go by it, and what they are served with."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.heads = KnownHeads[Route]()
        self.first_lines = FirstLines([])  # of answers
        self._routes = {
            path.encode(): Route.of(path, handle)
            for (method, path), handle in HOT.items()
            if method == "POST"
        }

    def take(self, connection: HttpToolsProtocol) -> LaneCycle | None:
        """The request whose head `connection` has read, if it goes by this lane."""
        route = self._route(connection.url)
        parser: Any = connection.parser
        if route is None or parser.get_method() != b"POST":
            return None
        head = Head(connection.headers)
        cycle = LaneCycle(self, route, connection, head, head.length_bytes)
        cycle.waiting_for_100_continue = connection.expect_100_continue
        cycle.keep_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
        return cycle

    def _route(self, url: bytes) -> Route | None:
        # Targets that are written in any other way name these routes too; they go by ASGI.
        return self._routes.get(url.partition(b"?")[0])


class LaneCycle(Reply):
    """One request by the lane: what came (a Request), what answers (a Reply), and the relay's
    Client, in one object. Of uvicorn's cycle it has what uvicorn's protocol class looks at.
    """

    __slots__ = (
        "_body",
        "_callback",
        "_connection",
        "_flow",
        "_head",
        "_lane",
        "_left_bytes",
        "_parts",
        "_stall_s",
        "_stalled",
        "_task",
        "_transport",
        "_unread_bytes",
        "_waiter",
        "disconnected",
        "gone",
        "head",
        "keep_alive",
        "length_bytes",
        "more_body",
        "path",
        "response_complete",
        "response_started",
        "route",
        "waiting_for_100_continue",
    )
    method = "POST"
    drains = True  # whoever hangs up has not said that the answer is not wanted

    def __init__(
        self,
        lane: Lane,
        route: Route,
        connection: HttpToolsProtocol,
        head: Head,
        length_bytes: int | None,
    ) -> None:
        self.closes = lane.state.draining
        self.request_id = new_request_id(clock.now_ns())
        self.status = None
        self._lane = lane
        self.route = route
        self.path = route.path  # another would not have come here
        self._connection = connection
        self._transport = connection.transport
        self._flow = connection.flow
        self.head = head
        self.length_bytes = length_bytes
        # Of the request's body, what came and was not read: all of it, or parts.
        self._body: bytes | None = None
        self._parts: list[bytes] | None = None
        self.more_body = self.keep_alive = True
        self.waiting_for_100_continue = self.disconnected = False
        self.gone = self._stalled = False  # the client has hung up, or takes nothing
        self.response_started = self.response_complete = False
        self._stall_s: float | None = None  # once the relay has its client
        self._callback: Callable[[], None] | None = None
        self._waiter: asyncio.Future[None] | None = None  # the task, where it waits to be told

    def start(self, body: bytes | None = None) -> None:
        """Serve it in a task. That is among uvicorn's, which a drain waits for, until it ends.
        `body`: all of it, if it came with the head and is small; else take_part() brings it.
        """
        if body is not None:
            self._body, self.more_body = body, False
        connection = self._connection
        serving = serve(self._lane.state, self, self, self.route.handle)
        # By its name, which asyncio would make for it: that takes longer.
        task = self._task = asyncio.Task(serving, loop=connection.loop, name=self.request_id)
        connection.server_state.tasks.add(task)

    async def cut_off(self, error: BaseException) -> None:
        """Answer as uvicorn does, if nothing was sent."""
        self.release()
        logs.log.error("cut_off", exc_info=error)
        if not self.response_started:
            await self.send_head(500, _FAILED_HEADERS)
            await self.send(_FAILED, last=True)

    def end(self) -> None:
        """Nothing more comes: an answer that is not whole ends with its connection."""
        if self._stalled:
            self._transport.abort()  # to close it would wait for the client to take the rest
        elif not self.response_complete and not self.disconnected:
            self._transport.close()
        self._connection.server_state.tasks.discard(self._task)
        del self._connection, self._task  # else they would keep each other

    # What uvicorn's protocol class calls.

    @property
    def message_event(self) -> LaneCycle:
        """What uvicorn sets when it has changed something of a cycle: see `set`."""
        return self

    def set(self) -> None:
        """More of the body came, the client has gone, or the answer is complete."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self.disconnected or self._stalled:
            self.gone = True
            callback, self._callback = self._callback, None
            if callback is not None:
                callback()

    # What came.

    def take_part(self, part: bytes, *, more: bool) -> None:
        """A part of the body, and whether more will come; behind an answer it is dropped."""
        if self.response_complete:
            return
        self.more_body = more
        if part:
            if self._parts is None:
                self._parts, self._unread_bytes = [], 0
            self._parts.append(part)
            self._unread_bytes += len(part)
            if self._waiter is None:
                if self._unread_bytes > HIGH_WATER_LIMIT:
                    self._flow.pause_reading()
            elif more and self._unread_bytes < _WORTH_READING_BYTES:
                return  # over a network it comes in hundreds of parts
        if self._waiter is not None:
            self.set()

    @property
    def arrived(self) -> bool:
        """Whether all of the body is here."""
        return not self.more_body

    def whole(self) -> bytes | None:
        """All of the body, if it came in one piece and nothing is to be said or done before."""
        body, self._body = self._body, None
        if body is not None:
            return None if self.disconnected else body
        parts = self._parts
        if self.more_body or self.disconnected or self.waiting_for_100_continue or not parts:
            return None
        return parts.pop() if len(parts) == 1 else None

    async def read(self) -> tuple[bytes, bool]:
        """What has come of the body, and whether more will. Raises ClientGone."""
        if self.waiting_for_100_continue and not self._transport.is_closing():
            self.waiting_for_100_continue = False
            self._transport.write(_CONTINUE)
        while self.more_body and not self._parts and not self.disconnected:
            await self._wait()
        if self.disconnected:
            raise ClientGone
        if (body := self.whole()) is not None:
            return body, False
        parts, self._parts = self._parts or [], None
        return b"".join(parts), self.more_body

    async def _wait(self) -> None:
        self._flow.resume_reading()
        self._waiter = self._connection.loop.create_future()
        await self._waiter

    # What answers.

    @property
    def form(self) -> Form:
        """The form of what is answered."""
        return self.route.form

    @property
    def request(self) -> LaneCycle:
        """What is answered."""
        return self

    async def send_head(self, status: int, headers: Headers) -> None:
        """Send the status and headers, with the first of the body."""
        if self.gone:
            return
        fields = dict(headers)
        length = fields.get(b"content-length")
        end = b"transfer-encoding: chunked\r\n\r\n" if length is None else b"\r\n"
        # Of the body, as its Content-Length says; None: in chunks.
        self._left_bytes: int | None = None if length is None else int(length)
        says_close = CLOSE[0] in fields
        if says_close:
            self.keep_alive = True  # so that it is not said twice
        # It leaves with the first of the body.
        self._head = self._begin_answer(status, headers, end, b"")
        if says_close:
            self.keep_alive = False

    def _begin_answer(self, status: int, headers: Headers, end: bytes, body: bytes) -> bytes:
        """Its head is told from here on: the bytes of it up to its `end`, and what follows it."""
        assert not self.response_started, "an answer has one head"
        self.status = status
        self.waiting_for_100_continue = False
        lane, of_server = self._lane, self._connection.server_state.default_headers
        if lane.first_lines.headers is not of_server:
            lane.first_lines = FirstLines(of_server)
        if self.closes:
            self.keep_alive = False
        if not self.keep_alive:
            end = b"connection: close\r\n" + end
        ids = self.request_id.encode().join(self.route.around_id)
        return b"".join([lane.first_lines[status], *map(line, headers), ids, end, body])

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body, waiting while the client is slow; `last` ends the answer."""
        if self._flow.write_paused and not self.gone:
            await self._wait_for_client()
        if self.gone:
            return
        head, self._head = self._head, b""
        self.response_started = True
        left_bytes = self._left_bytes
        if left_bytes is None:
            size = size_lines[len(data)] if data else b""
            end = (b"\r\n" if data else b"") + (b"0\r\n\r\n" if last else b"")
            self._transport.write(b"".join((head, size, data, end)))
        else:
            left_bytes = self._left_bytes = left_bytes - len(data)
            if left_bytes < 0 or (last and left_bytes):
                raise RuntimeError("The body is not as long as its Content-Length says.")
            self._transport.write(head + data)
        if last:
            self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        if self._waiter is not None:
            self.set()
        if not self.keep_alive:
            self._transport.close()
        self._connection.on_response_complete()

    def answer_now(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send all of an answer, if the client takes it without a wait. `headers` name the body's
        length, and say nothing of the connection.
        """
        if self._flow.write_paused or self.gone:
            return False
        answer = self._begin_answer(status, headers, b"\r\n", body)
        self.response_started = True
        self._transport.write(answer)
        # As _complete(), but that nobody waits to be told of it: it is the task that is here.
        self.response_complete = True
        if not self.keep_alive:
            self._transport.close()
        self._connection.on_response_complete()
        return True

    def send_now(self, data: bytes) -> bool:
        """Send a part of the body behind the first, if the client takes it without a wait."""
        # In this order: of an answer that began when the client had gone, no head was made.
        if self.gone or self._left_bytes is not None or self._flow.write_paused:
            return False
        self._transport.write(size_lines[len(data)] + data + b"\r\n")
        return True

    async def respond(self, response: Asgi) -> None:
        """Let a framework's response answer, once the request is read."""
        scope: Scope = {"type": "http", "method": self.method, "path": self.path}
        scope["headers"] = self.head.headers
        await response(scope, self._disconnect, self._take)

    async def _disconnect(self) -> Message:
        while not self.gone and not self.response_complete:
            await self._wait()
        return {"type": "http.disconnect"}

    async def _take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self.send_head(message["status"], tuple(message["headers"]))
            await self.send(b"")  # it may take its time for the first of the body
        else:
            await self.send(message.get("body", b""), last=not message.get("more_body", False))

    # The relay's client.

    def client(self, stall_s: float) -> LaneCycle:
        """The relay's client, which is this itself."""
        self._stall_s = stall_s
        if self._flow.read_paused and not self.disconnected:
            self._flow.resume_reading()  # else a hang-up would not be noticed
        return self

    def release(self) -> bool:
        """The relay is done with its client."""
        self._callback = None
        return self.gone and self._stall_s is not None

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call this once when the client hangs up (at once if it has); None forgets it."""
        if self.gone and callback is not None:
            callback()
        else:
            self._callback = callback

    async def _wait_for_client(self) -> None:
        stall_s = self._stall_s or self._lane.state.settings.idle_timeout_s
        try:
            async with asyncio.timeout(stall_s):
                await self._flow.drain()
        except TimeoutError:
            self._stalled = True
            self.set()

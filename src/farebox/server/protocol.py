"""A client's connection: uvicorn's protocol, made strict about heads and true to HTTP elsewhere.

What a request asks for is the application's business. Beyond what uvicorn does: a head is limited
in size and time and names one host; what cannot be read is refused in the route's form; `Upgrade`
is ignored but for the one handshake that there is, which makes the connection a Socket's; and every
call on a connection learns that it was lost.
Sources: RFC 9112 (2.2, 3.2, 6.1, 7.1.2, 9.3.2) and RFC 9110 (7.8).
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from farebox.core import clock
from farebox.core.ids import new_request_id
from farebox.core.settings import Settings
from farebox.errors import BadRequest, FareboxError
from farebox.server.forms import form_of
from farebox.server.handshake import head_for_socket, is_handshake
from farebox.server.heads import HeadTooLarge, KnownHead, check_head
from farebox.server.lane import Lane, LaneCycle, Route
from farebox.server.socket_protocol import Socket
from farebox.telemetry import logs

_LINGER_S = 1.0  # for a client that is still sending: a reset would take its answer from it
_TIMER_SLACK_S = 0.001  # uvloop counts whole milliseconds: a timer may seem to ring early


class HeadTimeout(BadRequest):
    """408: the head did not arrive in time."""

    status = 408


class Protocol(HttpToolsProtocol):
    """One connection. Methods named `on_…` are the parser's, the others the event loop's."""

    # The request that was begun last: uvicorn's own cycle, or one of the lane's, which is like it;
    # None before the first.
    cycle: Any

    def __init__(self, settings: Settings, lane: Lane | None = None, **of_uvicorn: Any) -> None:
        """Without a `lane`, all requests go to the ASGI application."""
        super().__init__(**of_uvicorn)
        self._settings = settings
        self._lane = lane
        self._max_head_bytes = settings.max_head_bytes
        self._head_limit_s = settings.body_timeout_s
        self._head_bytes = 0
        self._in_head = False
        self._began = False  # a head, with what was just read
        self._upgrade = False  # the request of this head wants to be upgraded
        self._problem: FareboxError | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._running: Any = None  # a cycle, too; the others of a pipeline wait for it
        self._ending = False  # nothing more is read
        self._whole: bytes | None = None  # what was read, if it may begin with a head to be known
        self._known: KnownHead[Route] | None = None  # the head that was known last
        self._left_bytes = 0  # of the body behind it
        self._quiet_s: float | None = None  # since when the next request is waited for

    # What the event loop tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client may be silent before its first request for as long as between two."""
        super().connection_made(transport)
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        """Part of one request, or of several."""
        if self._ending:
            return
        self._quiet_s = None
        if self._left_bytes:
            data = self._receive(data)
            if not data:
                return
        latest = self.cycle
        # Whether this is the first of a request, and no other is being answered.
        is_idle = not self._in_head and (
            latest is None or (latest.response_complete and not latest.more_body)
        )
        if not (is_idle and self._begin_known(data)):
            self._whole = data if is_idle else None
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._began = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._on_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(self._problem or _bad_http(error))
        else:
            if self._in_head:
                self._watch_head(len(data))
            elif self.cycle is None or self.cycle.response_complete:
                self._wait_for_request()  # empty lines came, which mean nothing

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever is being answered has gone; uvicorn tells the latest of a pipeline alone."""
        super().connection_lost(exc)
        self._stop_deadline()
        self._unset_keepalive_if_required()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    # What the parser tells. An exception here ends feed_data() with an HttpParserError.

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        super().on_message_begin()
        self._in_head = self._began = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. What stands in a trailer was never looked at and must not count as one."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: it is checked, and the request begins to be served."""
        self._in_head = False
        self._stop_deadline()
        try:
            check_head(
                self.parser.get_method(),
                self.url,
                self.parser.get_http_version(),
                self.headers,
                self._max_head_bytes,
            )
        except BadRequest as problem:
            self._problem = problem
            raise
        self._upgrade = self.parser.should_upgrade()
        if self._upgrade:
            return
        lane, whole, self._whole = self._lane, self._whole, None
        cycle = lane.take(self) if lane is not None else None
        if lane is not None and cycle is not None:
            if whole is not None and cycle.keep_alive and not cycle.waiting_for_100_continue:
                lane.heads.learn(whole, self.url, cycle.head, cycle.route)
            self._begin(cycle)
        else:
            super().on_headers_complete()

    def _begin(self, cycle: LaneCycle) -> None:
        """As uvicorn begins its own: now, or behind the others of a pipeline."""
        before, self.cycle = self.cycle, cycle
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, None)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, cast("Any", None)))

    def on_body(self, body: bytes) -> None:
        """Part of the request's body."""
        if isinstance(self.cycle, LaneCycle):
            self.cycle.take_part(body, more=True)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request's body is whole."""
        if self._upgrade:
            return
        if isinstance(self.cycle, LaneCycle):
            self.cycle.take_part(b"", more=False)
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, but that a connection ends whose request is not read to the end."""
        self.server_state.total_requests += 1
        transport, running = self.transport, self._running
        if running is not None and running.more_body:
            transport.close()
        if transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._wait_for_request()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if isinstance(cycle, LaneCycle):
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)

    # A request whose head is known goes past the parser, which stands between two requests then.

    def _begin_known(self, data: bytes) -> bool:
        """Begin the request that `data` begin with, if its head is known."""
        lane = self._lane
        if lane is None or (found := lane.heads.find(data, self._known)) is None:
            return False
        known, length_bytes, body_at = found
        self._known = known
        head, end, size_bytes = known.head, body_at + length_bytes, len(data)
        self.url, self.headers = known.url, head.headers
        self.cycle = self._running = cycle = LaneCycle(lane, known.route, self, head, length_bytes)
        if size_bytes == end <= HIGH_WATER_LIMIT:
            cycle.start(data[body_at:])
            return True
        self._left_bytes = max(0, end - size_bytes)
        cycle.take_part(data[body_at:end], more=self._left_bytes > 0)
        cycle.start()
        if size_bytes > end:
            self._parse(data[end:])
        return True

    def _receive(self, data: bytes) -> bytes:
        """Take of this what is left of the body behind a known head; the rest."""
        part, rest = data[: self._left_bytes], data[self._left_bytes :]
        self._left_bytes -= len(part)
        self.cycle.take_part(part, more=self._left_bytes > 0)
        return rest

    # Heads.

    def _watch_head(self, received_bytes: int) -> None:
        """A head has begun and is not whole."""
        if not self._began:  # else there is no telling how much of it belongs to the head
            self._head_bytes += received_bytes
        if self._head_bytes > self._max_head_bytes:
            self._refuse(HeadTooLarge(self._max_head_bytes))
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._head_limit_s, self._on_late_head)

    def _on_late_head(self) -> None:
        self._refuse(HeadTimeout(f"The head did not arrive within {self._head_limit_s:g} s."))

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # Between two requests. There is one timer a connection, which looks at the clock when it rings:
    # to set one for each request, and cancel it, took 5 µs.

    def _wait_for_request(self) -> None:
        self._quiet_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._set_keepalive(self.timeout_keep_alive)

    def _set_keepalive(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            after_s, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        """Perhaps nothing has come for as long as a connection may rest."""
        self.timeout_keep_alive_task = None
        if self._quiet_s is None:
            return  # something is being read or answered, and then it is waited again
        left_s = self._quiet_s + self.timeout_keep_alive - self.loop.time()
        if left_s > _TIMER_SLACK_S:
            self._set_keepalive(left_s)
        else:
            super().timeout_keep_alive_handler()

    # Upgrades.

    def _on_upgrade(self, rest: bytes) -> None:
        """The request wants to be upgraded; behind its head came `rest`."""
        if not self._is_handshake():
            self._go_on_without_upgrade(rest)
        elif rest:
            # It would be read before anybody knows who sent it.
            self._refuse(BadRequest("Nothing may follow a WebSocket handshake until it succeeds."))
        else:
            self._hand_over()

    def _is_handshake(self) -> bool:
        return (
            self._settings.responses_websocket
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and is_handshake(self.url, self.headers)
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _hand_over(self) -> None:
        """From here on the connection is a Socket's."""
        self.connections.discard(self)
        socket = Socket(
            self._settings,
            config=self.config,
            server_state=self.server_state,
            app_state=self.app_state,
            _loop=self.loop,
        )
        self.transport.pause_reading()
        self.transport.set_protocol(socket)
        socket.connection_made(self.transport)
        socket.data_received(head_for_socket(self.headers))
        if not socket.handshake_initiated:  # its library read the head as none
            self.transport.close()
        self.parser = cast("Any", None)  # which knows this protocol, and would keep it

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read the request again as if it had not asked: a parser that was stops at the head."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.data_received(b"\r\n".join((*lines, b"", rest)))

    # Refusing what cannot be read.

    def _refuse(self, error: FareboxError) -> None:
        """Read no more. Requests that were whole before are still answered, in their order."""
        self._ending = True
        self._stop_deadline()
        latest = self.cycle
        if latest is not None and latest is not self._running and self._is_broken(latest):
            self.pipeline.popleft()  # it has not begun to be served
            latest = self.pipeline[0][0] if self.pipeline else self._running
        if latest is None or latest.response_complete:
            self._answer(error)
        elif not self._is_broken(latest):
            latest.keep_alive = False
        elif latest.response_started:
            self.transport.close()
        else:
            latest.disconnected = True  # whoever serves it has nobody to answer any more
            latest.message_event.set()
            self._answer(error)

    def _is_broken(self, cycle: RequestResponseCycle) -> bool:
        """Whether it is this request whose body cannot be read on."""
        return not self._in_head and self._problem is None and cycle.more_body

    def _answer(self, error: FareboxError) -> None:
        request_id = new_request_id(clock.now_us())
        form = form_of(self.url.partition(b"?")[0].decode("latin-1"), self.headers)
        status, body = form.status(error), form.body(error, request_id)
        logs.log.info("bad_http", request_id=request_id, status=status, detail=error.message)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *form.ids(request_id),
            (b"connection", b"close"),
        ]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join((STATUS_LINE[status], *lines, b"\r\n", body)))
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)


def _bad_http(error: httptools.HttpParserError) -> BadRequest:
    # What uvicorn itself stumbles over is a URL that cannot be taken apart.
    is_url = isinstance(error, httptools.HttpParserCallbackError)
    return BadRequest(f"This is not valid HTTP: {'Invalid URL' if is_url else error}.")

"""What is parsed of a client's connection: uvicorn's protocol, made strict about heads and true to
HTTP elsewhere.

What a request asks for is the application's business. Beyond what uvicorn does: a head is limited
in size and time and names one host; what cannot be read is refused in the route's form; `Upgrade`
is ignored but for the one handshake that there is, which makes the connection a Socket's; and every
call on a connection learns that it was lost.
Sources: RFC 9112 (2.2, 3.2, 6.1, 7.1.2, 9.3.2) and RFC 9110 (7.8).
"""

from __future__ import annotations

from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from farebox.core import clock
from farebox.core.ids import new_request_id
from farebox.errors import BadRequest, FareboxError
from farebox.server.connection import Connection
from farebox.server.forms import form_of
from farebox.server.handshake import head_for_socket, is_handshake
from farebox.server.heads import HeadTooLarge, check_head
from farebox.server.lane import LaneCycle
from farebox.server.socket_protocol import Socket
from farebox.telemetry import logs

_LINGER_S = 1.0  # for a client that is still sending: a reset would take its answer from it


class HeadTimeout(BadRequest):
    """408: the head did not arrive in time."""

    status = 408


class Protocol(Connection):
    """One connection, with a parser once it needs one, whose methods are named `on_…`."""

    __slots__ = ("_began", "_head_bytes", "_problem", "_upgrade", "_whole")

    def _begin_uvicorns(self) -> None:
        """And what reading heads takes."""
        super()._begin_uvicorns()
        self._head_bytes = 0
        self._upgrade = False  # the request of this head wants to be upgraded
        self._problem: FareboxError | None = None

    def _parse(self, data: bytes, *, is_first: bool = False) -> None:
        if not self.parser:
            self._begin_uvicorns()
        self._began = False  # a head, with what was just read
        self._whole = data if is_first else None  # it may begin with a head to be known
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._on_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(self._problem or _bad_http(error))
        else:
            if self._in_head:
                self._watch_head(len(data))
            elif self._is_idle():
                self._wait_for_request()  # empty lines came, which mean nothing

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
                self._settings.max_head_bytes,
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
                lane.heads.learn(whole, cycle.head, cycle.route)
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

    # Heads.

    def _watch_head(self, received_bytes: int) -> None:
        """A head has begun and is not whole."""
        if not self._began:  # else there is no telling how much of it belongs to the head
            self._head_bytes += received_bytes
        if self._head_bytes > self._settings.max_head_bytes:
            self._refuse(HeadTooLarge(self._settings.max_head_bytes))
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._settings.body_timeout_s, self._on_late_head)

    def _on_late_head(self) -> None:
        limit_s = self._settings.body_timeout_s
        self._refuse(HeadTimeout(f"The head did not arrive within {limit_s:g} s."))

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
        self.server_state.connections.discard(self)
        self._unset_keepalive_if_required()  # which would keep this until it rang
        self._unwatch_client()
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
        self.parser = None  # which knows this protocol, and would keep it

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
        request_id = new_request_id(clock.now_ns())
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

"""A client's connection, as far as no parser is needed: its books, its rests between two requests,
and requests whose heads are known.

What uvicorn has for a connection, its parser with it, takes more memory than all that is here, and
most connections bring heads that are known. So uvicorn's part comes into being when something is to
be parsed for the first time; how that is read is protocol.py's business.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from farebox.core.settings import Settings
from farebox.server.heads import KnownHead
from farebox.server.lane import Lane, LaneCycle, Route

_TIMER_SLACK_S = 0.001  # uvloop counts whole milliseconds: a timer may seem to ring early


class Flow(FlowControl):
    """Uvicorn's, but that what is waited for comes into being with the first wait."""

    __slots__ = ("_is_writable_event", "_transport", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False

    def pause_writing(self) -> None:
        """The client is slow."""
        if not self.write_paused:
            self._is_writable_event = asyncio.Event()
            self.write_paused = True


class Connection(HttpToolsProtocol, ABC):
    """One connection. Its slots are what each has; uvicorn's methods use some of them, too."""

    __slots__ = (
        "_deadline",
        "_ending",
        "_in_head",
        "_known",
        "_lane",
        "_left_bytes",
        "_quiet_s",
        "_running",
        "_settings",
        "_stuck",
        "app_state",
        "config",
        "cycle",
        "flow",
        "loop",
        "parser",
        "pipeline",
        "server_state",
        "timeout_keep_alive_task",
        "transport",
    )

    # The request that was begun last: uvicorn's own cycle, or one of the lane's, which is like it;
    # None before the first.
    cycle: Any
    parser: Any  # None until something is to be parsed

    def __init__(
        self,
        settings: Settings,
        lane: Lane | None = None,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Without a `lane`, all requests go to the ASGI application. The rest is uvicorn's."""
        self._settings = settings
        self._lane = lane
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.cycle = self.parser = self.pipeline = cast("Any", None)
        self.timeout_keep_alive_task = None
        self._running: Any = None  # a cycle, too; the others of a pipeline wait for it
        self._in_head = False
        self._deadline: asyncio.TimerHandle | None = None  # of a head
        self._ending = False  # nothing more is read
        self._known: KnownHead[Route] | None = None  # the head that was known last
        self._left_bytes = 0  # of the body behind it
        self._quiet_s: float | None = None  # since when the next request is waited for
        self._stuck: asyncio.TimerHandle | None = None  # looks whether the client takes anything

    def _begin_uvicorns(self) -> None:
        """Let uvicorn begin with this connection, in the midst of whatever it is doing."""
        cycle, flow, timer = self.cycle, self.flow, self.timeout_keep_alive_task
        transport = self.transport
        super().__init__(self.config, self.server_state, self.app_state, self.loop)
        super().connection_made(transport)
        self.cycle, self.flow, self.timeout_keep_alive_task = cycle, flow, timer

    # What the event loop tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client may be silent before its first request for as long as between two."""
        self.transport = transport
        self.flow = Flow(transport)
        self.server_state.connections.add(self)
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        """Part of one request, or of several."""
        if self._quiet_s is None or self._in_head or self._ending:
            self._go_on(data)
            return
        # As mostly: the first of a request that was waited for.
        self._quiet_s = None
        if not self._begin_known(data):
            self._parse(data, is_first=True)

    def _go_on(self, data: bytes) -> None:
        """What comes while another request is read or answered, or when no more is read."""
        if self._ending:
            return
        self._quiet_s = None
        if self._left_bytes:
            data = self._receive(data)
            if not data:
                return
        is_idle = self._is_idle()
        if not (is_idle and self._begin_known(data)):
            self._parse(data, is_first=is_idle)

    def _is_idle(self) -> bool:
        """Whether no request is being read or answered, so that the next one may begin."""
        latest = self.cycle
        return not self._in_head and (
            latest is None or (latest.response_complete and not latest.more_body)
        )

    @abstractmethod
    def _parse(self, data: bytes, *, is_first: bool = False) -> None:
        """Read what does not begin with a known head. `is_first`: of a request, with none before it
        that is not answered.
        """

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever is being answered has gone; uvicorn tells the latest of a pipeline alone."""
        self.server_state.connections.discard(self)
        self._stop_deadline()
        self._unset_keepalive_if_required()
        self._unwatch_client()
        for cycle in (self.cycle, self._running):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # which knows this connection, and would keep it

    def pause_writing(self) -> None:
        """The client is slow."""
        super().pause_writing()
        self._watch_client()

    def resume_writing(self) -> None:
        """It has taken nearly all."""
        super().resume_writing()
        self._unwatch_client()
        if self.transport.is_closing():
            self._watch_client()

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # What cycles tell.

    def on_response_complete(self) -> None:
        """As uvicorn's, but that a connection ends whose request is not read to the end."""
        self.server_state.total_requests += 1
        transport, running = self.transport, self._running
        if running is not None and running.more_body:
            transport.close()
        if transport.is_closing():
            self._watch_client()
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        # As _wait_for_request(), which each answer would have to call.
        self._quiet_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._set_keepalive(self.config.timeout_keep_alive)

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
        cycle = LaneCycle(lane, known.route, self, known.head, length_bytes)
        self.cycle = self._running = cycle
        size_bytes = len(data)
        if size_bytes - body_at == length_bytes <= HIGH_WATER_LIMIT:
            cycle.start(data[body_at:])
            return True
        end = body_at + length_bytes
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

    # Between two requests. There is one timer a connection, which looks at the clock when it rings:
    # to set one for each request, and cancel it, took 5 µs.

    def _wait_for_request(self) -> None:
        self._quiet_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._set_keepalive(self.config.timeout_keep_alive)

    def _set_keepalive(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            after_s, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        """Perhaps nothing has come for as long as a connection may rest."""
        self.timeout_keep_alive_task = None
        if self._quiet_s is None:
            return  # something is being read or answered, and then it is waited again
        left_s = self._quiet_s + self.config.timeout_keep_alive - self.loop.time()
        if left_s > _TIMER_SLACK_S:
            self._set_keepalive(left_s)
        else:
            super().timeout_keep_alive_handler()
            self._watch_client()

    # A client that is slow, or that has the end of its last answer still to take. Nothing more is
    # written then, so what is left shows whether it takes any. If not, it would be waited for
    # without end: to close a connection is to wait until all was taken.

    def _watch_client(self) -> None:
        left_bytes = self.transport.get_write_buffer_size()
        if left_bytes and self._stuck is None:
            limit_s = self._settings.idle_timeout_s
            self._stuck = self.loop.call_later(limit_s, self._end_if_stuck, left_bytes)

    def _end_if_stuck(self, before_bytes: int) -> None:
        self._stuck = None
        if self.transport.get_write_buffer_size() < before_bytes:
            self._watch_client()
        else:
            self.transport.abort()

    def _unwatch_client(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

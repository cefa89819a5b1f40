"""The connections to one origin: which is next, who waits, when an idle one is closed."""

from __future__ import annotations

import asyncio
from functools import partial

from farebox.core.settings import Settings
from farebox.errors import UpstreamFailed
from farebox.upstream.connection import Connection
from farebox.upstream.dial import Dialer
from farebox.upstream.exchange import HttpExchange
from farebox.upstream.proxy import Proxy
from farebox.upstream.target import Origin


class Pool:
    """Gives the connection used last first, so that those not needed fall idle and are closed."""

    __slots__ = (
        "_dialer",
        "_dials",
        "_gone",
        "_idle",
        "_is_closed",
        "_live",
        "_loop",
        "_opening",
        "_origin",
        "_proxy",
        "_settings",
        "_sweep",
        "_waiting",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        dialer: Dialer,
        origin: Origin,
        proxy: Proxy | None,
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._dialer = dialer
        self._origin = origin
        self._proxy = proxy
        # Dicts and not lists where order matters: anything may leave from the middle.
        self._idle: dict[Connection, float] = {}  # since when; the longest idle first
        self._waiting: dict[HttpExchange, None] = {}  # first come, first served
        self._opening: dict[HttpExchange, asyncio.Task[Connection]] = {}
        self._dials: set[asyncio.Task[Connection]] = set()  # those of _opening and those given up
        self._live: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._gone: asyncio.Future[None] | None = None  # for aclose(): the last connection is lost

    @property
    def open_connections(self) -> int:
        """Open or being opened: at most settings.pool_per_origin, but for a retry's."""
        return len(self._live) + len(self._dials)

    async def aclose(self) -> None:
        """Break off everything and wait until it is gone."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for exchange in [*self._waiting, *self._opening]:
            exchange.abort()
        for connection in list(self._live):
            connection.break_off("aborted", None)
        await asyncio.gather(*self._dials, return_exceptions=True)
        if self._live:
            self._gone = self._loop.create_future()
            await self._gone

    # What an exchange asks for.

    def start(self, exchange: HttpExchange, *, fresh: bool) -> None:
        """Use an idle connection, unless a `fresh` one is wanted; else open one; else wait."""
        if self._is_closed:
            exchange.fail("aborted", None)
            return
        if fresh:  # takes the place of the connection that failed, which is about to be lost
            self._open(exchange)
            return
        while self._idle:
            connection, _ = self._idle.popitem()
            if not connection.dropped:
                exchange.begin(connection)
                return
        if self.open_connections < self._settings.pool_per_origin:
            self._open(exchange)
        else:
            self._waiting[exchange] = None

    def give_up(self, exchange: HttpExchange) -> None:
        """The exchange needs no connection any more."""
        self._waiting.pop(exchange, None)
        dial = self._opening.pop(exchange, None)
        if dial is not None:
            dial.cancel()

    def put_back(self, connection: Connection) -> None:
        """The connection may serve another exchange: the one that waits longest, if any."""
        connection.reused = True
        if self._is_closed:
            connection.drop()
        elif self._waiting:
            self._next_waiting().begin(connection)
        else:
            self._idle[connection] = self._loop.time()
            if self._sweep is None:
                self._sweep = self._loop.call_later(self._settings.pool_idle_s, self._close_idle)

    # What a connection tells.

    def on_lost(self, connection: Connection) -> None:
        """A connection is closed; its place is free."""
        self._idle.pop(connection, None)
        self._live.discard(connection)
        self._open_for_waiting()
        if self._gone is not None and not self._live and not self._gone.done():
            self._gone.set_result(None)

    def _next_waiting(self) -> HttpExchange:
        exchange = next(iter(self._waiting))
        del self._waiting[exchange]
        return exchange

    def _open_for_waiting(self) -> None:
        if self._waiting and self.open_connections < self._settings.pool_per_origin:
            self._open(self._next_waiting())

    def _open(self, exchange: HttpExchange) -> None:
        dial = self._loop.create_task(self._dialer.dial(self._origin, self._proxy))
        self._opening[exchange] = dial
        self._dials.add(dial)
        dial.add_done_callback(partial(self._opened, exchange))

    def _opened(self, exchange: HttpExchange, dial: asyncio.Task[Connection]) -> None:
        """A dial has ended; the exchange that it was for may have given up in the meantime."""
        self._dials.discard(dial)
        is_wanted = self._opening.get(exchange) is dial
        if is_wanted:
            del self._opening[exchange]
        error = None if dial.cancelled() else dial.exception()
        connection = None if dial.cancelled() or error is not None else dial.result()
        if connection is not None and not connection.dropped:
            self._live.add(connection)
            connection.keeper = self
            if is_wanted:
                exchange.begin(connection)
            else:
                self.put_back(connection)
            return
        if is_wanted:
            # Opened and closed at once counts as an upstream that closes without an answer.
            reason, cause = ("closed", None) if error is None else ("connect", error)
            if isinstance(error, UpstreamFailed):
                reason, cause = error.reason, error.__cause__
            exchange.fail(reason, cause)
        self._open_for_waiting()

    def _close_idle(self) -> None:
        self._sweep = None
        now_s, limit_s = self._loop.time(), self._settings.pool_idle_s
        for connection, since_s in list(self._idle.items()):
            left_s = since_s + limit_s - now_s
            if left_s > 0.001:
                self._sweep = self._loop.call_later(left_s, self._close_idle)
                return
            del self._idle[connection]
            connection.drop()

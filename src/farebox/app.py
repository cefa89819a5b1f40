"""The composition root of a worker: a Start message becomes the running application.

Run as `python -m farebox.launch farebox.app --bus-fd N --listen-fd M`; the supervisor is at the
bus's other end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import uvicorn
import uvloop

from farebox.admin import accounts, receipts, secret
from farebox.admin.catalogue import resolve, snapshot
from farebox.console import pricing
from farebox.core import clock, collector
from farebox.core.bus import Bus, Changed, Drain, Ready, Start, read_settings
from farebox.core.settings import Settings
from farebox.counting.client import ProcessCounter
from farebox.counting.factors import Factors
from farebox.dialects.seal import Seal
from farebox.ledger.client import LedgerBooks
from farebox.passage import Gateway
from farebox.routing.catalogue import Catalogue
from farebox.server.allowance import Allowance
from farebox.server.asgi import application
from farebox.server.auth import Directory
from farebox.server.background import Background
from farebox.server.calibration import Calibration
from farebox.server.count import Counting
from farebox.server.lane import Lane
from farebox.server.protocol import Protocol
from farebox.server.reply import Asgi
from farebox.server.socket_protocol import Socket
from farebox.server.state import Reads, State
from farebox.store.store import Store, open_store
from farebox.telemetry import logs
from farebox.telemetry.metrics import Metrics
from farebox.upstream.client import Client

_GC_ALLOCATIONS = 10_000  # between collections of the young; Python's own default is 700
_KEEP_ALIVE_S = 75  # longer than the idle limits of the usual load balancers
_WANTED_FILES = 65_536  # a call has two connections; systems commonly begin with 1,024 files
_CALIBRATION_US = 30 * 86_400_000_000  # older calls say little of today's models
_LOOK_S = 0.1  # between two looks whether a worker that was replaced is still needed
_AFTER_DRAIN_S = 5.0  # calls that were told to end write their charges and say so


class Worker:
    """One worker's parts, and what the bus tells it to do."""

    def __init__(self, start: Start, bus: Bus) -> None:
        self._start = start
        self._bus = bus
        settings = self._settings = read_settings(start.settings)
        self._redactor = logs.Redactor()
        logs.configure(settings.log_level, self._redactor)
        self._store = open_store(settings.database, settings.data_dir)
        master = secret.load_secret(settings, create=False)
        metrics = Metrics()
        self._upstream = Client(settings)
        self._books = LedgerBooks(start.ledger)
        self._revision = 0
        self._gateway = Gateway(
            settings,
            start.instance_id,
            self._load_catalogue(),
            self._upstream,
            self._books,
            metrics.call_finished,
            Seal(secret.seal_key(master)),
        )
        self._counter = ProcessCounter(start.counting)
        factors = _factors(self._store)
        counting = Counting(self._counter, factors)
        self._calibration = Calibration(counting, factors, self._store.add_measured)
        self._gateway.sample = self._calibration.sample
        self._gateway.count_text = counting.text
        self._directory = Directory(self._store, secret.key_pepper(master))
        self._background = Background(start.owner)
        self._state = State(
            settings,
            self._gateway,
            self._directory,
            _reads(self._store, settings),
            metrics,
            self._store,
            self._background,
            counting,
            Allowance(),
        )
        self._leaving: asyncio.Task[None] | None = None  # this worker was replaced
        self._end_s = 0.0  # when the drain's time is over, by the monotonic clock

    async def run(self, listener: socket.socket) -> None:
        """Serve until the bus says drain, or closes."""
        await self._directory.reload()
        pages = pricing.routes(lambda: self._gateway.catalogue, self._settings)
        asgi = application(self._state, pages)
        config = _config(asgi, self._settings, Lane(self._state))
        server = _Server(config, self._ready)
        listening = asyncio.create_task(self._listen(server))
        try:
            await server.serve(sockets=[listener])
            await _let_finish(server)
            await self._background.finish(max(0.0, self._end_s - clock.monotonic_s()))
        finally:
            listening.cancel()
            if self._leaving is not None:
                self._leaving.cancel()
            await self._calibration.aclose()
            await self._counter.aclose()
            await self._upstream.aclose()
            await self._books.close()
            self._state.metrics.finish()

    def _ready(self) -> None:
        tidy()
        self._bus.send(Ready(self._start.slot, os.getpid()))

    async def _listen(self, server: uvicorn.Server) -> None:
        timeout_s = self._settings.drain_timeout_s
        while (message := await self._bus.receive()) is not None:
            if isinstance(message, Changed):
                await self._reload(message)
            elif isinstance(message, Drain) and message.hand_over:
                self._hand_over(server, message.timeout_s)
            elif isinstance(message, Drain):
                timeout_s = message.timeout_s
                break
        # Told to drain, or the supervisor died: either way calls in flight are ended in time.
        self._end(server, timeout_s)

    def _hand_over(self, server: uvicorn.Server, timeout_s: float) -> None:
        """Accept no connection more: whoever connects is the next worker's."""
        self._state.draining = True
        for listening in server.servers:
            listening.close()
        for connection in server.server_state.connections:
            if isinstance(connection, Socket):  # it says goodbye when its response is out
                connection.shutdown()
        self._leaving = asyncio.create_task(self._leave(server, timeout_s))

    async def _leave(self, server: uvicorn.Server, timeout_s: float) -> None:
        """End when nobody is left, or when the time is over.

        A connection that is closed while nothing happens on it may have a request on its way, which
        would be lost. So each is left open until an answer has said that it is the last one there,
        or until it was idle for as long as any may be.
        """
        end_s = clock.monotonic_s() + timeout_s
        while (left_s := end_s - clock.monotonic_s()) > 0:
            await asyncio.sleep(min(_LOOK_S, left_s))
            state = server.server_state
            if not state.connections and not state.tasks and self._background.idle:
                break
        self._end(server, max(0.0, left_s))

    def _end(self, server: uvicorn.Server, timeout_s: float) -> None:
        """Let calls in flight end until then, close what is idle, and exit."""
        self._state.draining = self._state.ending = True
        self._end_s = clock.monotonic_s() + timeout_s
        server.config.timeout_graceful_shutdown = round(timeout_s)
        server.should_exit = True

    async def _reload(self, changed: Changed) -> None:
        try:
            if changed.catalogue != self._revision:
                self._gateway.catalogue = await asyncio.to_thread(self._load_catalogue)
            await self._directory.reload()
        except Exception:  # noqa: BLE001 (a worker must outlive a bad moment of its store)
            # The next change, or a look-up of a key, tries again; calls go on with what is known.
            logs.log.exception("reload_failed")

    def _load_catalogue(self) -> Catalogue:
        revision = self._store.revisions().catalogue
        stored = self._store.load_catalogue()
        if stored is None:
            catalogue = Catalogue.of(0, (), (), ())
        else:
            catalogue = snapshot(stored.document, stored.version, stored.created_us)
        catalogue, notes = resolve(catalogue, os.environ, self._start.local)
        for note in notes if self._revision else ():  # at the start, `serve` has said it
            logs.log.warning("channel_closed", reason=note)
        self._redactor.know(channel.api_key for channel in catalogue.channels.values())
        self._revision = revision
        return catalogue


def _factors(store: Store) -> Factors:
    """What earlier calls say of models whose vocabulary is not here."""
    factors = Factors()
    for each in store.calibration(clock.now_us() - _CALIBRATION_US):
        factors.add(each.model, each.calls, each.counted, each.reported)
    return factors


def _reads(store: Store, settings: Settings) -> Reads:
    keep_days = settings.usage_keep_days
    return Reads(
        receipt=lambda request_id, account_id: receipts.show(
            store, request_id, account_id, keep_days
        ),
        money=lambda account_id: accounts.money(store, account_id),
        check=store.revisions,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it listens."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


def _config(asgi: Asgi, settings: Settings, lane: Lane) -> uvicorn.Config:
    return uvicorn.Config(
        asgi,  # pyright: ignore[reportArgumentType] (its own types of the same protocol)
        http=partial(Protocol, settings, lane),  # pyright: ignore[reportArgumentType] (as it is called)
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )


async def _let_finish(server: uvicorn.Server) -> None:
    """Calls that the end of the drain cut off settle what was delivered and tell their clients."""
    if server.server_state.tasks:
        await asyncio.wait(server.server_state.tasks, timeout=_AFTER_DRAIN_S)


async def _main(bus_fd: int, listen_fd: int) -> None:
    async with await Bus.connect(bus_fd) as bus:
        start = await bus.receive()
        if isinstance(start, Start):
            await Worker(start, bus).run(socket.socket(fileno=listen_fd))


def tidy() -> None:
    """Have the garbage collector look at what lives until the end no more, and seldom at the rest,
    since calls leave few circles: that takes its share of a plain call's CPU time from 12 % to 0.1.
    """
    collector.begin(_GC_ALLOCATIONS)


def allow_connections() -> None:
    """Raise this process's limit of open files as far as it may, up to `_WANTED_FILES`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    """A worker process, from its first message to its end."""
    parser = argparse.ArgumentParser(
        prog="python -m farebox.launch farebox.app", description=__doc__
    )
    parser.add_argument("--bus-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    options = parser.parse_args()
    allow_connections()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(options.bus_fd, options.listen_fd))


if __name__ == "__main__":
    main()

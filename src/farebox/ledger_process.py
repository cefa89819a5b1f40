"""The composition root of the ledger process: settings become the one writer of money here.

Run as `python -m farebox.launch farebox.ledger_process --listen-fd N`, the workers' way in; the
first line of its standard input is what standby.order makes. It imports all that it needs before it
reads that line, for it may be a spare, which is given it when another one has died. When that input
ends, its parent has died. Then, or on SIGTERM, it serves until its workers have gone, gives back
all that is leased, and exits. It may be killed at any moment: its successor finds in the store what
counts.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import uvloop

from farebox.billing.jobs import Job, OpenLease, Outcome
from farebox.billing.ledger import Ledger
from farebox.core import clock, collector
from farebox.core.bus import read_settings
from farebox.core.settings import Settings
from farebox.ledger.committer import Committer
from farebox.ledger.reserve import Reserve
from farebox.ledger.server import Server
from farebox.store.books import OwnedBooks
from farebox.store.errors import StoreConflict, StoreError
from farebox.store.owner import hold_lock, is_dead, lock_path, owner_id
from farebox.store.spool import Spool
from farebox.store.store import Store, open_store
from farebox.telemetry import logs
from farebox.telemetry.ledger import LedgerMetrics

if TYPE_CHECKING:
    from farebox.store.recalls import Recalls

BEAT_S = 10.0
HALT_S = 45.0  # without a heartbeat: well before others take this owner for dead
_MOST_TICK_S = 0.25
_RETRY_S = 0.25  # of a store that is away at the start
_HEARING_S = 2.0  # to hear the other hosts, at the start; without, this one serves all the same
_AFTER_DRAIN_S = 10.0  # beyond what workers are given to end in
_GIVE_BACK_S = 5.0  # at the end; what cannot be given back stays for the next start
# The committer's thread must not keep the loop waiting for its turn longer than a hold may take.
_SWITCH_S = 0.0005
# Ledgers that a shared store is taken to have at least: one that has just begun is not counted yet,
# and nobody may be refused what it has in hand.
SHARED = 2
# What it says when it has imported what it needs, and when it serves.
_HERE, _READY = b"here\n", b"ready\n"
# Between collections of the young. Calls in flight are many objects and no circles, and by Python's
# own default of 700 they would be looked through again and again.
_GC_ALLOCATIONS = 50_000
# What opening a PostgreSQL store, and sharing it, would import. Its driver is an extra.
_FOR_POSTGRESQL = (
    "sqlalchemy.dialects.postgresql.psycopg",
    "farebox.store.posting_postgresql",
    "farebox.store.recalls",
)


def read_order(line: bytes) -> tuple[Settings, int]:
    """What standby.order made. Raises ValueError, LookupError, TypeError."""
    values: dict[str, Any] = json.loads(line)
    return read_settings(values["settings"]), int(values["workers"])


class Heart:
    """Says to the store that this owner lives, and knows how many others do."""

    def __init__(
        self,
        beat: Callable[[], int],
        ledger: Ledger,
        beat_s: float = BEAT_S,
        halt_s: float = HALT_S,
    ) -> None:
        """`beat` is called in threads. That it was done once, before this, counts."""
        self._beat = beat
        self._ledger = ledger
        self._beat_s = beat_s
        self._halt_s = halt_s
        self._good_s = clock.monotonic_s()

    @property
    def is_late(self) -> bool:
        """Whether the others may soon take what this owner has leased for lost."""
        return clock.monotonic_s() - self._good_s > self._halt_s

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            began_s = clock.monotonic_s()
            try:
                self._ledger.hosts = max(SHARED, await asyncio.to_thread(self._beat))
                self._good_s = began_s
            except Exception as error:  # noqa: BLE001 (tried again; who waits too long is halted)
                logs.log.warning("heartbeat_missed", reason=str(error))
            await asyncio.sleep(self._beat_s)


class LedgerProcess:
    """The parts. Made inside the loop, once the owner's lock is held."""

    def __init__(self, settings: Settings, store: Store, owner: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._store = store
        self._owner = owner
        self._books = OwnedBooks(store, owner)
        self._spool = Spool(settings.data_dir / "spool.db", store.instance_id)
        self.ledger = Ledger(settings.lease_idle_s)
        if store.is_postgresql:
            self.ledger.hosts = SHARED
        self._heart = Heart(partial(store.beat, owner, socket.gethostname()), self.ledger)
        self._metrics = LedgerMetrics()

    async def begin(self, workers: int, stop: asyncio.Event) -> bool:
        """Take over what an earlier life left; whether that could be before `stop`. Raises
        StoreConflict.
        """
        said = ""
        while not stop.is_set():
            try:
                leases = await asyncio.to_thread(self._leases)
                spooled = await asyncio.to_thread(self._spool.waiting)
            except StoreConflict:
                raise  # it will not pass
            except StoreError as error:
                if str(error) != said:
                    said = str(error)
                    logs.log.error("store_away", reason=said)
                await asyncio.sleep(_RETRY_S)
            else:
                self.ledger.begin(leases, spooled, workers, clock.monotonic_s())
                return True
        return False

    def _leases(self) -> list[OpenLease]:
        return self._books.begin(partial(is_dead, self._settings.data_dir))

    async def serve(
        self, listener: socket.socket, stop: asyncio.Event, ready: Callable[[], None]
    ) -> None:
        """Serve until `stop`, and then until the workers have gone."""
        committer = Committer(
            self._books,
            self._spool,
            Reserve(self._settings.data_dir / "reserve"),
            self._metrics,
            may_spool=self._settings.spool,
            away=StoreError,
            tell=self._tell,
        )
        recalls = self._recalls() if self._store.is_postgresql else None
        self.server = server = Server(
            self.ledger,
            committer,
            tick_s=min(self._settings.lease_idle_s / 2, _MOST_TICK_S),
            is_halted=lambda: committer.is_full or (recalls is not None and self._heart.is_late),
            watch=self._metrics.waiting,
            ask_others=recalls.ask if recalls else None,
            on_recalled=recalls.answer if recalls else None,
        )
        committer.start()
        heart = asyncio.create_task(self._heart.run()) if recalls else None
        if recalls:
            recalls.start()
            # Or its first calls would be refused what another host does not need.
            await asyncio.to_thread(recalls.wait_until_ready, _HEARING_S)
        listening = await self._loop.create_unix_server(server.connection, sock=listener)
        ready()
        await stop.wait()
        await self._see_off(server)
        listening.close()
        if not await server.close(_GIVE_BACK_S):
            logs.log.warning("leases_kept", reason="the store could not be written in time")
        await asyncio.to_thread(committer.stop)
        if recalls and heart:
            heart.cancel()
            await asyncio.to_thread(recalls.close)

    def _recalls(self) -> Recalls:
        # Its driver is an extra.
        from farebox.store.recalls import Recalls

        return Recalls(
            self._settings.database,
            self._owner,
            on_recall=self._on_recall,
            on_answered=self._on_answered,
        )

    def _on_recall(self, account_id: int, token: str) -> None:
        self._loop.call_soon_threadsafe(self.server.recall, account_id, token)

    def _on_answered(self, account_id: int) -> None:
        self._loop.call_soon_threadsafe(self.server.others_gave_back, account_id)

    async def _see_off(self, server: Server) -> None:
        limit_s = self._settings.drain_timeout_s + _AFTER_DRAIN_S
        with suppress(TimeoutError):
            await asyncio.wait_for(server.empty.wait(), limit_s)

    def _tell(self, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        self._loop.call_soon_threadsafe(self.server.done, jobs, outcomes)

    def leave(self) -> None:
        """The end: this owner is not counted any more, unless it still has leases."""
        try:
            self._store.farewell(self._owner)
        except StoreError as error:
            logs.log.warning("farewell_not_said", reason=str(error))
        self._spool.close()


async def _live(listener: socket.socket, settings: Settings, owner: str, workers: int) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), _note_end, sys.stdin.fileno(), stop)
    store = open_store(settings.database, settings.data_dir)
    process = LedgerProcess(settings, store, owner)
    if await process.begin(workers, stop):
        await process.serve(listener, stop, _say_ready)
    process.leave()
    store.close()


def _say_ready() -> None:
    collector.begin(_GC_ALLOCATIONS)
    os.write(sys.stdout.fileno(), _READY)


def _note_end(fd: int, stop: asyncio.Event) -> None:
    if not os.read(fd, 4096):
        asyncio.get_running_loop().remove_reader(fd)
        stop.set()


def _let_workers_finish() -> None:
    """Where there are fewer cores than processes, do not break into a worker's turn whenever it
    says something: what it says in one turn is then heard at once, and the core's caches stay its
    own for longer. See sched(7), SCHED_BATCH; threads inherit it.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main() -> None:
    """The ledger process, from its first line to its end."""
    parser = argparse.ArgumentParser(
        prog="python -m farebox.launch farebox.ledger_process", description=__doc__
    )
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--postgresql", action="store_true", help="the store will be one")
    options = parser.parse_args()
    _let_workers_finish()
    if options.postgresql:
        with suppress(ImportError):  # the store will say so
            for name in _FOR_POSTGRESQL:
                importlib.import_module(name)
    collector.begin(_GC_ALLOCATIONS)
    with suppress(OSError):  # the parent has died: there is no order either
        os.write(sys.stdout.fileno(), _HERE)
    line = sys.stdin.buffer.readline()
    if not line:  # a spare that was not needed
        return
    settings, workers = read_order(line)
    logs.configure(settings.log_level, logs.Redactor())
    sys.setswitchinterval(_SWITCH_S)
    listener = socket.socket(fileno=options.listen_fd)
    try:
        owner = owner_id(settings.data_dir)
    except OSError as error:
        logs.log.error("owner_without_name", reason=str(error))
        raise SystemExit(1) from None
    # An earlier life may still see its workers off. A signal ends the wait, and this process.
    with (
        hold_lock(lock_path(settings.data_dir, owner)),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        try:
            runner.run(_live(listener, settings, owner, workers))
        except StoreError as error:
            logs.log.error("store_away", reason=str(error))
            raise SystemExit(1) from None


if __name__ == "__main__":
    main()

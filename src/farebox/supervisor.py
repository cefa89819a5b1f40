"""The parent process of `serve`: it holds the sockets and keeps workers and local model running.

It answers no call and writes no money; it only has the responses of a dead worker failed. How a
child is started and replaced is children.py's and standby.py's business, what is locked and bound
is claims.py's, what is done from time to time is chores.py's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from farebox.children import EXIT_LIMIT_S, GRACE_S, WORKER_COMMAND, Child, Model, Say, Worker
from farebox.claims import FAILED, Claims, Refused, claim
from farebox.core.bus import Changed, Start
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.standby import LEDGER_COMMAND, Counting, LedgerPlace, order
from farebox.store.owner import owner_id

POLL_S = 0.3  # a revoked key is refused within 5 s, a new price used within 2 s
_FINAL_TRIES = 3
_LEDGER_LIMIT_S = 15.0  # to give back what it has leased, from a store that may be slow
_SILENCE_S = 1.0  # of a drain, before it is said what it waits for


class Revisions(Protocol):
    """How often the store's catalogue, and its accounts and keys, have changed."""

    @property
    def catalogue(self) -> int:
        """Goes up with every change of channels, models, prices and groups."""
        ...

    @property
    def keys(self) -> int:
        """Goes up with every change of accounts and keys."""
        ...


class StorePort(Protocol):
    """What the supervisor needs of the store. Called from threads."""

    def revisions(self) -> Revisions:
        """The two counters, cheaply: asked three times a second."""
        ...

    def fail_orphans(self, owner: str) -> object:
        """Responses that a dead worker ran have failed. May be repeated."""
        ...

    def fail_all_orphans(self, host: str) -> object:
        """Every response that runs on this host has failed: no worker lives yet."""
        ...


@dataclass(frozen=True, slots=True)
class Commands:
    """What children are started with, and how long a drained worker may take to end. Tests have
    others.
    """

    worker: Sequence[str] = WORKER_COMMAND
    ledger: Sequence[str] = LEDGER_COMMAND
    exit_limit_s: float = EXIT_LIMIT_S


def metrics_folder(settings: Settings) -> Path:
    """Where the processes of a gateway keep the figures that /metrics shows."""
    return settings.data_dir / "run" / "metrics"


def say_on_stderr(text: str) -> None:
    """Write to standard error, as it is. A terminal that has gone is no reason to end."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        pass


def run(
    settings: Settings,
    store: StorePort,
    *,
    local: bool,
    announce: Callable[[Settings], None],
    claims: Claims | None = None,
    say: Say = say_on_stderr,
    commands: Commands | None = None,
) -> int:
    """Serve until a signal ends it; the exit code.

    `announce` is called once, when every worker accepts calls and the local model is ready, with
    the settings as they became: port 0 is a real port by then. `claims` are those that the
    caller took with `claims.claim`, for who wants to know before it touches the store; they are
    closed here. `local`: run the embedded model, which must be installed. 0 after a drain, 1 if a
    worker could not start or a second signal cut the drain short, 2 or 5 if nothing could be
    claimed.
    """
    try:
        with claims or claim(settings) as held:
            supervisor = _Supervisor(
                held,
                store,
                local=local,
                announce=announce,
                say=say,
                commands=commands or Commands(),
            )
            return asyncio.run(supervisor.run())
    except Refused as refused:
        say(refused.message + "\n")
        return refused.exit_code


class _Supervisor:
    """One run. Made outside the loop, used inside it."""

    def __init__(
        self,
        claims: Claims,
        store: StorePort,
        *,
        local: bool,
        announce: Callable[[Settings], None],
        say: Say,
        commands: Commands,
    ) -> None:
        self._claims = claims
        self._settings = claims.settings
        self._store = store
        self._local = local
        self._announce = announce
        self._say = say
        self._commands = commands
        self._instance_id = new_id("fb")
        self._host = ""  # known when the data folder is
        self._metrics = metrics_folder(self._settings)
        self._workers: list[Worker] = []
        self._model: Model | None = None
        self._counting: Counting | None = None
        self._ledger: LedgerPlace | None = None
        self._env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)}
        self._running: dict[Child, asyncio.Task[None]] = {}
        self._dead_owners: set[str] = set()
        self._stop = asyncio.Event()
        self._hurried = False

    async def run(self) -> int:
        """From the first child to the last; the exit code."""
        self._hear_signals()
        try:
            self._make_folders()
            self._host = owner_id(self._settings.data_dir)
        except OSError as error:
            raise Refused(f"Cannot write to {self._settings.data_dir}: {error}.", FAILED) from None
        try:
            await asyncio.to_thread(self._store.fail_all_orphans, self._host)
            # Before any worker loads: no change can fall between its load and our first look.
            seen = await asyncio.to_thread(self._store.revisions)
        except Exception as error:
            raise Refused(f"The store cannot be used: {error}", FAILED) from error
        watch = asyncio.create_task(self._watch_store(seen))
        try:
            self._start_children()
            trouble = await self._come_up()
            if trouble is None and not self._stop.is_set():
                self._announce(self._settings)
                await self._stop.wait()
            if trouble is not None:
                self._say(trouble + "\n")
                if self._ledger is not None:
                    self._ledger.stop()  # one that died is not tried again
            await self._shut_down()
        finally:
            watch.cancel()
            await self._kill(self._running)
            for place in (self._counting, self._ledger):
                if place is not None:
                    place.close()
        await self._fail_dead(_FINAL_TRIES)
        return FAILED if self._hurried or trouble is not None else 0

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            return
        self._hurried = True
        for child in self._running:
            child.kill()

    def _on_hangup(self) -> None:
        self._say("SIGHUP does nothing: keys and catalogue are followed as they change.\n")

    def _make_folders(self) -> None:
        # What is in it counts for the processes of an earlier run.
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir(parents=True, mode=0o700)

    def _start_children(self) -> None:
        # First of all: workers cannot do without it.
        self._ledger = self._make_ledger()
        self._start(self._ledger)
        if self._local:
            self._model = Model(self._settings.data_dir / "local-model.log", self._say)
            self._start(self._model)
        try:
            self._counting = Counting(self._say)
            self._start(self._counting)
        except OSError as error:
            self._say(f"Tokens are not counted but estimated, for want of a socket: {error}\n")
        for slot, listener in enumerate(self._claims.sockets):
            worker = Worker(
                slot=slot,
                listener=listener,
                command=self._commands.worker,
                env=self._env,
                hello=self._hello,
                on_death=self._on_death,
                say=self._say,
            )
            self._workers.append(worker)
            self._start(worker)

    def _make_ledger(self) -> LedgerPlace:
        try:
            ledger = LedgerPlace(
                self._order,
                self._drop_gauges,
                self._say,
                env=self._env,
                command=self._commands.ledger,
            )
            # For commands that want what is leased of an account back.
            (self._settings.data_dir / "run" / "ledger").write_text(ledger.path + "\n")
        except OSError as error:
            raise Refused(f"There is no place for the ledger's socket: {error}.", FAILED) from None
        return ledger

    def _order(self) -> bytes:
        return order(self._settings, sum(worker.lives for worker in self._workers))

    def _start(self, child: Child) -> None:
        self._running[child] = asyncio.create_task(child.run(), name=child.name)

    def _hello(self, slot: int, owner: str) -> Start:
        endpoint = self._model.endpoint if self._model is not None else None
        counting = self._counting.path if self._counting is not None else None
        assert self._ledger is not None
        settings, ledger = self._settings, self._ledger.path
        name = self._named(owner)
        return Start(slot, name, self._instance_id, settings, endpoint, counting, ledger)

    def _named(self, owner: str) -> str:
        """A worker's name among those of all hosts."""
        return f"{owner}@{self._host}"

    def _on_death(self, owner: str, pid: int) -> None:
        self._dead_owners.add(self._named(owner))
        self._drop_gauges(pid)

    def _drop_gauges(self, pid: int) -> None:
        # Gauges of what a process is doing now; its counters stay in the sums.
        for file in self._metrics.glob(f"gauge_live*_{pid}.db"):
            file.unlink(missing_ok=True)

    async def _come_up(self) -> str | None:
        """Wait for every child or a signal; None, or why this start has failed."""
        needed = [self._ledger, *self._workers] if self._ledger else self._workers
        up = [asyncio.create_task(self._child_up(child)) for child in needed]
        model = asyncio.create_task(self._model_up())
        stop = asyncio.create_task(self._stop.wait())
        waiting: set[asyncio.Task[Any]] = {model, *up}
        try:
            while waiting and not stop.done():
                done, _ = await asyncio.wait({*waiting, stop}, return_when=asyncio.FIRST_COMPLETED)
                waiting -= done
                for task in up:
                    if task in done and task.result() is not None:
                        return task.result()
        finally:
            await _cancel([*up, model, stop])
        return None

    async def _child_up(self, child: Child) -> str | None:
        end = await child.first_ready()
        if end is None or self._stop.is_set():
            return None
        # At the start a second try would fail like the first, and hide the first one's words.
        return f"{child.name} {end} before it could serve; the lines above say why."

    async def _model_up(self) -> None:
        """Tell of the model's loading. That it does not load stops nobody else."""
        if self._model is None:
            return
        started_s = asyncio.get_running_loop().time()
        self._say("Loading the local model … ")
        end = await self._model.first_ready()
        if end is None:
            self._say(f"ready in {asyncio.get_running_loop().time() - started_s:.1f} s\n")
        else:
            self._say(f"it {end}; {self._settings.data_dir / 'local-model.log'} may say why.\n")

    async def _watch_store(self, seen: Revisions) -> None:
        """Tell the workers what has changed, and fail what the dead ran, for ever."""
        known = Changed(seen.catalogue, seen.keys)
        trouble = ""
        while True:
            await asyncio.sleep(POLL_S)
            await self._fail_dead(1)
            try:
                now = await asyncio.to_thread(self._store.revisions)
            except Exception as error:  # noqa: BLE001 (a store that is busy or away will come back)
                if str(error) != trouble:
                    trouble = str(error)
                    self._say(f"The store cannot be read, changes will be seen late: {trouble}\n")
                continue
            trouble = ""
            if (now.catalogue, now.keys) != (known.catalogue, known.keys):
                known = Changed(now.catalogue, now.keys)
                for worker in self._workers:
                    worker.tell(known)

    async def _fail_dead(self, tries: int) -> None:
        for owner in tuple(self._dead_owners):
            for left in reversed(range(tries)):
                try:
                    await asyncio.to_thread(self._store.fail_orphans, owner)
                    self._dead_owners.discard(owner)
                    break
                except Exception as error:  # noqa: BLE001 (tried again, if need be by the next start)
                    if not left and tries > 1:
                        self._say(f"Responses of {owner} run until the next start: {error}\n")

    async def _shut_down(self) -> None:
        """Drain the workers, then stop the others, which their last calls may need."""
        # Once the workers' copies are closed too, new connections are refused, not left waiting.
        for listener in self._claims.sockets:
            listener.close()
        for worker in self._workers:
            worker.drain(self._settings.drain_timeout_s)
        word = asyncio.get_running_loop().call_later(_SILENCE_S, self._tell_of_drain)
        limit_s = self._settings.drain_timeout_s + self._commands.exit_limit_s
        await self._ended(self._workers, limit_s)
        word.cancel()
        if self._counting is not None:
            self._counting.stop()
        if self._ledger is not None:
            self._ledger.stop()
        if self._model is not None:
            self._model.stop()
            await self._ended([self._model], GRACE_S)
            self._model.close()
        if self._ledger is not None:
            await self._ended([self._ledger], _LEDGER_LIMIT_S)

    def _tell_of_drain(self) -> None:
        limit_s = f"{self._settings.drain_timeout_s:g}"
        self._say(
            f"Calls in flight have {limit_s} s to end; a second Ctrl-C or SIGTERM ends them now.\n"
        )

    async def _ended(self, children: Sequence[Child], limit_s: float) -> None:
        tasks = {self._running[child]: child for child in children}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=limit_s)
        for task in late:
            self._say(f"{tasks[task].name} did not end in time and was killed.\n")
        await self._kill([tasks[task] for task in late])

    async def _kill(self, children: Sequence[Child] | dict[Child, asyncio.Task[None]]) -> None:
        for child in children:
            child.kill()
        await asyncio.gather(*(self._running[child] for child in children))


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

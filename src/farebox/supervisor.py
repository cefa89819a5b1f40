"""The parent process of `serve`: it holds the sockets and keeps workers and local model running.

It answers no call and writes no money. How a child is started and replaced is children.py's,
standby.py's and crew.py's business, how all are replaced by ones of new settings and code is
reload.py's, what they are told of the store is watch.py's; what is locked and bound is claims.py's,
what is done from time to time is chores.py's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from farebox.children import EXIT_LIMIT_S, GRACE_S, WORKER_COMMAND, Child, Model, Say, Worker
from farebox.claims import FAILED, Claims, Refused
from farebox.core.bus import Start, plain_settings
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.crew import Crew
from farebox.reload import RELOAD_COMMAND, Asking, Given, Reload, known, question
from farebox.standby import LEDGER_COMMAND, Counting, LedgerPlace, order
from farebox.store.owner import owner_id
from farebox.telemetry import former
from farebox.watch import StorePort, StoreWatch

_FINAL_TRIES = 3
_LEDGER_LIMIT_S = 15.0  # to give back what it has leased, from a store that may be slow
_SILENCE_S = 1.0  # of a drain, before it is said what it waits for


@dataclass(frozen=True, slots=True)
class Commands:
    """What children are started with, and how long a drained worker may take to end. Tests have
    others.
    """

    worker: Sequence[str] = WORKER_COMMAND
    ledger: Sequence[str] = LEDGER_COMMAND
    reload: Sequence[str] = RELOAD_COMMAND
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
    claims: Claims,
    store: StorePort,
    *,
    local: bool,
    announce: Callable[[Settings], None],
    given: Given | None = None,
    say: Say = say_on_stderr,
    commands: Commands | None = None,
) -> int:
    """Serve until a signal ends it; the exit code.

    `claims` are closed here. `announce` is called once, when every worker accepts calls and the
    local model is ready. `local`: run the embedded model, which must be installed. `given` is what
    a reload goes by. 0 after a drain, 1 if a worker could not start or a second signal cut the
    drain short.
    """
    try:
        with claims:
            supervisor = _Supervisor(
                claims,
                store,
                local=local,
                announce=announce,
                given=given or Given(),
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
        given: Given,
        say: Say,
        commands: Commands,
    ) -> None:
        self._claims = claims
        self._settings = claims.settings  # as every worker has them, or is about to
        self._plain: Mapping[str, Any] = plain_settings(claims.settings)  # perhaps with more
        self._store = store
        self._local = local
        self._announce = announce
        self._given = given
        self._say = say
        self._commands = commands
        self._instance_id = new_id("fb")
        self._host = ""  # known when the data folder is
        self._metrics = metrics_folder(self._settings)
        self._model: Model | None = None
        self._counting: Counting | None = None
        self._ledger: LedgerPlace | None = None
        self._env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)}
        self._crew = Crew(say, commands.exit_limit_s)
        self._watch = StoreWatch(store, self._crew.tell, say)
        self._reload = Reload(
            self._crew,
            ask=self._ask,
            make_worker=self._make_worker,
            renew_ledger=self._renew_ledger,
            adopt=self._adopt,
            say=say,
        )
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
            await self._watch.begin(self._host)
        except Exception as error:
            raise Refused(f"The store cannot be used: {error}", FAILED) from error
        besides = [asyncio.create_task(self._watch.run())]
        try:
            self._start_children()
            trouble = await self._come_up()
            if trouble is None and not self._stop.is_set():
                self._announce(self._settings)
                besides.append(asyncio.create_task(self._reload.run()))
                await self._stop.wait()
            if trouble is not None:
                self._say(trouble + "\n")
                if self._ledger is not None:
                    self._ledger.stop()  # one that died is not tried again
            await self._shut_down(besides[1:])
        finally:
            await _cancel(besides)
            await self._crew.close()
            for place in (self._counting, self._ledger):
                if place is not None:
                    place.close()
        await self._watch.fail_dead(_FINAL_TRIES)
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
        self._crew.hurry()

    def _on_hangup(self) -> None:
        if self._stop.is_set():
            self._say("The gateway is ending: there is no reload.\n")
        else:
            self._reload.want()

    def _make_folders(self) -> None:
        # What is in it counts for the processes of an earlier run.
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir(parents=True, mode=0o700)

    def _start_children(self) -> None:
        # First of all: workers cannot do without it.
        self._ledger = self._make_ledger()
        self._crew.start(self._ledger)
        if self._local:
            self._model = Model(self._settings.data_dir / "local-model.log", self._say)
            self._crew.start(self._model)
        try:
            self._counting = Counting(self._say)
            self._crew.start(self._counting)
        except OSError as error:
            self._say(f"Tokens are not counted but estimated, for want of a socket: {error}\n")
        for slot in range(len(self._claims.sockets)):
            self._crew.start(self._make_worker(slot, self._plain))

    def _make_worker(self, slot: int, settings: Mapping[str, Any]) -> Worker:
        return Worker(
            slot=slot,
            listener=self._claims.sockets[slot],
            command=self._commands.worker,
            env=self._env,
            hello=partial(self._hello, settings),
            on_death=self._on_death,
            say=self._say,
        )

    async def _renew_ledger(self) -> bool:
        return self._ledger is not None and await self._ledger.renew()

    def _ask(self) -> Asking:
        return Asking(question(self._given, self._plain), self._commands.reload, self._say)

    def _adopt(self, settings: Mapping[str, Any]) -> None:
        self._plain, self._settings = settings, known(settings)
        self._given.follow(self._settings)

    def _make_ledger(self) -> LedgerPlace:
        try:
            ledger = LedgerPlace(
                self._order,
                self._on_end,
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
        return order(self._plain, self._crew.alive)

    def _hello(self, settings: Mapping[str, Any], slot: int, owner: str) -> Start:
        endpoint = self._model.endpoint if self._model is not None else None
        counting = self._counting.path if self._counting is not None else None
        assert self._ledger is not None
        name, ledger = self._named(owner), self._ledger.path
        return Start(slot, name, self._instance_id, settings, endpoint, counting, ledger)

    def _named(self, owner: str) -> str:
        """A worker's name among those of all hosts."""
        return f"{owner}@{self._host}"

    def _on_death(self, owner: str, pid: int) -> None:
        self._watch.died(self._named(owner))
        self._on_end(pid)

    def _on_end(self, pid: int) -> None:
        former.drop_gauges(self._metrics, pid)
        # A thread: it waits for whoever reads.
        asyncio.get_running_loop().run_in_executor(None, self._take_over, pid)

    def _take_over(self, pid: int) -> None:
        with suppress(OSError):  # a full disk: they stay where they are
            former.take_over(self._metrics, pid)

    async def _come_up(self) -> str | None:
        """Wait for every child or a signal; None, or why this start has failed."""
        needed: list[Child] = [*([self._ledger] if self._ledger else ()), *self._crew.workers]
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

    async def _shut_down(self, reload: Sequence[asyncio.Task[None]]) -> None:
        """Drain the workers, then stop the others, which their last calls may need."""
        await _cancel(reload)
        # Once the workers' copies are closed too, new connections are refused, not left waiting.
        for listener in self._claims.sockets:
            listener.close()
        word = asyncio.get_running_loop().call_later(_SILENCE_S, self._tell_of_drain)
        await self._crew.drain(self._settings.drain_timeout_s)
        word.cancel()
        if self._counting is not None:
            self._counting.stop()
        if self._ledger is not None:
            self._ledger.stop()
        if self._model is not None:
            self._model.stop()
            await self._crew.ended([self._model], GRACE_S)
            self._model.close()
        if self._ledger is not None:
            await self._crew.ended([self._ledger], _LEDGER_LIMIT_S)

    def _tell_of_drain(self) -> None:
        limit_s = f"{self._settings.drain_timeout_s:g}"
        self._say(
            f"Calls in flight have {limit_s} s to end; a second Ctrl-C or SIGTERM ends them now.\n"
        )


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

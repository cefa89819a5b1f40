"""One run: start everything, measure in interleaved rounds, check the books."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import facts, history, nginx, proc
from bench.calm import Calm
from bench.cases import (
    Case,
    Options,
    all_scripts,
    cases,
    first_calls,
    memory_case,
    peer_cases,
    plan,
    warming_case,
)
from bench.compiler import Programs
from bench.gateway import Farebox, Upstreams
from bench.load import BadAnswer, Measured, Plan, measure
from bench.nginx import Front, Nginx
from bench.peers import PeerMissing, Places, install
from bench.results import Results, Start
from bench.servers import Running, Server, Target, start_mock, stop_all
from bench.wire import Script

_SHORT_S = 0.5  # windows in which nothing is timed
_BEGUN_S = time.perf_counter()


class Bench:
    """Everything that runs: the upstream with its https side, and the servers under test."""

    def __init__(self, options: Options, folder: Path, programs: Programs) -> None:
        self.options = options
        self.cores = proc.choose_cores()
        self._calm = Calm(self.cores.server, options.patience)
        self.results = Results(facts.collect(folder, self.cores, options), calm=self._calm.tally)
        self._programs = programs
        self._folder = folder
        self._running: list[Running] = []
        self._calls_made: dict[str, int] = {}
        with proc.pinned(self.cores.load):
            running, self.mock = start_mock(programs.mock)
        self._running.append(running)
        self._front = 0
        tls_port, certificate = self._start_front()
        base_url = f"http://127.0.0.1:{self.mock.port}"
        tls_base_url = f"https://localhost:{tls_port}" if tls_port else ""
        self._upstreams = Upstreams(base_url, tls_base_url, certificate)
        self.farebox = self.make_farebox("farebox")
        self._servers: dict[str, Server] = {"farebox": self.farebox}
        if nginx.version() is None:
            self.results.left_out.append("nginx: it is not on the PATH (Debian: apt install nginx)")
        else:
            self._servers["nginx"] = Nginx(folder / "nginx", self.mock.port, tls_port, certificate)

    def make_farebox(
        self, name: str, workers: int = 1, scripts: dict[str, Script] | None = None
    ) -> Farebox:
        """Another gateway, with a store of its own; `scripts` as in Farebox."""
        scripts = scripts or all_scripts(self.options)
        return Farebox(self._folder / name, self._upstreams, scripts, name=name, workers=workers)

    def run(self, peers: Sequence[str]) -> Results:
        """Measure all of it. Raises RuntimeError when the books do not hold every call."""
        for turn in range(self.options.starts):
            for name in self._servers:
                say(f"start {turn + 1} of {self.options.starts}: {name}")
                self._measure_start(name)
        targets = [Target("direct", self.mock.port), *map(self._start, self._servers)]
        say("a call of each case")
        gateway = next(target for target in targets if target.name == self.farebox.name)
        self.generate(first_calls(self.options, gateway), gateway.name)
        for turn in range(self.options.rounds):
            for case in cases(self.options):
                say(f"round {turn + 1} of {self.options.rounds}: {case.name}")
                self._measure(case.name, case, targets)
        self._compare_gateways(targets)
        for peer in peers:
            self._compare_peer(peer, targets)
        self.check_books(self.farebox)
        return self.results

    def stop(self) -> None:
        """End every process."""
        stop_all(self._running)
        self._running.clear()

    def start(self, server: Server) -> Target:
        """Run a server on the core of servers. It ends with the run."""
        with proc.pinned(self.cores.server):
            running, target = server.start()
        self._running.append(running)
        return target

    def generate(self, what: Plan, name: str) -> Measured:
        """Make a measurement of the server of this name."""
        measured = measure(what, self._programs.load, self.cores.load)
        self._calls_made[name] = self._calls_made.get(name, 0) + measured.all_calls
        return measured

    def _start(self, name: str) -> Target:
        return self.start(self._servers[name])

    def _start_front(self) -> tuple[int, Path | None]:
        if why := nginx.why_no_https():
            self.results.left_out.append(f"https upstream: {why}")
            return 0, None
        certificate = nginx.make_certificate(self._folder)
        front = Front(self._folder / "front", self.mock.port, certificate)
        with proc.pinned(self.cores.load):
            running = front.start()
        self._running.append(running)
        self._front = running.process.pid
        return front.port, certificate

    def _measure_start(self, name: str) -> None:
        target = self._start(name)
        running = self._running.pop()
        cpu_s = proc.cpu_s(target.roots)
        short_s = min(self.options.seconds, _SHORT_S)
        try:
            idle_kb = proc.rss_kb(target.worker)
            all_kb = sum(proc.rss_kb(pid) for pid in proc.tree(target.roots[0]))
            self._load(warming_case(), target, short_s)
            held = self._load(memory_case(self.options), target, short_s)
        finally:
            running.stop()
        grown_kb = held.memory_kb - held.memory_before_kb
        stream_kb = grown_kb / self.options.memory_streams
        start = Start(running.ready_s, cpu_s, idle_kb, all_kb, stream_kb)
        self.results.starts.setdefault(name, []).append(start)

    def _measure(self, row: str, case: Case, targets: list[Target]) -> None:
        for target in targets:
            # Without a gateway there is no CPU of one.
            if target.name == "direct" and not case.with_direct:
                continue
            if case.is_tls and not target.tls_port:
                continue
            window = partial(self._load, case, target, self.options.seconds)
            measured = self._calm.measure(window, self.options.seconds)
            self.results.add(row, case, target.name, measured)

    def _load(self, case: Case, target: Target, seconds: float) -> Measured:
        what = plan(case, target, self.mock, seconds, self._front if case.is_tls else 0)
        return self.generate(what, target.name)

    def _compare_gateways(self, targets: list[Target]) -> None:
        """Farebox with two workers, and Farebox with a long history, beside the plain one."""
        two = self.make_farebox("farebox-two-workers", workers=2)
        self._beside(two, targets)
        self.check_books(two)
        if not self.options.history:
            self.results.left_out.append("many usage rows: --history 0")
            return
        old = self.make_farebox("farebox-history")
        target = self.start(old)
        running = self._running.pop()
        try:
            self._load(warming_case(), target, _SHORT_S)
        finally:
            running.stop()
        say(f"writing {self.options.history:,} calls of the past")
        history.fill(old.database, self.options.history)
        old.audit()
        self._beside(old, targets)
        self.check_books(old, self.options.history)

    def _beside(self, server: Farebox, targets: list[Target]) -> None:
        target = self.start(server)
        plain = cases(self.options)[0]
        row = f"{plain.name} beside {target.name}"
        for turn in range(self.options.rounds):
            say(f"round {turn + 1} of {self.options.rounds}: {row}")
            self._measure(row, plain, [*targets[1:], target])
        self._running.pop().stop()

    def _compare_peer(self, name: str, targets: list[Target]) -> None:
        """Another gateway; what keeps it from being measured is noted, and the run goes on."""
        running_before = len(self._running)
        try:
            say(f"{name}: installing it, if that is not done")
            places = Places(self._folder / name, self.mock.port, all_scripts(self.options))
            peer = install(name, places)
            begun_at_s = time.perf_counter()
            target = self.start(peer)
            idle_kb = sum(proc.rss_kb(pid) for pid in proc.tree(target.roots[0]))
            say(f"{name}: ready after {time.perf_counter() - begun_at_s:.1f} s")
            ready_s = self._running[-1].ready_s
            start = Start(ready_s, proc.cpu_s(target.roots), proc.rss_kb(target.worker), idle_kb, 0)
            self.results.starts[name] = [start]
            for turn in range(self.options.rounds):
                for case in peer_cases():
                    row = f"{case.name} beside {name}"
                    say(f"round {turn + 1} of {self.options.rounds}: {row}")
                    self._measure(row, case, [*targets[1:], target])
        except (PeerMissing, BadAnswer, RuntimeError, OSError) as error:
            say(f"{name} is left out: {error}")
            self.results.left_out.append(f"{name}: {error}")
        finally:
            stop_all(self._running[running_before:])
            del self._running[running_before:]

    def check_books(self, farebox: Farebox, before: int = 0) -> None:
        """Every call that was answered is in them. Raises RuntimeError when one is not."""
        made, charged = self._calls_made[farebox.name], farebox.calls_charged() - before
        if charged != made:
            raise RuntimeError(f"{made} calls were answered, {charged} are in the books")
        self.results.calls_charged += charged


def say(text: str) -> None:
    """Tell whoever waits."""
    print(f"{time.perf_counter() - _BEGUN_S:6.1f} s  {text}", file=sys.stderr, flush=True)


@contextmanager
def bench(options: Options, folder: Path, programs: Programs) -> Generator[Bench]:
    """Everything that runs, until the end of the block."""
    made = Bench(options, folder, programs)
    try:
        yield made
    finally:
        made.stop()

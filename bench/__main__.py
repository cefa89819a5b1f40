"""The benchmark: start everything, measure in interleaved rounds, check the books, report.

Run by scripts/bench, from the project's folder: python -m bench [--rounds 3] [--seconds 2] …
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import msgspec

from bench import facts, proc, report
from bench.cases import Case, Options, cases, memory_case, plan, scripts, warming_case
from bench.load import Measured, Plan
from bench.report import Results, Start
from bench.servers import Farebox, Nginx, Running, Target, start_mock, stop_all

_LOAD_LIMIT_S = 90.0
_BEGUN_S = time.perf_counter()


class Bench:
    """One run."""

    def __init__(self, options: Options, folder: Path) -> None:
        self._options = options
        self._cores = proc.choose_cores()
        self._running: list[Running] = []
        self._calls_made = 0
        with proc.pinned(self._cores.load):
            running, self._mock = start_mock()
        self._running.append(running)
        self._farebox = Farebox(folder / "farebox", self._mock.port, scripts(options))
        self._servers: dict[str, Farebox | Nginx] = {"farebox": self._farebox}
        if Nginx.version() is not None:
            self._servers["nginx"] = Nginx(folder / "nginx", self._mock.port)
        self.results = Results(facts.collect(folder, self._cores, options))

    def run(self) -> Results:
        """Measure all of it. Raises RuntimeError when the books do not hold every call."""
        for turn in range(self._options.starts):
            for name in self._servers:
                _say(f"start {turn + 1} of {self._options.starts}: {name}")
                self._measure_start(name)
        targets = [Target("direct", self._mock.port), *map(self._start, self._servers)]
        for turn in range(self._options.rounds):
            for case in cases(self._options):
                _say(f"round {turn + 1} of {self._options.rounds}: {case.name}")
                self._measure(case, targets)
        charged = self._farebox.calls_charged()
        if charged != self._calls_made:
            raise RuntimeError(
                f"{self._calls_made} calls were answered, {charged} are in the books"
            )
        self.results.calls_charged = charged
        return self.results

    def stop(self) -> None:
        """End every process."""
        stop_all(self._running)

    def _start(self, name: str) -> Target:
        with proc.pinned(self._cores.server):
            running, target = self._servers[name].start()
        self._running.append(running)
        return target

    def _measure_start(self, name: str) -> None:
        target = self._start(name)
        running = self._running.pop()
        cpu_s = proc.cpu_s(target.roots)
        try:
            idle_kb = proc.rss_kb(target.worker)
            self._load(warming_case(), target, min(self._options.seconds, 0.5))
            held = self._load(memory_case(self._options), target, min(self._options.seconds, 0.5))
        finally:
            running.stop()
        grown_kb = held.memory_kb - held.memory_before_kb
        start = Start(running.ready_s, cpu_s, idle_kb, grown_kb / self._options.memory_streams)
        self.results.starts.setdefault(name, []).append(start)

    def _measure(self, case: Case, targets: list[Target]) -> None:
        for target in targets:
            if target.name != "direct" or case.probe_s:  # without a gateway there is no CPU of one
                measured = self._load(case, target, self._options.seconds)
                self.results.add(case, target.name, measured)

    def _load(self, case: Case, target: Target, seconds: float) -> Measured:
        measured = _generate(plan(case, target, self._mock, seconds), self._cores.load)
        if target.name == "farebox":
            self._calls_made += measured.all_calls
        return measured


def _generate(what: Plan, core: int) -> Measured:
    with proc.pinned(core):
        done = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            input=msgspec.json.encode(what),
            stdout=subprocess.PIPE,
            timeout=_LOAD_LIMIT_S,
            check=True,
        )
    return msgspec.json.decode(done.stdout, type=Measured)


def _say(text: str) -> None:
    print(f"{time.perf_counter() - _BEGUN_S:5.1f} s  {text}", file=sys.stderr, flush=True)


@contextmanager
def _bench(options: Options) -> Generator[Bench]:
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as folder:
        bench = Bench(options, Path(folder))
        try:
            yield bench
        finally:
            bench.stop()


def main() -> None:
    """Measure, write the JSON, print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    defaults = Options()
    for field in fields(Options):
        default = getattr(defaults, field.name)
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help=f"default {default}")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results.json"))
    given = vars(parser.parse_args())
    output: Path = given.pop("output")
    with _bench(Options(**given)) as bench:
        results = bench.run()
    output.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    print(report.markdown(results))


if __name__ == "__main__":
    main()

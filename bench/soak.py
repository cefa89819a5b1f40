"""Endurance: many streams at once, and half of full load for long. Does memory come back, is any
event lost, does anything fail?
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from bench import proc
from bench.cases import Case, group
from bench.load import Group, Measured, Plan
from bench.run import Bench, say
from bench.servers import Target

_WARM_S = 1.0
_MARGIN_S = 3.0  # streams go on for a while after the window, so that all are open in it
_PROBE_S = 3.0  # windows in which full load is measured
_GROWTH, _GROWTH_KB = 1.05, 2048  # a process has grown when it has more than this
_SOAK_STREAM_S = 20.0
_SOAK_CONNECTIONS = 256  # more than calls are ever open, so that the rate holds
_MINUTE_S = 60.0


@dataclass(slots=True)
class Endurance:
    """What came of it. `memory` has resident KB by process, at each moment."""

    title: str
    notes: list[str] = field(default_factory=list[str])
    memory: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    base: str = ""  # the moment that the last one is compared with
    errors: int = 0

    @property
    def grown(self) -> list[str]:
        """Processes that have more memory at the end than they had, or were replaced."""
        base, last = self.memory[self.base], [*self.memory.values()][-1]
        return [
            name
            for name in {**base, **last}
            if name not in base
            or name not in last
            or last[name] > base[name] * _GROWTH + _GROWTH_KB
        ]

    @property
    def is_good(self) -> bool:
        """Whether nothing failed and nothing grew."""
        return not self.errors and not self.grown


def streams(bench: Bench, count: int) -> Endurance:
    """So many paced streams at once, for the seconds of a window; every one of their events is
    checked. A turn as long goes before, so that the baseline is that of a process that has done
    the same: the first turn leaves full caches and the allocator's free pages behind.
    """
    options = bench.options
    every_s = options.every_ms / 1000
    case = Case(
        "paced",
        "paced",
        "event",
        count,
        chunks=int((count / 1000 + _WARM_S + options.seconds + _MARGIN_S) / every_s) + 1,
        every_ms=options.every_ms,
    )
    farebox = bench.make_farebox("paced", scripts={case.name: case.script})
    target = bench.start(farebox)
    found = Endurance(f"{count:,} paced streams for {options.seconds:g} s", base="before")
    found.memory["idle"] = _memory(target)
    what = _plan([group(case, target)], bench, target, options.seconds)
    for turn in ("before", "after"):
        say(f"{count} streams, {'first' if turn == 'before' else 'second'} turn")
        measured = bench.generate(what, farebox.name)
        found.errors += measured.groups[0].errors
        time.sleep(options.settle_s)
        found.memory[turn] = _memory(target)
    _describe(found, measured, case.script.contents)
    bench.check_books(farebox)
    found.notes.append("books: every stream is in them")
    return found


def soak(bench: Bench, minutes: float) -> Endurance:
    """Half of full load: plain calls for a quarter of the server's core, streams for another."""
    options = bench.options
    plain = Case("soak-plain", "plain call", "call", _SOAK_CONNECTIONS)
    stream = Case(
        "soak-stream",
        "paced event",
        "event",
        min(options.streams, 200),
        chunks=int(_SOAK_STREAM_S * 1000 / options.every_ms),
        every_ms=options.every_ms,
    )
    farebox = bench.make_farebox(
        "soak", scripts={case.name: case.script for case in (plain, stream)}
    )
    target = bench.start(farebox)
    say("measuring full load")
    cost_s: list[float] = []
    for case in (plain, stream):
        full = bench.generate(_plan([group(case, target)], bench, target, _PROBE_S), "soak")
        cost_s.append(full.cpu_s / full.units)
    rate = 0.25 / cost_s[0]
    stream = replace(stream, connections=max(1, int(0.25 / cost_s[1] * options.every_ms / 1000)))
    calls = replace(group(plain, target), rate=rate)
    flow = replace(group(stream, target), is_once=False, spread_s=_SOAK_STREAM_S)
    say(f"{rate:.0f} calls a second and {stream.connections} streams for {minutes:g} minutes")
    found = Endurance(f"half of full load for {minutes:g} minutes")
    what = replace(_plan([calls, flow], bench, target, minutes * _MINUTE_S), may_fail=True)
    every_s = min(_MINUTE_S, minutes * _MINUTE_S / 2)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(bench.generate, what, "soak")
        begun_s = time.monotonic()
        is_over = False
        while not is_over:
            moment = f"minute {(time.monotonic() - begun_s) / _MINUTE_S:.1f}"
            found.memory[moment] = _memory(target)
            is_over = bool(wait([running], every_s).done)
        measured = running.result()
    # By half time caches are full and the audit has run once, which is due after five minutes: what
    # is added later counts.
    found.base = [*found.memory][len(found.memory) // 2]
    time.sleep(options.settle_s)
    found.memory["at the end"] = _memory(target)
    found.errors = sum(each.errors for each in measured.groups)
    found.notes.append(
        f"load: {rate:.0f} plain calls a second, and {stream.connections} streams of"
        f" {_SOAK_STREAM_S:g} s, one after another"
    )
    _describe(found, measured, stream.script.contents)
    bench.check_books(farebox)
    found.notes.append("books: every call is in them")
    return found


def _plan(groups: Sequence[Group], bench: Bench, target: Target, seconds: float) -> Plan:
    return Plan(
        port=target.port,
        groups=tuple(groups),
        warm_s=_WARM_S,
        measure_s=seconds,
        roots=target.roots,
        load_roots=(bench.mock.pid,),
    )


def _memory(target: Target) -> dict[str, int]:
    """Resident KB by process; named after the module that it runs, and its number."""
    found: dict[str, int] = {}
    for pid in proc.tree(target.roots[0]):
        module = re.search(r"-m (?:farebox\.launch )?farebox\.(\w+)", proc.command_line(pid))
        found[f"{module[1] if module else 'serve'} {pid}"] = proc.rss_kb(pid)
    return found


def _describe(found: Endurance, measured: Measured, events_a_stream: int) -> None:
    paced = measured.groups[-1]
    expected = paced.calls * events_a_stream
    found.notes += [
        (
            f"streams: {paced.calls:,} complete, each with {events_a_stream} numbered events;"
            f" events: {paced.events:,} came, {expected:,} of them in complete streams"
        ),
        f"streams that were over before the window was: {measured.ended_early}",
        f"errors: {found.errors}"
        + "".join(f"; {each.failure}" for each in measured.groups if each.failure),
        (
            f"CPU: {measured.cpu_s / measured.window_s:.0%} of the server's core,"
            f" {measured.load_cpu_s / measured.window_s:.0%} of that of generator and mock"
        ),
        (
            f"an event took {paced.delay.p50_ms:.2f} ms (p50), {paced.delay.p99_ms:.2f} (p99),"
            f" {paced.delay.max_ms:.0f} at most, from the mock to the client"
        ),
        (
            f"between two events of a stream: {paced.gap.p50_ms:.1f} ms (p50),"
            f" {paced.gap.p99_ms:.1f} (p99), {paced.gap.max_ms:.0f} at most"
        ),
    ]
    if len(measured.groups) > 1:
        calls = measured.groups[0]
        found.notes.append(
            f"plain calls: {calls.calls:,}, {calls.first.p50_ms:.2f} ms (p50),"
            f" {calls.first.p99_ms:.2f} (p99); {calls.late} begun late"
        )


def markdown(found: Endurance, facts: dict[str, str]) -> str:
    """The report."""
    names = list(dict.fromkeys(name for moment in found.memory.values() for name in moment))
    lines = [f"# {found.title[0].upper()}{found.title[1:]}", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items() if name != "rounds"]
    lines += [f"- {note}" for note in found.notes]
    lines += ["", "| resident memory, MB | " + " | ".join(names) + " |"]
    lines += ["| --- |" + " ---: |" * len(names)]
    for moment, held in found.memory.items():
        cells = [f"{held[name] / 1024:.1f}" if name in held else "" for name in names]
        lines.append(f"| {moment} | " + " | ".join(cells) + " |")
    grown = ", ".join(found.grown)
    verdict = f"{grown} grew, or was replaced" if grown else "nothing grew"
    return "\n".join([*lines, "", f"{verdict[0].upper()}{verdict[1:]}; {found.errors} errors."])

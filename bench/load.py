"""Runs the load generator (native/load.c) for one measurement, and reads CPU time at both ends.

The generator says when its window begins and ends; the CPU time of all processes is read then, so
that warm-up and the streams' ends are not in it.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from bench import proc

DRAIN_S = 60.0  # for the last answers


class BadAnswer(Exception):
    """A server under test answered otherwise than it should: its figures would mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Connections that send one request again and again; see native/load.c."""

    request: bytes
    connections: int
    events: int = 0  # content events of a stream; 0: plain answers
    last_word: str = ""  # of a stream
    rate: float = 0.0  # calls a second; 0: whenever a connection has its answer
    is_once: bool = False
    spread_s: float = 0.0  # first calls begin over so long
    is_after: bool = False  # when the window is over

    def words(self, file: Path) -> str:
        """As the generator is told."""
        return (
            f"file={file},conns={self.connections},events={self.events},last={self.last_word},"
            f"rate={self.rate:g},once={int(self.is_once)},spread_ms={self.spread_s * 1000:.0f},"
            f"after={int(self.is_after)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One measurement. What is counted is the first group."""

    port: int
    groups: tuple[Group, ...]
    warm_s: float
    measure_s: float
    after_s: float = 0.0  # for groups that begin then
    roots: tuple[int, ...] = ()  # processes whose trees are the server under test
    load_roots: tuple[int, ...] = ()  # what else works for the generator: the upstream
    memory_pid: int = 0
    may_fail: bool = False  # then errors are counted; else the first one raises BadAnswer


class Delays(msgspec.Struct, frozen=True):
    """Of what the generator timed."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Tally(msgspec.Struct, frozen=True):
    """What the connections of a group have got so far."""

    calls: int
    events: int
    errors: int
    failure: str  # the first error
    late: int  # calls of a rate for which no connection was idle
    reconnects: int
    first: Delays  # from a request to the first event, or to the first byte of a plain answer
    delay: Delays  # from an event's making by the mock to its arrival
    gap: Delays  # between two events of a stream


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `units` are calls, or content events of streams, within the window."""

    units: int
    cpu_s: float
    load_cpu_s: float  # of generator and mock together
    window_s: float
    all_calls: int  # those before and after the window included
    groups: list[Tally]
    ended_early: int = 0  # streams that were over before the window was: they began too slowly
    memory_before_kb: int = 0
    memory_kb: int = 0


class _Moment(msgspec.Struct, frozen=True, kw_only=True):
    at: str
    at_s: float
    groups: list[Tally]


def measure(plan: Plan, program: Path, core: int) -> Measured:
    """Make one measurement with the generator on a core. Raises BadAnswer."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farebox-load-")))
        command = [str(program), str(plan.port)]
        times = (plan.warm_s, plan.measure_s, plan.after_s, DRAIN_S)
        command += [f"{seconds * 1000:.0f}" for seconds in times]
        for i, group in enumerate(plan.groups):
            file = folder / str(i)
            file.write_bytes(group.request)
            command.append(group.words(file))
        before_kb = proc.rss_kb(plan.memory_pid) if plan.memory_pid else 0
        stack.enter_context(proc.pinned(core))  # this one too, so that it is in nobody's way
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 (made of our own words)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stderr is not None
        load_roots = (process.pid, *plan.load_roots)
        begin, cpu_s, load_cpu_s = _next(process, plan.roots, load_roots)
        end, end_cpu_s, end_load_cpu_s = _next(process, plan.roots, load_roots)
        after_kb = proc.rss_kb(plan.memory_pid) if plan.memory_pid else 0
        done, *_ = _next(process, (), ())
        _check(plan, done, process.stderr)
        counted = "events" if plan.groups[0].events else "calls"
        return Measured(
            units=getattr(end.groups[0], counted) - getattr(begin.groups[0], counted),
            cpu_s=end_cpu_s - cpu_s,
            load_cpu_s=end_load_cpu_s - load_cpu_s,
            window_s=end.at_s - begin.at_s,
            all_calls=sum(group.calls for group in done.groups),
            groups=done.groups,
            ended_early=end.groups[0].calls if plan.groups[0].is_once else 0,
            memory_before_kb=before_kb,
            memory_kb=after_kb,
        )


def _next(
    process: subprocess.Popen[str], roots: tuple[int, ...], load_roots: tuple[int, ...]
) -> tuple[_Moment, float, float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    cpu_s, load_cpu_s = proc.cpu_s(roots), proc.cpu_s(load_roots)
    if not line:
        assert process.stderr is not None
        raise BadAnswer(process.stderr.read() or "the generator ended without a word")
    return msgspec.json.decode(line, type=_Moment), cpu_s, load_cpu_s


def _check(plan: Plan, done: _Moment, errors: IO[str]) -> None:
    if plan.may_fail:
        return
    for group in done.groups:
        if group.errors:
            raise BadAnswer(f"{group.errors} answers were not as they should be: {group.failure}")
    if said := errors.read():
        raise BadAnswer(said)

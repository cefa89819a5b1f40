"""The load generator: a process that makes one measurement against one server and tells of it.

Run as `python -m bench.load`, with a Plan as JSON on standard input; a Measured goes to standard
output. CPU time is read at the beginning and the end of the measured window, warm-up excluded.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import uvloop

from bench import proc, wire
from bench.caller import BadAnswer, Caller, OnDone, Tally

_PATIENCE_S = 20.0  # for what a server should do within a moment
_LOOK_AGAIN_S = 0.02
_PROBES = 20  # connections that take turns
_PROBES_A_SECOND = 100


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. With `every_ms` the streams are paced, else calls follow each other."""

    port: int
    mock_port: int
    path: str
    model: str
    key: str
    connections: int
    warm_s: float
    measure_s: float
    body_bytes: int = 1024
    chunks: int = 0  # events of a stream; 0: plain calls
    every_ms: int = 0
    include_usage: bool = False
    dialect: str = "chat"  # of the calls
    probe_path: str = ""  # short streams beside the paced ones, for their first tokens
    probe_model: str = ""
    probe_s: float = 0.0
    roots: tuple[int, ...] = ()  # processes whose trees are the server under test
    load_roots: tuple[int, ...] = ()  # what else works for the generator: the mock
    memory_pid: int = 0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `units` are calls, or events of streams, within the window."""

    units: int
    cpu_s: float
    load_cpu_s: float  # of generator and mock together
    window_s: float
    all_calls: int  # those before and after the window included
    first_token_ms: list[float] = []
    memory_before_kb: int = 0
    memory_kb: int = 0


class _Moment(NamedTuple):
    calls: int
    events: int
    cpu_s: float
    load_cpu_s: float
    at_s: float


class _Load:
    """One measurement on its way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally()
        self.probed = Tally()
        self.loop = asyncio.get_running_loop()

    async def connect(self, on_done: OnDone | None = None) -> list[Caller]:
        """The connections of the measurement itself."""
        plan = self.plan
        body = wire.request_body(
            plan.model,
            plan.body_bytes,
            stream=bool(plan.chunks),
            include_usage=plan.include_usage,
            dialect=plan.dialect,
        )
        request = wire.request(plan.path, plan.key, body)
        last_word = wire.LAST_WORDS[plan.dialect] if plan.chunks else b""

        def make() -> Caller:
            return Caller(request, self.tally, on_done, last_word=last_word)

        return [await self._connect(plan.port, make) for _ in range(plan.connections)]

    async def connect_probes(self) -> list[Caller]:
        """Connections for short streams beside it."""
        plan = self.plan
        body = wire.request_body(plan.probe_model, 1024, stream=True, include_usage=False)
        request = wire.request(plan.probe_path, plan.key, body)

        def make() -> Caller:
            return Caller(request, self.probed, None, last_word=wire.LAST_WORDS["chat"])

        return [await self._connect(plan.port, make) for _ in range(_PROBES)]

    async def close_streams(self) -> None:
        """Have the mock end its paced streams."""
        request = wire.request(wire.CLOSING, "none", b"{}")
        caller = await self._connect(self.plan.mock_port, lambda: Caller(request, Tally(), None))
        caller.call()
        await self.until(lambda: not caller.is_waiting, "the mock's answer")
        await self.until(lambda: self.tally.calls == self.plan.connections, "every stream's end")

    async def _connect(self, port: int, make: Callable[[], Caller]) -> Caller:
        _, caller = await self.loop.create_connection(make, "127.0.0.1", port)
        return caller

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for it. Raises BadAnswer when it takes too long or something has failed."""
        end_s = self.loop.time() + _PATIENCE_S
        while not true():
            self.check()
            if self.loop.time() > end_s:
                raise BadAnswer(f"{what} did not come within {_PATIENCE_S:g} s")
            await asyncio.sleep(_LOOK_AGAIN_S)
        self.check()

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        failure = self.tally.failure or self.probed.failure
        if failure is not None:
            raise failure

    def now(self) -> _Moment:
        """The counts at this moment."""
        return _Moment(
            self.tally.calls,
            self.tally.events,
            proc.cpu_s(self.plan.roots),
            proc.cpu_s((os.getpid(), *self.plan.load_roots)),
            self.loop.time(),
        )


async def _follow(plan: Plan) -> Measured:
    """Calls that follow each other on every connection, as fast as the server goes."""
    load = _Load(plan)
    is_open = True

    def on_done(caller: Caller) -> None:
        if is_open and load.tally.failure is None:
            caller.call()

    callers = await load.connect(on_done)
    for caller in callers:
        caller.call()
    await asyncio.sleep(plan.warm_s)
    load.check()
    start = load.now()
    await asyncio.sleep(plan.measure_s)
    end = load.now()
    is_open = False
    await load.until(lambda: not any(caller.is_waiting for caller in callers), "the last calls")
    return Measured(
        units=(end.calls - start.calls) * max(1, plan.chunks),
        cpu_s=end.cpu_s - start.cpu_s,
        load_cpu_s=end.load_cpu_s - start.load_cpu_s,
        window_s=end.at_s - start.at_s,
        all_calls=load.tally.calls,
    )


async def _pace(plan: Plan) -> Measured:
    """Streams that are open side by side; first the CPU of their events, then first tokens."""
    load = _Load(plan)
    before_kb = proc.rss_kb(plan.memory_pid) if plan.memory_pid else 0
    callers = await load.connect()
    every_s = plan.every_ms / 1000
    for i, caller in enumerate(callers):
        load.loop.call_later(every_s * i / len(callers), caller.call)
    begun = load.tally.first_token_ms
    await load.until(lambda: len(begun) == len(callers), "every first event")
    await asyncio.sleep(plan.warm_s)
    load.check()
    start = load.now()
    await asyncio.sleep(plan.measure_s)
    end = load.now()
    after_kb = proc.rss_kb(plan.memory_pid) if plan.memory_pid else 0
    if plan.probe_s:
        await _probe(load)
    if load.tally.calls:
        raise BadAnswer("a stream ended before the measurement did")
    await load.close_streams()
    return Measured(
        units=end.events - start.events,
        cpu_s=end.cpu_s - start.cpu_s,
        load_cpu_s=end.load_cpu_s - start.load_cpu_s,
        window_s=end.at_s - start.at_s,
        all_calls=load.tally.calls + load.probed.calls,
        first_token_ms=load.probed.first_token_ms,
        memory_before_kb=before_kb,
        memory_kb=after_kb,
    )


async def _probe(load: _Load) -> None:
    """Short streams at a steady rate, whose first tokens are timed."""
    probes = await load.connect_probes()
    for probe in probes:  # the first call of a connection is another story
        probe.call()
        await load.until(lambda probe=probe: not probe.is_waiting, "a probe's end")
    load.probed.first_token_ms.clear()
    end_s = load.loop.time() + load.plan.probe_s
    turn = 0
    while (now_s := load.loop.time()) < end_s:
        load.check()
        if not probes[turn % _PROBES].is_waiting:
            probes[turn % _PROBES].call()
        turn += 1
        await asyncio.sleep(max(0.0, now_s + 1 / _PROBES_A_SECOND - load.loop.time()))
    await load.until(lambda: not any(probe.is_waiting for probe in probes), "the last probes")


def main() -> None:
    """One plan, one measurement."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    measure = _pace if plan.every_ms else _follow
    try:
        measured = uvloop.run(measure(plan))
    except (BadAnswer, OSError) as error:
        sys.exit(f"{plan.path} on port {plan.port}: {type(error).__name__}: {error}")
    sys.stdout.buffer.write(msgspec.json.encode(measured))


if __name__ == "__main__":
    main()

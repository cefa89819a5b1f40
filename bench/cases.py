"""What is measured: the cases, how the mock answers in each, and the plan for one server."""

from __future__ import annotations

from dataclasses import dataclass

from bench.load import Plan
from bench.servers import Mock, Target
from bench.wire import Script

WARM_S = 0.3
_ENDLESS = 1_000_000  # events of a paced stream: it is ended when its measurement is over
_MEMORY_EVERY_MS = 500
_PROBE = "probe"
_MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how much."""

    rounds: int = 3
    starts: int = 3
    seconds: float = 2.0  # a measured window
    streams: int = 200  # that are open side by side
    every_ms: int = 50  # between two events of one of them
    memory_streams: int = 400


@dataclass(frozen=True, slots=True)
class Case:
    """One figure of the table."""

    name: str  # also the model's, and the channel's
    title: str
    unit: str
    connections: int
    body_bytes: int = 1024
    chunks: int = 0
    every_ms: int = 0
    renamed: bool = True  # the upstream answers under another name than was asked for
    include_usage: bool = False
    dialect: str = "chat"  # that the gateway is asked in; it asks the mock in chat
    probe_s: float = 0.0  # then first tokens are timed too, also without any gateway

    @property
    def script(self) -> Script:
        """How the mock answers."""
        model = f"{self.name}-2026-11-01" if self.renamed else self.name
        return Script(model, self.chunks, self.every_ms)


def cases(options: Options) -> tuple[Case, ...]:
    """All that is measured in rounds."""
    paced = f"event of {options.streams} streams, one each {options.every_ms} ms"
    # A client that asks for usage gets the usage event too, so no event is changed or withheld.
    return (
        Case("plain-1k", "plain call, 1 KB body", "call", 64),
        Case("plain-50k", "plain call, 50 KB body", "call", 64, body_bytes=50_000),
        Case("plain-400k", "plain call, 400 KB body", "call", 32, body_bytes=400_000),
        Case(
            "burst-same",
            "event at full rate, same model name",
            "event",
            16,
            chunks=1000,
            renamed=False,
            include_usage=True,
        ),
        Case(
            "burst-renamed",
            "event at full rate, renamed model, no include_usage",
            "event",
            16,
            chunks=1000,
        ),
        *(
            Case(
                f"burst-{dialect}",
                f"event at full rate, translated: {title} over chat",
                "event",
                16,
                chunks=1000,
                dialect=dialect,
            )
            for dialect, title in (("responses", "Responses"), ("messages", "Messages"))
        ),
        Case(
            "paced-same",
            f"{paced}, same model name",
            "event",
            options.streams,
            chunks=_ENDLESS,
            every_ms=options.every_ms,
            renamed=False,
            include_usage=True,
        ),
        Case(
            "paced-renamed",
            f"{paced}, renamed model, no include_usage",
            "event",
            options.streams,
            chunks=_ENDLESS,
            every_ms=options.every_ms,
            probe_s=options.seconds,
        ),
    )


def memory_case(options: Options) -> Case:
    """Streams that are only held open."""
    return Case(
        _MEMORY,
        "memory",
        "event",
        options.memory_streams,
        chunks=_ENDLESS,
        every_ms=_MEMORY_EVERY_MS,
    )


def warming_case() -> Case:
    """What a fresh process is asked before its memory is read: calls on one connection."""
    return Case("warming", "warming", "call", 1)


_PROBE_SCRIPT = Script("probe-2026-11-01", 5)


def scripts(options: Options) -> dict[str, Script]:
    """How the mock answers, by the name of the model that a client asks for."""
    every = (*cases(options), memory_case(options), warming_case())
    return {_PROBE: _PROBE_SCRIPT, **{case.name: case.script for case in every}}


def plan(case: Case, target: Target, mock: Mock, seconds: float) -> Plan:
    """What the generator is told."""
    return Plan(
        port=target.port,
        mock_port=mock.port,
        path=target.path(case.script, case.dialect),
        model=case.name,
        key=target.key,
        connections=case.connections,
        warm_s=WARM_S,
        measure_s=seconds,
        body_bytes=case.body_bytes,
        chunks=case.chunks,
        every_ms=case.every_ms,
        include_usage=case.include_usage,
        dialect=target.dialect(case.dialect),
        probe_path=target.path(_PROBE_SCRIPT),
        probe_model=_PROBE,
        probe_s=case.probe_s,
        roots=target.roots,
        load_roots=(mock.pid,),
        memory_pid=target.worker,
    )

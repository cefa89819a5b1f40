"""What is measured: the cases, how the mock answers in each, and the plan for one server."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.load import Group, Plan
from bench.servers import Mock, Target
from bench.wire import LAST_WORDS, Script, request, request_body

_WARM_S = 0.3
_BEGUN_A_SECOND = 1000  # paced streams
_MARGIN_S = 2.0  # paced streams go on for a while after their measurement, so that all are open
_MEMORY_EVERY_MS = 200
_PROBES = 20  # connections that take turns
_PROBES_A_SECOND = 100
_PROBE = "probe"
_TRANSLATED = (("responses", "Responses"), ("messages", "Messages"))  # dialects and their names


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how much."""

    rounds: int = 3
    starts: int = 3
    seconds: float = 2.0  # a measured window
    streams: int = 1000  # that are open side by side
    every_ms: int = 100  # between two events of one of them
    memory_streams: int = 400
    settle_s: float = 6.0  # before memory is looked at: an idle lease is given back within 5 s
    patience: float = 4.0  # s a window may wait, or be made again, when the machine is not calm
    history: int = 1_000_000  # usage rows of the store that is compared with an empty one; 0: none


@dataclass(frozen=True, slots=True)
class Case:
    """One figure of the table. A name that ends in -tls has the upstream asked over https."""

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
    rate: float = 0.0  # calls a second; 0: each follows the one before
    probe_s: float = 0.0  # then first tokens are timed too
    with_direct: bool = False  # then delays are timed without any gateway as well

    @property
    def is_tls(self) -> bool:
        """Whether the upstream is asked over https."""
        return self.name.endswith("-tls")

    @property
    def script(self) -> Script:
        """How the mock answers."""
        model = f"{self.name}-2026-11-01" if self.renamed else self.name
        return Script(model, self.chunks, self.every_ms)


def cases(options: Options) -> tuple[Case, ...]:
    """All that is measured in rounds."""
    return (*_plain(), *_full_rate(), *_paced(options))


def _plain() -> tuple[Case, ...]:
    large = Case("plain-400k", "plain call, 400 KB body", "call", 32, body_bytes=400_000)
    # Translated, it is what coding agents send with every call, in the dialects that they speak.
    return (
        Case("plain-1k", "plain call, 1 KB body", "call", 64),
        Case("plain-50k", "plain call, 50 KB body", "call", 64, body_bytes=50_000),
        large,
        *_translated(large, large.name, f"{large.title},"),
        Case("plain-tls", "plain call, 1 KB body, https upstream", "call", 64),
        Case("steady", "plain call, 200 a second", "call", 32, rate=200.0, with_direct=True),
    )


def _full_rate() -> tuple[Case, ...]:
    title = "event at full rate,"
    base = Case(
        "burst-renamed", f"{title} renamed model, no include_usage", "event", 16, chunks=1000
    )
    # A client that asks for usage gets the usage event too, so no event is changed or withheld.
    same = replace(base, name="burst-same", title=f"{title} same model name")
    translated = _translated(base, "burst", title)
    return (replace(same, renamed=False, include_usage=True), base, *translated)


def _translated(base: Case, name: str, title: str) -> list[Case]:
    """The same, asked for in each of the dialects that are not the upstream's."""
    return [
        replace(
            base,
            name=f"{name}-{dialect}",
            title=f"{title} translated: {spoken} over chat",
            dialect=dialect,
        )
        for dialect, spoken in _TRANSLATED
    ]


def _paced(options: Options) -> tuple[Case, ...]:
    title = f"event of {options.streams:,} streams, one each {options.every_ms} ms"

    def chunks(probe_s: float) -> int:
        spread_s = options.streams / _BEGUN_A_SECOND
        life_s = spread_s + _WARM_S + options.seconds + probe_s + _MARGIN_S
        return int(life_s * 1000 / options.every_ms)

    same = Case(
        "paced-same",
        f"{title}, same model name",
        "event",
        options.streams,
        chunks=chunks(0),
        every_ms=options.every_ms,
        renamed=False,
        include_usage=True,
    )
    title += ", renamed model, no include_usage"
    renamed = replace(
        same, name="paced-renamed", title=title, renamed=True, include_usage=False, with_direct=True
    )
    renamed = replace(renamed, chunks=chunks(options.seconds), probe_s=options.seconds)
    tls = replace(renamed, name="paced-tls", title=f"{title}, https upstream", with_direct=False)
    return (same, renamed, tls)


def memory_case(options: Options) -> Case:
    """Streams that are only held open."""
    life_s = options.memory_streams / _BEGUN_A_SECOND + _WARM_S + _MARGIN_S + 0.5
    chunks = int(life_s * 1000 / _MEMORY_EVERY_MS)
    return Case(
        "memory",
        "memory",
        "event",
        options.memory_streams,
        chunks=chunks,
        every_ms=_MEMORY_EVERY_MS,
    )


def warming_case() -> Case:
    """What a fresh process is asked before its memory is read: calls on one connection."""
    return Case("warming", "warming", "call", 1)


def first_calls(options: Options, target: Target) -> Plan:
    """One call of each case. From the first stream of a channel that reports its usage a gateway
    knows that it need not keep the text of the next ones; it would do so once in a process's life,
    in a third of all windows.
    """
    once = [replace(case, connections=1, rate=0.0) for case in cases(options)]
    groups = tuple(
        replace(group(case, target), is_once=True, spread_s=0.0)
        for case in once
        if target.tls_port or not case.is_tls
    )
    return Plan(port=target.port, groups=groups, warm_s=0.0, measure_s=_WARM_S)


def peer_cases() -> tuple[Case, ...]:
    """What every gateway is asked. Some are so slow that long streams would take minutes."""
    return (
        Case("peer-plain", "plain call, 1 KB body", "call", 64),
        Case("peer-burst", "event at full rate, streams of 100", "event", 16, chunks=100),
    )


def all_scripts(options: Options) -> dict[str, Script]:
    """How the mock answers, by the name of the model that a client asks for."""
    every = (*cases(options), *peer_cases(), memory_case(options), warming_case())
    return {_PROBE: _PROBE_SCRIPT, **{case.name: case.script for case in every}}


_PROBE_SCRIPT = Script("probe-2026-11-01", 8)


def group(case: Case, target: Target) -> Group:
    """The connections of a case."""
    dialect = target.dialect(case.dialect)
    body = request_body(
        target.model or case.name,
        case.body_bytes,
        stream=bool(case.chunks),
        include_usage=case.include_usage,
        dialect=dialect,
    )
    script = case.script
    return Group(
        request=request(target.path(script, dialect), target.key, body, target.headers(script)),
        connections=case.connections,
        events=script.contents,
        last_word=LAST_WORDS[dialect] if case.chunks else "",
        rate=case.rate,
        is_once=bool(case.every_ms),
        spread_s=case.connections / _BEGUN_A_SECOND if case.every_ms else 0.0,
    )


def _probes(target: Target) -> Group:
    """Short streams beside the paced ones, at a steady rate."""
    body = request_body(_PROBE, 1024, stream=True, include_usage=False)
    path, headers = target.path(_PROBE_SCRIPT), target.headers(_PROBE_SCRIPT)
    return Group(
        request=request(path, target.key, body, headers),
        connections=_PROBES,
        events=_PROBE_SCRIPT.contents,
        last_word=LAST_WORDS["chat"],
        rate=_PROBES_A_SECOND,
        is_after=True,
    )


def plan(case: Case, target: Target, mock: Mock, seconds: float, front: int = 0) -> Plan:
    """What the generator is told. `front` is the process of the mock's https side."""
    return Plan(
        port=target.tls_port if case.is_tls else target.port,
        groups=(group(case, target), *((_probes(target),) if case.probe_s else ())),
        warm_s=_WARM_S,
        measure_s=seconds,
        after_s=case.probe_s,
        roots=target.roots,
        load_roots=(mock.pid, front) if front else (mock.pid,),
        memory_pid=target.worker,
    )

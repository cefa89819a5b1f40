"""The figures of a run, as they are kept in JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.calm import Tally
from bench.cases import Case
from bench.load import Measured


@dataclass(frozen=True, slots=True)
class Start:
    """A fresh process."""

    ready_s: float
    cpu_s: float  # until then, of all its processes
    idle_kb: int  # of the process that works
    all_idle_kb: int  # of all its processes; what they share is counted in each
    stream_kb: float  # what a stream that is open adds


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement, in the units of the table."""

    cpu_us: float  # a unit
    busy: float  # share of its core that the server used
    load_busy: float  # the same of generator and mock
    units_a_second: float
    first_p50_ms: float  # to the first event, or the first byte of a plain answer
    first_p99_ms: float
    delay_p50_ms: float  # of an event, from the mock to the client
    delay_p99_ms: float
    gap_p99_ms: float  # between two events of a stream
    ended_early: int  # streams that were over before the window was
    late: int  # calls that a rate asked for and no connection was free for


@dataclass(slots=True)
class Row:
    """One case: samples by server, in the order of rounds."""

    title: str
    unit: str
    samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])


@dataclass(slots=True)
class Results:
    """All of a run. Rows are named after their cases; a comparison with one more server, which was
    running for it alone, is `CASE beside SERVER`.
    """

    facts: dict[str, str]
    starts: dict[str, list[Start]] = field(default_factory=dict[str, list[Start]])
    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    left_out: list[str] = field(default_factory=list[str])
    calls_charged: int = 0
    calm: Tally = field(default_factory=Tally)

    def add(self, name: str, case: Case, server: str, measured: Measured) -> None:
        """Note one measurement."""
        row = self.rows.setdefault(name, Row(case.title, case.unit))
        row.samples.setdefault(server, []).append(_sample(measured))

    def ratios(self, row: str, server: str, other: str) -> list[float]:
        """CPU time of a server over another's, round by round; empty if there is none."""
        samples = self.rows[row].samples if row in self.rows else {}
        pairs = zip(samples.get(server, []), samples.get(other, []), strict=False)
        return [ours.cpu_us / theirs.cpu_us for ours, theirs in pairs if theirs.cpu_us]


def _sample(measured: Measured) -> Sample:
    counted, timed = measured.groups[0], measured.groups[-1]
    return Sample(
        cpu_us=measured.cpu_s / max(1, measured.units) * 1e6,
        busy=measured.cpu_s / measured.window_s,
        load_busy=measured.load_cpu_s / measured.window_s,
        units_a_second=measured.units / measured.window_s,
        first_p50_ms=timed.first.p50_ms,
        first_p99_ms=timed.first.p99_ms,
        delay_p50_ms=counted.delay.p50_ms,
        delay_p99_ms=counted.delay.p99_ms,
        gap_p99_ms=counted.gap.p99_ms,
        ended_early=measured.ended_early,
        late=counted.late,
    )

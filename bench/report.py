"""The figures of a run: medians over rounds and ratios within rounds, as a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.cases import Case
from bench.load import Measured

_BUSY = 0.9  # of a core; below it, the server waited for the generator

# What is aimed at with everything on, as multiples of nginx in the same run.
GOALS = {
    "plain-1k": "≤ 5 ×",
    "plain-400k": "≤ 4.5 ×",
    "burst-renamed": "≤ 4 ×",
    "burst-responses": "≤ 12 ×",
    "paced-renamed": "≤ 1.7 ×",
}


@dataclass(frozen=True, slots=True)
class Start:
    """A fresh process."""

    ready_s: float
    cpu_s: float  # until then, of all its processes
    idle_kb: int
    stream_kb: float  # what a stream that is open adds


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement, in the units of the table."""

    cpu_us: float  # a unit
    busy: float  # share of its core that the server used
    load_busy: float  # the same of generator and mock
    units_a_second: float
    first_token_p50_ms: float | None = None
    first_token_p99_ms: float | None = None


@dataclass(slots=True)
class Row:
    """One case: samples by server, in the order of rounds."""

    title: str
    unit: str
    samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])


@dataclass(slots=True)
class Results:
    """All of a run."""

    facts: dict[str, str]
    starts: dict[str, list[Start]] = field(default_factory=dict[str, list[Start]])
    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    calls_charged: int = 0

    def add(self, case: Case, server: str, measured: Measured) -> None:
        """Note one measurement."""
        row = self.rows.setdefault(case.name, Row(case.title, case.unit))
        row.samples.setdefault(server, []).append(_sample(measured))


def _sample(measured: Measured) -> Sample:
    firsts = sorted(measured.first_token_ms) if len(measured.first_token_ms) > 1 else []
    return Sample(
        cpu_us=measured.cpu_s / max(1, measured.units) * 1e6,
        busy=measured.cpu_s / measured.window_s,
        load_busy=measured.load_cpu_s / measured.window_s,
        units_a_second=measured.units / measured.window_s,
        first_token_p50_ms=_percentile(firsts, 0.5),
        first_token_p99_ms=_percentile(firsts, 0.99),
    )


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def markdown(results: Results) -> str:
    """The whole report."""
    has_nginx = "nginx" in results.starts
    lines = ["# Results of one run", ""]
    lines += [f"- {name}: {value}" for name, value in results.facts.items()]
    lines += [
        f"- books: every one of the {results.calls_charged} calls that were answered is in them",
        "",
        "Everything is on: key check, hold, price, settlement, receipt, metrics, a log line a call",
        "to a file. A call is committed twice, with its hold and with its charge, by a thread of",
        "the worker, and goes through uvicorn's ASGI server; both are to be replaced, so these",
        "figures are above the goals. nginx only passes calls on; it neither logs nor checks keys.",
        "",
        "CPU time is user and system time of all processes of the server, medians over rounds;",
        "ratios are taken within a round. In brackets: the smallest and the largest. The first",
        "start, which makes the store, is left out.",
        "",
    ]
    if not has_nginx:
        lines += ["nginx is not on the PATH, so it is left out, and so are the ratios.", ""]
    lines += _cpu_table(results, has_nginx=has_nginx)
    lines += ["", *_waiting_table(results, has_nginx=has_nginx)]
    lines += ["", *_notes(results)]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    divider = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, divider, *rows)]


def _cpu_table(results: Results, *, has_nginx: bool) -> list[str]:
    rows: list[list[str]] = []
    for name, row in results.rows.items():
        ours = row.samples["farebox"]
        cells = [row.title]
        if has_nginx:
            theirs = row.samples["nginx"]
            ratios = [a.cpu_us / b.cpu_us for a, b in zip(ours, theirs, strict=True)]
            cells += [_spread([s.cpu_us for s in theirs])]
            cells += [_spread([s.cpu_us for s in ours]), _spread(ratios), GOALS.get(name, "")]
        else:
            cells += [_spread([s.cpu_us for s in ours])]
        rates = [median(s.units_a_second for s in ours)]
        rows.append([*cells, f"{rates[0]:,.0f}"])
    nginx = ["nginx, µs"] if has_nginx else []
    ratio = ["× nginx", "goal"] if has_nginx else []
    return _table(["CPU time of one …", *nginx, "Farebox, µs", *ratio, "Farebox, a second"], rows)


def _waiting_table(results: Results, *, has_nginx: bool) -> list[str]:
    servers = ["nginx", "farebox"] if has_nginx else ["farebox"]
    rows: list[list[str]] = []
    for row in results.rows.values():
        direct = row.samples.get("direct")
        if direct is None:
            continue
        for label, goal, read in _FIRST_TOKENS:
            pairs = [zip(row.samples[server], direct, strict=True) for server in servers]
            added = [_spread([read(ours) - read(base) for ours, base in pair]) for pair in pairs]
            base = median(read(d) for d in direct)
            title = (
                f"first token {label}, paced streams open, ms more than {base:.2f} without gateway"
            )
            rows.append([title, *added, goal])
    figures: tuple[tuple[str, str, Callable[[Start], float]], ...] = (
        ("memory a stream that is open, KB", "≤ 30", lambda start: start.stream_kb),
        ("memory of the idle worker, MB", "≤ 90", lambda start: start.idle_kb / 1024),
        ("start to ready, s", "≤ 1.5", lambda start: start.ready_s),
        ("CPU time of a start, s", "", lambda start: start.cpu_s),
    )
    for title, goal, of in figures:
        starts = [results.starts[server][1:] or results.starts[server] for server in servers]
        rows.append([title, *(_spread([of(start) for start in each]) for each in starts), goal])
    return _table(["", *(["nginx"] if has_nginx else []), "Farebox", "goal"], rows)


_FIRST_TOKENS: tuple[tuple[str, str, Callable[[Sample], float]], ...] = (
    ("p50", "≤ 1", lambda sample: sample.first_token_p50_ms or 0.0),
    ("p99", "≤ 8", lambda sample: sample.first_token_p99_ms or 0.0),
)


def _spread(values: Sequence[float]) -> str:
    low, middle, high = (_short(value) for value in (min(values), median(values), max(values)))
    return f"{middle} ({low}–{high})" if len(values) > 1 else middle


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _notes(results: Results) -> list[str]:
    """Where the generator, and not the server, was the limit."""
    waited = [
        f"{name} of {server}: {median(s.busy for s in samples):.0%} of its core was used, "
        f"{median(s.load_busy for s in samples):.0%} of that of generator and mock"
        for name, row in results.rows.items()
        for server, samples in row.samples.items()
        if server != "direct" and not name.startswith("paced")
        if median(s.busy for s in samples) < _BUSY
    ]
    if not waited:
        return ["The server's core was the limit in every case at full rate."]
    return [
        "At full rate the server did not fill its core, but waited for the generator, the disk or",
        "other programs of this machine, in:",
        "",
        *[f"- {case}" for case in waited],
    ]

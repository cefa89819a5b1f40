"""The report of a run in Markdown: goals first, then medians over rounds and ratios within them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from bench.calm import SLOW, Tally
from bench.goals import Standing, standings
from bench.results import Results, Sample, Start

_BUSY = 0.9  # of a core; below it, the server waited for the generator

_INTRODUCTION = """\
Everything is on: key check, hold, price, durable settlement, limits, receipt, metrics, a log line a
call to a file. nginx only passes calls on; it neither logs nor checks keys. Mock upstream and load
generator are small C programs (`bench/native`); every event of every stream is numbered by the mock
and checked by the generator, and a run in which one is lost, doubled or out of order fails.

CPU time is user and system time of all processes of the server, medians over rounds; ratios are
taken within a round. In brackets: the smallest and the largest. The first start, which makes the
store, is left out."""


def markdown(results: Results) -> str:
    """The whole report."""
    lines = ["# Results of one run", ""]
    lines += [f"- {name}: {value}" for name, value in results.facts.items()]
    lines += [
        f"- books: every one of the {results.calls_charged:,} calls that were answered is in them",
        f"- calm: {_calm(results.calm)}",
        *(f"- left out: {' '.join(what.split())}" for what in results.left_out),
        "",
        _INTRODUCTION,
        "",
        "## Goals",
        "",
        *_goals(standings(results)),
        "",
        "## CPU time",
        "",
        *_cpu_table(results),
        "",
        *_comparisons(results),
        "## Delays",
        "",
        *_delay_table(results),
        "",
        "## Memory and start",
        "",
        *_start_table(results),
        "",
        "## What was the limit",
        "",
        *_notes(results),
    ]
    return "\n".join(lines)


def _calm(tally: Tally) -> str:
    return (
        f"{tally.windows} windows, {tally.again} of them made again because other programs took "
        f"from the server's core (the same work took over {SLOW:g} times its least time); "
        f"{tally.disturbed} samples had no calm window"
    )


def _goals(all_standings: Sequence[Standing]) -> list[str]:
    rows = [
        [
            f"{each.goal.title}, {each.goal.unit}",
            "" if each.measured is None else _short(each.measured),
            f"≤ {_short(each.goal.solid)}",
            each.solid,
            f"≤ {_short(each.goal.moonshot)}",
            each.moonshot,
        ]
        for each in all_standings
    ]
    return _table(["", "measured", "solid", "", "moonshot", ""], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    divider = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, divider, *rows)]


def _cpu_table(results: Results) -> list[str]:
    rows: list[list[str]] = []
    for name, row in results.rows.items():
        if " beside " in name:
            continue
        ours, theirs = row.samples["farebox"], row.samples.get("nginx", [])
        ratios = results.ratios(name, "farebox", "nginx")
        rate = median(sample.units_a_second for sample in ours)
        cells = [_spread([s.cpu_us for s in theirs]), _spread([s.cpu_us for s in ours])]
        rows.append([row.title, *cells, _spread(ratios), f"{rate:,.0f}"])
    head = ["CPU time of one …", "nginx, µs", "Farebox, µs", "× nginx", "Farebox, a second"]
    return _table(head, rows)


def _comparisons(results: Results) -> list[str]:
    """Rows that were measured beside one more server, with its own interleaved rounds."""
    rows: list[list[str]] = []
    for name, row in results.rows.items():
        _, is_one, other = name.partition(" beside ")
        if not is_one or other not in row.samples:
            continue
        cells = [
            _spread([sample.cpu_us for sample in row.samples.get(server, [])])
            for server in ("nginx", "farebox", other)
        ]
        ratios = results.ratios(name, "farebox", other)
        rate = median(sample.units_a_second for sample in row.samples[other])
        ratio = median(ratios) if ratios else 0
        rows.append(
            [f"{row.title}: {other}", *cells, f"{ratio:.3g}" if ratio else "", f"{rate:,.0f}"]
        )
    if not rows:
        return []
    head = ["CPU time of one …: the other", "nginx, µs", "Farebox, µs", "the other, µs"]
    head += ["Farebox × the other", "the other, a second"]
    return [*_table(head, rows), ""]


_DELAYS: tuple[tuple[str, Callable[[Sample], float]], ...] = (
    ("first byte or event, p50", lambda sample: sample.first_p50_ms),
    ("first byte or event, p99", lambda sample: sample.first_p99_ms),
    ("an event's way, p50", lambda sample: sample.delay_p50_ms),
    ("an event's way, p99", lambda sample: sample.delay_p99_ms),
    ("between two events, p99", lambda sample: sample.gap_p99_ms),
)


def _delay_table(results: Results) -> list[str]:
    rows: list[list[str]] = []
    for row in results.rows.values():
        direct = row.samples.get("direct")
        if direct is None:
            continue
        for label, read in _DELAYS:
            base = median(read(sample) for sample in direct)
            if not base:
                continue
            added = [
                _added(row.samples[server], direct, read)
                for server in ("nginx", "farebox")
                if server in row.samples
            ]
            rows.append([f"{row.title}: {label}", f"{base:.2f}", *[""] * (2 - len(added)), *added])
    head = ["ms", "without gateway", "nginx adds", "Farebox adds"]
    return _table(head, rows)


def _added(
    samples: Sequence[Sample], direct: Sequence[Sample], read: Callable[[Sample], float]
) -> str:
    pairs = zip(samples, direct, strict=True)
    added = [read(ours) - read(base) for ours, base in pairs if read(ours)]
    return _spread(added) if added else "none was timed"


def _start_table(results: Results) -> list[str]:
    figures: tuple[tuple[str, Callable[[Start], float]], ...] = (
        ("memory a stream that is open, KB", lambda start: start.stream_kb),
        ("memory of the idle process that works, MB", lambda start: start.idle_kb / 1024),
        ("memory of all idle processes, MB", lambda start: start.all_idle_kb / 1024),
        ("start to ready, s", lambda start: start.ready_s),
        ("CPU time of a start, s", lambda start: start.cpu_s),
    )
    rows: list[list[str]] = []
    for title, of in figures:
        starts = [each[1:] or each for each in results.starts.values()]
        values = [[of(start) for start in each] for each in starts]
        rows.append([title, *(_spread(each) if any(each) else "" for each in values)])
    return _table(["", *results.starts], rows)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, middle, high = (_short(value) for value in (min(values), median(values), max(values)))
    return f"{middle} ({low}–{high})" if len(values) > 1 else middle


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _notes(results: Results) -> list[str]:
    """Where the generator, and not the server, was the limit."""
    waited = [
        f"{name} of {server}: {median(s.busy for s in samples):.0%} of its core was used, "
        f"{median(s.load_busy for s in samples):.0%} of that of generator and mock"
        for name, row in results.rows.items()
        for server, samples in row.samples.items()
        if server != "direct" and not name.startswith(("paced", "steady"))
        if median(s.busy for s in samples) < _BUSY
    ]
    busiest = max(
        (median(s.load_busy for s in samples), name, server)
        for name, row in results.rows.items()
        for server, samples in row.samples.items()
    )
    said = f"Generator and mock used {busiest[0]:.0%} of their core at most: {busiest[1]}, "
    said += f"{busiest[2]}."
    late = sum(
        s.late for row in results.rows.values() for each in row.samples.values() for s in each
    )
    if late:
        said += f" {late} calls that a rate asked for found no connection free."
    early = sum(
        s.ended_early
        for row in results.rows.values()
        for each in row.samples.values()
        for s in each
    )
    if early:
        said += (
            f" {early} paced streams were over before their window was: not all were open at once."
        )
    if not waited:
        return [said, "", "The server's core was the limit in every case at full rate."]
    return [
        said,
        "",
        "At full rate the server did not fill its core, but waited for the generator, the disk or",
        "other programs of this machine, in:",
        "",
        *[f"- {case}" for case in waited],
    ]

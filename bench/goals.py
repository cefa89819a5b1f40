"""What is aimed at, and how far a run is from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from bench.results import Results, Sample, Start


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that should be at most so much. `read` gives it for each round."""

    title: str
    unit: str
    solid: float
    moonshot: float
    read: Callable[[Results], list[float]]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands with a goal; `measured` is None where it was left out."""

    goal: Goal
    measured: float | None

    @property
    def solid(self) -> str:
        """Whether the solid goal is met."""
        if self.measured is None:
            return "not measured"
        if self.measured <= self.goal.solid:
            return "met"
        return f"missed: {self.measured / self.goal.solid:.2f} of it"

    @property
    def moonshot(self) -> str:
        """How far the moonshot is: what is measured over it."""
        if self.measured is None:
            return "not measured"
        if self.measured <= self.goal.moonshot:
            return "reached"
        return f"{self.measured / self.goal.moonshot:.2f} × of it"


def standings(results: Results) -> list[Standing]:
    """All goals, each with the median over rounds."""
    read = [(goal, goal.read(results)) for goal in GOALS]
    return [Standing(goal, median(values) if values else None) for goal, values in read]


def _ratio(row: str, server: str, other: str) -> Callable[[Results], list[float]]:
    return lambda results: results.ratios(row, server, other)


def _beside_nginx(row: str) -> Callable[[Results], list[float]]:
    return _ratio(row, "farebox", "nginx")


def _added(row: str, of: Callable[[Sample], float]) -> Callable[[Results], list[float]]:
    """More than without any gateway, in the same round."""

    def read(results: Results) -> list[float]:
        samples = results.rows[row].samples if row in results.rows else {}
        pairs = zip(samples.get("farebox", []), samples.get("direct", []), strict=False)
        # 0: nothing of that kind was timed within the window.
        return [of(ours) - of(direct) for ours, direct in pairs if of(ours)]

    return read


def _start(of: Callable[[Start], float]) -> Callable[[Results], list[float]]:
    def read(results: Results) -> list[float]:
        starts = results.starts.get("farebox", [])
        return [of(start) for start in starts[1:] or starts]

    return read


GOALS = (
    Goal("CPU of a plain call, 1 KB", "× nginx", 5, 3, _beside_nginx("plain-1k")),
    Goal(
        "the same",
        "× ferrogw",
        1 / 3,
        1 / 5,
        _ratio("peer-plain beside ferrogw", "farebox", "ferrogw"),
    ),
    Goal(
        "the same",
        "× LiteLLM",
        1 / 100,
        1 / 250,
        _ratio("peer-plain beside litellm", "farebox", "litellm"),
    ),
    Goal("CPU of a plain call, 400 KB", "× nginx", 4.5, 3, _beside_nginx("plain-400k")),
    Goal("CPU of a paced event", "× nginx", 1.7, 1.3, _beside_nginx("paced-renamed")),
    Goal("CPU of an event at full rate", "× nginx", 4, 2, _beside_nginx("burst-renamed")),
    Goal(
        "CPU of a translated event (Responses)", "× nginx", 12, 6, _beside_nginx("burst-responses")
    ),
    Goal("https upstream: CPU of a plain call", "× nginx", 3.5, 2, _beside_nginx("plain-tls")),
    Goal("https upstream: CPU of a paced event", "× nginx", 2, 1.4, _beside_nginx("paced-tls")),
    Goal(
        "first token added, p50, paced streams open",
        "ms",
        1,
        0.5,
        _added("paced-renamed", lambda sample: sample.first_p50_ms),
    ),
    Goal(
        "first token added, p99, paced streams open",
        "ms",
        8,
        4,
        _added("paced-renamed", lambda sample: sample.first_p99_ms),
    ),
    Goal("memory a stream that is open", "KB", 30, 20, _start(lambda start: start.stream_kb)),
    Goal("memory of an idle worker", "MB", 90, 60, _start(lambda start: start.idle_kb / 1024)),
    Goal(
        "CPU of a plain call with two workers",
        "× one worker",
        1.15,
        1.05,
        _ratio("plain-1k beside farebox-two-workers", "farebox-two-workers", "farebox"),
    ),
    Goal(
        "CPU of a plain call with many usage rows",
        "× empty store",
        1.2,
        1.05,
        _ratio("plain-1k beside farebox-history", "farebox-history", "farebox"),
    ),
    Goal("start to ready", "s", 1.5, 0.7, _start(lambda start: start.ready_s)),
)

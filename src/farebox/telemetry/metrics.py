"""The figures that /metrics shows: one object that is told what happened, and names no user.

With PROMETHEUS_MULTIPROC_DIR set (before this module is imported), all processes that share the
folder are shown as one.

A series there is a place in a file, and to write to a dozen of them took a twentieth of a plain
call. So what happened is noted, and counted a few times a second; whoever is killed takes the notes
of that time along.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from bisect import bisect_right
from collections import Counter as Tally
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TypeVar

from msgspec.structs import astuple
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from farebox.core.call import Attempt
from farebox.core.ports import Settled, Settlement
from farebox.core.usage import CLASSES, Usage
from farebox.telemetry.former import reading
from farebox.telemetry.record import get_record

# Each series would get a second one that says when it was made, which nobody asks for.
disable_created_metrics()

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_FILES = ("counter", "gauge_livesum", "histogram")  # of a process, as prometheus_client names them
_FILE_BYTES = 64 * 1024  # as large as it makes them: some 500 series
_DURATION_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)
_TTFT_BUCKETS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 600)
_GATHER_S = 0.1  # that /metrics of another process lags behind
_T = TypeVar("_T")
_Kind = tuple[str, str, tuple[str, ...]]  # of a call: its dialect, its outcome, its flags
# What is noted of one: its attempts, its usage, the milliseconds to its first event, and what was
# charged and absorbed. A thousand may be noted before they are counted; their settlements would
# take twice as much memory, and a core's cache is not large.
_Note = tuple[tuple[Attempt, ...], Usage, int | None, int, int]


class _Histogram(Histogram):
    """A histogram that takes many values at once."""

    def observe_all(self, values: Sequence[float]) -> None:
        """As `observe` for each of them."""
        ordered, counted = sorted(values), 0
        for position, bound in enumerate(self._upper_bounds):
            if count := bisect_right(ordered, bound) - counted:
                self._buckets[position].inc(count)  # pyright: ignore[reportUnknownMemberType] (untyped)
                counted += count
        self._sum.inc(sum(values))  # pyright: ignore[reportUnknownMemberType] (untyped)


class Metrics:
    """Counts and times. Telling it of something costs a microsecond and raises nothing."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        if MULTIPROCESS in os.environ:
            reserve_files(Path(os.environ[MULTIPROCESS]))
            atexit.register(self._count)
        self._serving = 0  # requests
        # How long those took whose answers have been told, by route and status.
        self._answered = defaultdict[tuple[str, int | None], deque[float]](deque)
        self._settled = defaultdict[_Kind, deque[_Note]](deque)
        self._timer: asyncio.TimerHandle | None = None
        self._add_requests(self.registry)
        self._add_calls(self.registry)
        self._add_money(self.registry)
        # A labelled series is found through a lock and a check of its names; here by one look-up.
        self._requests_of = cache(self._requests.labels)
        self._calls_of = cache(self._calls.labels)
        self._attempts_of = cache(self._attempts.labels)
        self._duration_of = cache(self._duration.labels)
        self._tokens_of = [self._tokens.labels(name) for name in CLASSES]
        if MULTIPROCESS not in os.environ:
            ProcessCollector(registry=self.registry)

    def _add_requests(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "farebox_requests_total",
            "HTTP requests answered, by route and class of status ('gone': the client left first).",
            ["route", "status"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "farebox_requests_in_flight",
            "HTTP requests being served.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._duration = _Histogram(
            "farebox_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ["route"],
            buckets=_DURATION_BUCKETS_S,
            registry=registry,
        )

    def _add_calls(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "farebox_calls_total",
            "Calls settled, by dialect and outcome.",
            ["dialect", "outcome"],
            registry=registry,
        )
        self._attempts = Counter(
            "farebox_upstream_attempts_total",
            "Attempts at upstreams, by channel and result: a status, or what went wrong.",
            ["channel", "result"],
            registry=registry,
        )
        self._hangups = Counter(
            "farebox_client_hangups_total",
            "Clients that hung up before their answer was complete.",
            registry=registry,
        )
        self._ttft = _Histogram(
            "farebox_ttft_seconds",
            "From a call's admission to the first event of its answer.",
            buckets=_TTFT_BUCKETS_S,
            registry=registry,
        )

    def _add_money(self, registry: CollectorRegistry) -> None:
        self._tokens = Counter(
            "farebox_tokens_total",
            "Tokens of settled calls, by class.",
            ["class"],
            registry=registry,
        )
        self._charged = Counter(
            "farebox_charge_nanocredits_total",
            "What accounts were charged, in nano-credits.",
            registry=registry,
        )
        self._absorbed = Counter(
            "farebox_absorbed_nanocredits_total",
            "What calls cost beyond what their accounts had, in nano-credits.",
            registry=registry,
        )
        self._estimated = Counter(
            "farebox_estimated_calls_total",
            "Calls whose usage was estimated, for the upstream reported none.",
            registry=registry,
        )
        self._holds_refused = Counter(
            "farebox_holds_refused_total",
            "Calls refused for want of credit.",
            registry=registry,
        )

    def request_started(self) -> None:
        """A request's head has arrived."""
        self._serving += 1
        if self._timer is None:
            self._count_soon()

    def request_finished(self, route: str, status: int | None, duration_s: float) -> None:
        """A request is over; `route` is a pattern, never what a client wrote. None: no answer."""
        self._serving -= 1
        self._answered[route, status].append(duration_s)
        if self._timer is None:
            self._count_soon()

    def call_finished(self, settlement: Settlement, settled: Settled) -> None:
        """A call is settled. To be told in the task that serves it, or in one that it started."""
        note = (
            settlement.attempts,
            settlement.usage,
            settlement.ttft_ms,
            settled.charge_nanocredits,
            settled.absorbed_nanocredits,
        )
        self._settled[settlement.dialect, settlement.outcome, settlement.flags].append(note)
        if self._timer is None:
            self._count_soon()
        record = get_record()
        if record is not None:
            record.call = settlement, settled

    def finish(self) -> None:
        """Count what was noted last: the process is about to end."""
        if self._timer is not None:
            self._timer.cancel()
        self._count()

    def _count_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._count()  # nobody would do it later
        else:
            self._timer = loop.call_later(_GATHER_S, self._count)

    def _count(self) -> None:
        """Count what was noted since the last time. For any thread."""
        self._timer = None
        self._in_flight.set(self._serving)
        for (route, status), noted in [*self._answered.items()]:
            if durations_s := _taken(noted):
                result = f"{status // 100}xx" if status else "gone"
                self._requests_of(route, result).inc(len(durations_s))
                self._duration_of(route).observe_all(durations_s)
        for kind, noted in [*self._settled.items()]:
            if notes := _taken(noted):
                self._count_calls(kind, notes)

    def _count_calls(self, kind: _Kind, notes: Sequence[_Note]) -> None:
        dialect, outcome, flags = kind
        attempts, usages, ttfts_ms, charges, absorbed = zip(*notes, strict=True)
        count = len(notes)
        self._calls_of(dialect, outcome).inc(count)
        if outcome == "client_gone":
            self._hangups.inc(count)
        if "estimated" in flags:
            self._estimated.inc(count)
        # Thousands come at once.
        if outcome == "refused":
            self._holds_refused.inc(attempts.count(()))
        made = chain.from_iterable(attempts)
        results = Tally([(each.channel, each.error, each.status) for each in made])
        for (channel, error, status), tries in results.items():
            self._attempts_of(channel, str(error or status or "none")).inc(tries)
        tokens = [astuple(usage) for usage in usages]
        for series, counts in zip(self._tokens_of, zip(*tokens, strict=True), strict=True):
            series.inc(sum(counts))
        self._ttft.observe_all([ttft_ms / 1000 for ttft_ms in ttfts_ms if ttft_ms is not None])
        self._charged.inc(sum(charges))
        self._absorbed.inc(sum(absorbed))

    def exposition(self) -> bytes:
        """All series in Prometheus' text format. May read files: use a thread."""
        self._count()
        if MULTIPROCESS not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        with reading(Path(os.environ[MULTIPROCESS])):
            return generate_latest(registry)


def reserve_files(folder: Path) -> None:
    """Give the files of this process their room on the disk. Raises OSError.

    They are mapped into memory, and the system ends a process that writes to a page for which a
    full disk has no room.
    """
    for kind in _FILES:
        with (folder / f"{kind}_{os.getpid()}.db").open("ab") as file:
            file.write(bytes(max(0, _FILE_BYTES - file.tell())))


def _taken(notes: deque[_T]) -> list[_T]:
    """All notes, each to one thread alone."""
    taken: list[_T] = []
    with suppress(IndexError):  # which ends it, and what was taken before stays
        taken.extend(iter(notes.popleft, None))
    return taken

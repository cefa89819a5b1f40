"""The figures that /metrics shows: one object that is told what happened, and names no user.

With PROMETHEUS_MULTIPROC_DIR set (before this module is imported), all processes that share the
folder are shown as one.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

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

from farebox.core.ports import Settled, Settlement
from farebox.core.usage import CLASSES
from farebox.telemetry.record import current_record

# Each series would get a second one that says when it was made, which nobody asks for.
disable_created_metrics()

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_FILES = ("counter", "gauge_livesum", "histogram")  # of a process, as prometheus_client names them
_FILE_BYTES = 64 * 1024  # as large as it makes them: some 500 series
_DURATION_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)
_TTFT_BUCKETS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 600)


class Metrics:
    """Counts and times. Each method costs some microseconds and raises nothing."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        if MULTIPROCESS in os.environ:
            reserve_files(Path(os.environ[MULTIPROCESS]))
        self._add_requests(self.registry)
        self._add_calls(self.registry)
        self._add_money(self.registry)
        # A labelled series is found through a lock and a check of its names; here by one look-up.
        self._requests_of = cache(self._requests.labels)
        self._calls_of = cache(self._calls.labels)
        self._attempts_of = cache(self._attempts.labels)
        self._duration_of = cache(self._duration.labels)
        self._tokens_of = [(name, self._tokens.labels(name)) for name in CLASSES]
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
        self._duration = Histogram(
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
        self._ttft = Histogram(
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
        self._in_flight.inc()

    def request_finished(self, route: str, status: int | None, duration_s: float) -> None:
        """A request is over; `route` is a pattern, never what a client wrote. None: no answer."""
        self._in_flight.dec()
        self._requests_of(route, f"{status // 100}xx" if status else "gone").inc()
        self._duration_of(route).observe(duration_s)

    def call_finished(self, settlement: Settlement, settled: Settled) -> None:
        """A call is settled. To be told in the task that serves it, or in one that it started."""
        self._calls_of(settlement.dialect, settlement.outcome).inc()
        for name, series in self._tokens_of:
            count = getattr(settlement.usage, name)
            if count:
                series.inc(count)
        for attempt in settlement.attempts:
            result = attempt.error or str(attempt.status or "none")
            self._attempts_of(attempt.channel, result).inc()
        if settlement.ttft_ms is not None:
            self._ttft.observe(settlement.ttft_ms / 1000)
        if "estimated" in settlement.flags:
            self._estimated.inc()
        if settlement.outcome == "client_gone":
            self._hangups.inc()
        elif settlement.outcome == "refused" and not settlement.attempts:
            self._holds_refused.inc()
        self._charged.inc(settled.charge_nanocredits)
        self._absorbed.inc(settled.absorbed_nanocredits)
        _tell_record(settlement, settled)

    def exposition(self) -> bytes:
        """All series in Prometheus' text format. May read files: use a thread."""
        if MULTIPROCESS not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)


def reserve_files(folder: Path) -> None:
    """Give the files of this process their room on the disk. Raises OSError.

    They are mapped into memory, and the system ends a process that writes to a page for which a
    full disk has no room.
    """
    for kind in _FILES:
        with (folder / f"{kind}_{os.getpid()}.db").open("ab") as file:
            file.write(bytes(max(0, _FILE_BYTES - file.tell())))


def _tell_record(settlement: Settlement, settled: Settled) -> None:
    record = current_record.get()
    if record is not None:
        record.settlement = settlement
        record.settled = settled

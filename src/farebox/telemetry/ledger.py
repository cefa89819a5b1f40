"""The figures of the ledger process, beside those of the workers: see metrics.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from farebox.billing.jobs import Job, Return
from farebox.telemetry.metrics import MULTIPROCESS, reserve_files

_SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_COMMIT_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2)


class LedgerMetrics:
    """Told of batches by the committer's thread, of those who wait by the loop."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        if MULTIPROCESS in os.environ:
            reserve_files(Path(os.environ[MULTIPROCESS]))
        self._batches = Counter(
            "farebox_ledger_batches_total",
            "Transactions of the ledger process.",
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "farebox_ledger_batch_size",
            "Calls written and other work done in one transaction.",
            buckets=_SIZE_BUCKETS,
            registry=self.registry,
        )
        self._commit = Histogram(
            "farebox_ledger_commit_seconds",
            "How long a transaction took, its commit included.",
            buckets=_COMMIT_BUCKETS_S,
            registry=self.registry,
        )
        self._returned = Counter(
            "farebox_leases_returned_total",
            "Times that credit set apart for an account, but not needed, was given back.",
            registry=self.registry,
        )
        self._rejected = Counter(
            "farebox_settle_rejected_total",
            "Calls that could not be written and never will be: each is a defect.",
            registry=self.registry,
        )
        self._spooled = Gauge(
            "farebox_spooled_calls",
            "Calls that wait in the spool for the store to come back.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._waiting = Gauge(
            "farebox_holds_waiting",
            "Calls that wait for credit to be set apart.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )

    def committed(self, jobs: Sequence[Job], took_s: float) -> None:
        """These were done in one transaction."""
        self._batches.inc()
        self._batch_size.observe(len(jobs))
        self._commit.observe(took_s)
        returned = list(map(type, jobs)).count(Return)
        if returned:
            self._returned.inc(returned)

    def spooled(self, calls: int) -> None:
        """So many calls wait in the spool now."""
        self._spooled.set(calls)

    def rejected(self, calls: int) -> None:
        """So many calls could not be written."""
        self._rejected.inc(calls)

    def waiting(self, holds: int) -> None:
        """So many holds are not answered yet."""
        self._waiting.set(holds)

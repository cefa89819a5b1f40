"""What is done from time to time, beside serving: expired responses are swept out, the books are
proved, calls that were kept for long enough are dropped.

Each chore has a thread of its own, so that none waits for another and the supervisor for none. With
PostgreSQL, one host does each of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from farebox.admin.audit import AuditStopped, audit
from farebox.core import clock
from farebox.core.settings import Settings
from farebox.store import Store
from farebox.telemetry.outside import OutsideGauge

SWEEP_S = 180.0  # what has expired is not shown any more; this long its room is still taken
AUDIT_S = 300.0
RETENTION_S = 3600.0
_SWEEP = 100  # responses in one go: even very large ones don't hold up others for long
_BREATH_S = 0.3  # between two goes
_LAST_WORDS_S = 2.0
_MARGIN_US = 600_000_000  # what clocks of hosts may differ by, and a commit may take
_DAY_US = 86_400_000_000
_METRIC = "farebox_audit_violations"
_METRIC_TEXT = "Rows that broke an invariant of the books when they were looked at last."


@dataclass(frozen=True, slots=True)
class _Chore:
    name: str
    every_s: float
    work: Callable[[], None]
    trouble: str  # what to say when it fails, before the reason


class Chores:
    """All of them, from `start` to the end of the `with` block."""

    def __init__(
        self, store: Store, settings: Settings, metrics: Path, say: Callable[[str], None]
    ) -> None:
        self._store = store
        self._keep_us = settings.usage_keep_days * _DAY_US
        self._say = say
        self._priced_until_us = 0
        self._stop = threading.Event()
        self._gauge = OutsideGauge(metrics, _METRIC, _METRIC_TEXT, "invariant")
        self._threads = [
            threading.Thread(target=self._run, args=[chore], name=chore.name, daemon=True)
            for chore in (
                _Chore("sweep", SWEEP_S, self._sweep, "Expired responses will be deleted late"),
                _Chore("audit", AUDIT_S, self._audit, "The books could not be audited"),
                _Chore("retention", RETENTION_S, self._drop, "Old calls will be dropped late"),
            )
        ]

    def follow(self, settings: Settings) -> None:
        """From now on go by these."""
        self._keep_us = settings.usage_keep_days * _DAY_US

    def start(self) -> None:
        """Begin each of them at once."""
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Begin nothing more, and wait a moment for what has begun. One that has not ended by then
        is in the middle of a query; it changes nothing any more, and ends with the process.
        """
        self._stop.set()
        end_s = clock.monotonic_s() + _LAST_WORDS_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end_s - clock.monotonic_s()))

    def _run(self, chore: _Chore) -> None:
        trouble = ""
        while not self._stop.is_set():
            try:
                with self._store.turn(chore.name, chore.every_s) as is_ours:
                    if is_ours:
                        chore.work()
                    elif chore.name == "audit":
                        self._gauge.forget()  # another host's figures are newer
                trouble = ""
            except AuditStopped:
                pass
            except Exception as error:  # noqa: BLE001 (tried again when its time comes)
                if str(error) != trouble and not self._stop.is_set():
                    trouble = str(error)
                    self._say(f"{chore.trouble}: {trouble or type(error).__name__}\n")
            self._stop.wait(chore.every_s)
        if chore.name == "audit":
            self._gauge.close()

    def _sweep(self) -> None:
        while self._store.drop_expired_responses(clock.now_us(), _SWEEP) == _SWEEP:
            if self._stop.wait(_BREATH_S):
                return

    def _audit(self) -> None:
        began_us = clock.now_us()
        report = audit(
            self._store, priced_until_us=self._priced_until_us, stopped=self._stop.is_set
        )
        # What was found right this time need not be priced again next time.
        self._priced_until_us = began_us - _MARGIN_US if report["ok"] else 0
        violations = {each["id"]: len(each["rows"]) + each["more"] for each in report["invariants"]}
        with suppress(OSError):  # a disk that is full must not keep the finding from being said
            self._gauge.set(violations)
        if not report["ok"]:
            broken = ", ".join(f"{name} ({n})" for name, n in violations.items() if n)
            self._say(
                f"The books do not add up: {broken}. `farebox audit` shows the rows, and "
                "docs/billing.md says what they mean.\n"
            )

    def _drop(self) -> None:
        for hour_us in self._store.hours_to_drop(clock.now_us() - self._keep_us):
            self._store.drop_hour(hour_us, clock.now_us())
            if self._stop.wait(_BREATH_S):
                return

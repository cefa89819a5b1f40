"""What one key may still be charged in the present period. Amounts are nano-credits."""

from __future__ import annotations

from dataclasses import dataclass

from farebox.billing.jobs import Outcome, Posted

STALE_S = 1.0  # what other hosts charged meanwhile is read again
FORGET_S = 60.0


@dataclass(slots=True)
class Budget:
    """A key's period that began at `since_us`: charged by the store, posted, and held."""

    key_id: str
    account_id: int
    since_us: int
    spent: int | None = None  # None: not read yet
    posted: int = 0  # on its way into the store
    held: int = 0
    asked: bool = False
    read_s: float = 0.0

    def room(self, limit: int) -> int:
        """What is left of `limit`. Only once `spent` was read."""
        assert self.spent is not None
        return max(0, limit - self.spent - self.posted - self.held)

    def needs_reading(self, now_s: float, hosts: int) -> bool:
        """Whether to ask the store: once, and again and again where others charge the key too."""
        if self.asked:
            return False
        return self.spent is None or (hosts > 1 and now_s - self.read_s >= STALE_S)

    def read(self, spent: int, now_s: float) -> None:
        """The store's answer. It may lack what waits in the spool, so it never lowers the sum."""
        self.spent = max(spent, self.spent or 0)
        self.read_s = now_s

    def end_post(self, charge: int, outcome: Outcome) -> None:
        """What was on its way into the store is there, if it was not before; or it cannot be."""
        self.posted -= charge
        if self.spent is not None and isinstance(outcome, Posted) and outcome.inserted:
            self.spent += charge

    def is_over(self, now_s: float) -> bool:
        """Whether nothing is lost by forgetting it."""
        return not (self.held or self.posted or self.asked) and now_s - self.read_s > FORGET_S

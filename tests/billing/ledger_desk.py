"""One ledger, one worker, one account: for tests of one rule at a time."""

from __future__ import annotations

from farebox.billing import messages as m
from farebox.billing.jobs import Job
from farebox.billing.ledger import Ledger
from tests.billing.ledger_hosts import World
from tests.billing.ledger_store import entry


class Desk:
    """One host with one worker and one account, whose id is 1."""

    def __init__(self, credits: int = 100, limit: int = 0) -> None:
        self.world = World(1)
        self.store = self.world.store
        self.store.credit(1, credits, limit)
        self.host = self.world.hosts[0]
        self.worker = self.host.hire()
        self.ids = 0

    @property
    def ledger(self) -> Ledger:
        return self.host.ledger

    def hold(self, least: int, most: int | None = None, budget: int | None = None) -> str:
        """Asked, but not carried out: the request's id."""
        self.ids += 1
        request_id = f"req_{self.ids}"
        most = least if most is None else most
        self.worker.hold(m.Hold(request_id, 1, "key", least, most, budget))
        self.host.deliver()
        return request_id

    def held(self, least: int, most: int | None = None, budget: int | None = None) -> str:
        """Asked, and heard."""
        request_id = self.hold(least, most, budget)
        self.world.drain()
        return request_id

    def settled(self, request_id: str, due: int, outcome: str = "complete") -> m.Answer:
        self.worker.settle(entry(request_id, 1, due, outcome=outcome))
        self.world.drain()
        return self.worker.last[request_id]

    def answer(self, request_id: str) -> m.Answer | None:
        return self.worker.last.get(request_id)

    def fail(self) -> None:
        """All that is to be done finds the store away, as often as it is tried now."""
        for _ in range(5):
            self.host.take()
            self.host.fail()
            self.host.hear()
        assert self.ledger.jobs == [], "it is tried again in its time, not for ever"

    def jobs_since(self, count: int) -> list[Job]:
        return self.store.jobs_done[count:]

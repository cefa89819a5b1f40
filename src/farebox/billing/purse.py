"""One account's credit in the hands of one ledger: its lease, and how much to take from the store.

Arithmetic only. Who waits for what is ledger.py's; amounts are nano-credits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farebox.billing.jobs import Grant, Post, Return

if TYPE_CHECKING:
    from farebox.billing.entry import Entry
    from farebox.billing.parties import OpenCall, Waiting

SPEND_S = 10.0  # a block lasts about so long
_STILL_S = 2.0  # no hold as large as the largest for so long: a busy lease may be cut down
_DECAY_S = 10.0  # after this, half of the largest hold is forgotten
_SETTLE_DOWN_S = 1.0  # without a top-up


@dataclass(slots=True)
class Lease:
    """Credit that may be spent without asking the store. Who still has one that is not its purse's
    any more has lost it: the store knows it no more, and what is given back to it is lost too.
    """

    lease_id: int
    posted: int = 0  # calls on their way into the store


@dataclass(slots=True)
class Purse:
    """What one ledger knows of one account."""

    account_id: int
    lease: Lease | None = None
    free: int = 0  # of the lease, neither held nor spent: what may be held
    held: int = 0  # of calls in flight
    queue: deque[Waiting] = field(default_factory=deque["Waiting"])
    asked: bool = False  # a Grant is on its way
    recalled: bool = False  # a Grant that was on its way when others recalled is not answered yet
    recalling: bool = False  # other hosts are being asked to give back, for those who wait now
    returning: int = 0  # Returns on their way: what they give back is not in the store yet
    tokens: list[Hashable] = field(default_factory=list[Hashable])  # of recalls that wait for them
    calls: int = 0  # in flight, with or without a hold
    used_s: float = 0.0
    block: int = 0  # to have at hand: some seconds of spending, or one more of the largest holds
    # For the size of it:
    spent: int = 0  # since the last tick
    spend_per_s: float = 0.0
    largest: int = 0  # hold of late
    largest_s: float = 0.0
    quiet_until_s: float = 0.0

    @property
    def is_idle(self) -> bool:
        """No call is in flight, waits, or is being written."""
        return not (self.held or self.queue or self.asked or (self.lease and self.lease.posted))

    @property
    def is_over(self) -> bool:
        """Whether nothing is lost by forgetting it."""
        return self.is_idle and not (self.lease or self.calls or self.returning)

    def take(self, amount: int, now_s: float) -> Lease | None:
        """Hold so much more, which is free; the lease that it is of."""
        lease = self.lease
        free = self.free
        assert 0 <= amount <= free
        self.free = free - amount
        self.held += amount
        self.used_s = now_s
        if amount >= self.largest:
            self.largest, self.largest_s = amount, now_s
            if amount > self.block:  # noqa: PLR1730 (of every call, and max() takes twice as long)
                self.block = amount
        return lease

    def give_back(self, amount: int, lease: Lease | None, now_s: float) -> None:
        """A hold of that lease has ended."""
        self.held -= amount
        assert self.held >= 0
        if lease is self.lease:
            self.free += amount
        self.used_s = now_s

    def post(
        self, call: OpenCall, entry: Entry, charge: int, held: int, now_s: float
    ) -> Post | None:
        """A call is over for which so much was held: that is free again. If what is free covers the
        charge, it is spent, and on its way into the store; the rest of what is due is absorbed.
        """
        self.held -= held
        assert self.held >= 0
        self.used_s = now_s
        lease, free = self.lease, self.free
        if call.lease is lease:
            free += held
        if charge > free:
            self.free, call.lease, call.amount = free, None, 0
            return None
        self.free = free - charge
        self.spent += charge
        lease_id = None
        if lease is not None:
            lease.posted += 1
            if charge:
                lease_id = lease.lease_id
        call.lease, call.amount = lease, charge
        if call.budget is not None:
            call.budget.posted += charge
        return Post(entry, lease_id, charge, entry.due - charge)

    def uncharge(self, amount: int, lease: Lease | None) -> None:
        """What was charged of that lease is not spent after all."""
        if lease is self.lease:
            self.free += amount

    def ask(self, least: int, need: int, hosts: int, owed: int = 0) -> Grant:
        """The Grant for who waits; at the same time a new block is taken."""
        self.asked = True
        lease_id = self.lease.lease_id if self.lease else None
        # As much again as is needed, so that the next call of a burst need not wait.
        want = need + max(need, self.block)
        return Grant(self.account_id, lease_id, least, need, want, hosts, owed)

    def top_up(self, now_s: float, hosts: int) -> Grant | None:
        """The Grant that keeps a busy account from ever waiting, when half a block is gone."""
        # The question that most often says no comes first: it is asked several times a call.
        if self.free * 2 >= self.block or self.asked or not self.held:
            return None
        return self.ask(0, 0, hosts) if now_s >= self.quiet_until_s else None

    def wait_to_top_up(self, now_s: float) -> None:
        """For a moment credit is only asked for when a call needs it."""
        self.quiet_until_s = now_s + _SETTLE_DOWN_S

    def granted(self, lease_id: int | None, amount: int, now_s: float) -> None:
        """The store's answer; nothing if it is away. Another lease than before is given only where
        that one is not open any more.
        """
        self.asked = False
        if amount * 2 < self.block:
            self.wait_to_top_up(now_s)  # a poor account is not asked always
        if lease_id is None or not amount:
            return
        if self.lease is None or self.lease.lease_id != lease_id:
            self.lose()
            self.lease = Lease(lease_id)
        self.free += amount

    def lose(self) -> None:
        """The lease is not there any more, with all that was free or held of it."""
        self.lease, self.free = None, 0

    def tick(self, elapsed_s: float, now_s: float) -> None:
        """Follow the spending."""
        rate = self.spent / elapsed_s
        self.spend_per_s = rate if rate > self.spend_per_s else (self.spend_per_s + rate) / 2
        self.spent = 0
        if now_s - self.largest_s > _DECAY_S:
            self.largest, self.largest_s = self.largest // 2, now_s
        self.block = max(int(self.spend_per_s * SPEND_S), self.largest)

    def excess(self, now_s: float, idle_s: float) -> Return | None:
        """What need not be kept: all of an idle lease; of a busy one what is far above a block."""
        lease = self.lease
        if lease is None or self.asked or self.queue:
            return None
        if self.is_idle and now_s - self.used_s >= idle_s:
            return self.give_up()
        if self.free > 4 * self.block and now_s - self.largest_s >= _STILL_S:
            amount = self.free - self.block
            self.free -= amount
            return Return(lease.lease_id, self.account_id, amount, close=False)
        return None

    def give_up(self) -> Return | None:
        """All that is free, and the lease itself if nothing else of it is used."""
        lease = self.lease
        if lease is None:
            return None
        close = self.is_idle
        if not (close or self.free):
            return None
        amount, self.free = self.free, 0
        if close:
            self.lease = None
        return Return(lease.lease_id, self.account_id, amount, close)

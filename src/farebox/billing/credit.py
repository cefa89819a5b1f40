"""Whose credit is at hand, who waits for more of it, and what the store is asked for.

The half of the ledger that knows accounts and budgets; calls and workers are ledger.py's. No I/O,
no clock. Amounts are nano-credits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

from farebox.billing import messages as m
from farebox.billing.budget import Budget
from farebox.billing.entry import Entry
from farebox.billing.jobs import (
    Away,
    Grant,
    Granted,
    Job,
    OpenLease,
    Outcome,
    Return,
    Spending,
    Spent,
    Undelivered,
)
from farebox.billing.purse import Lease, Purse

Worker = Hashable
IDLE_S = 2.0  # a lease that nobody has used for so long is given back
_RATE_S = 0.2  # spending is not looked at more often
_FORGET_S = 60.0  # a purse without a lease


@dataclass(slots=True)
class Waiting:
    """Somebody who wants credit: a call to be held for (more), or to be charged."""

    worker: Worker
    request: m.Hold | m.Extend | Entry
    least: int
    most: int
    budget: Budget | None = None
    limit: int = 0  # of the budget


class Credit(ABC):
    """Purses and budgets. `hosts` is how many ledgers share the store."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self.jobs: list[Job] = []
        self.recalls: list[int] = []  # accounts that other hosts are to give back
        self.recalled: list[Hashable] = []  # tokens of recalls that are done
        self.hosts = 1
        self._purses: dict[int, Purse] = {}
        self._budgets: dict[tuple[str, int], Budget] = {}
        self._due: list[Job] = []  # could not be done, and will be tried again
        self._tokens: dict[int, list[Hashable]] = {}  # of recalls, by lease
        self._ticked_s = 0.0

    @abstractmethod
    def _give(self, waiting: Waiting, purse: Purse, amount: int, now_s: float) -> None:
        """So much, which is free, is for this one: hold or charge it."""

    @abstractmethod
    def _refuse(self, waiting: Waiting, refusal: m.Refused) -> None:
        """This one gets nothing. It is a hold: charges are always given what there is."""

    def others_gave_back(self, account_id: int, now_s: float) -> None:
        """The other hosts have answered a recall, or had the time to."""
        purse = self._purses.get(account_id)
        if purse is not None and purse.recalling:
            purse.recalling, purse.recalled = False, True
            self._serve(purse, now_s)

    def recall(self, account_id: int, token: Hashable) -> None:
        """Give back what nobody needs of an account; `token` is in `recalled` when it is done."""
        purse = self._purses.get(account_id)
        job = None if purse is None else purse.give_up()
        if job is None:
            self.recalled.append(token)
        else:
            self.jobs.append(job)
            self._tokens.setdefault(job.lease_id, []).append(token)

    def _adopt(self, lease: OpenLease, unspent: int, now_s: float) -> None:
        purse = self._purse(lease.account_id)
        purse.used_s = now_s
        if purse.lease is None:
            purse.lease = Lease(lease.lease_id, max(0, unspent))
        else:
            self.jobs.append(Return(lease.lease_id, lease.account_id, max(0, unspent), close=True))

    def _tick(self, now_s: float) -> None:
        elapsed_s = now_s - self._ticked_s
        follow = elapsed_s >= _RATE_S
        if follow:
            self._ticked_s = now_s
            self.jobs += self._due
            self._due = []
        for purse in tuple(self._purses.values()):
            if follow:
                purse.tick(elapsed_s, now_s)
            job = purse.excess(now_s, self._idle_s)
            if job is not None:
                self.jobs.append(job)
            elif purse.lease is None and purse.is_idle and now_s - purse.used_s > _FORGET_S:
                del self._purses[purse.account_id]
        for key, budget in tuple(self._budgets.items()):
            if budget.is_over(now_s):
                del self._budgets[key]

    def _purse(self, account_id: int) -> Purse:
        purse = self._purses.get(account_id)
        if purse is None:
            purse = self._purses[account_id] = Purse(account_id)
        return purse

    def _budget(self, key_id: str, limit: int | None, since_us: int) -> Budget | None:
        if limit is None:
            return None
        return self._budgets.setdefault((key_id, since_us), Budget(key_id, since_us))

    def _wait(self, purse: Purse, waiting: Waiting, now_s: float) -> None:
        """Give what is asked for now, if nobody came before; else in turn."""
        purse.queue.append(waiting)
        if len(purse.queue) == 1:
            self._serve(purse, now_s)

    def _serve(self, purse: Purse, now_s: float) -> None:
        """Give to those who wait, in turn, and ask the store for what is missing."""
        queue = purse.queue
        while queue and self._satisfy(queue[0], purse, now_s, last=False):
            queue.popleft()
        if queue:
            first = queue[0]
            is_read = first.budget is None or first.budget.spent is not None
            if is_read and not (purse.asked or purse.recalling):
                free = purse.free
                # A charge takes whatever there is: what it cannot have is absorbed.
                least = 1 if isinstance(first.request, Entry) else max(0, first.least - free)
                need = sum(each.most for each in queue) - free
                self.jobs.append(purse.ask(least, max(least, need), self.hosts))
        else:
            purse.recalling = purse.recalled = False
            job = purse.top_up(now_s, self.hosts)
            if job is not None:
                self.jobs.append(job)

    def _satisfy(self, waiting: Waiting, purse: Purse, now_s: float, *, last: bool) -> bool:
        """Whether this one need wait no longer. `last`: there is no more than what is free."""
        least, most = waiting.least, waiting.most
        budget = waiting.budget
        if budget is not None:
            if budget.needs_reading(now_s, self.hosts):
                budget.asked = True
                self.jobs.append(Spending(budget.key_id, budget.since_us))
            if budget.spent is None:
                return False
            room = budget.room(waiting.limit)
            if room < least:
                self._refuse(waiting, m.Refused(_id(waiting), "budget", least, room))
                return True
            most = min(most, room)
        if purse.free < most:
            if not last or (purse.free < least and not isinstance(waiting.request, Entry)):
                return False
            most = purse.free
        self._give(waiting, purse, most, now_s)
        return True

    def _granted(self, job: Grant, outcome: Outcome, now_s: float) -> None:
        purse = self._purse(job.account_id)
        if not isinstance(outcome, Granted):
            purse.asked = False
            self._make_do(purse, "away", None, now_s)
            return
        purse.granted(outcome.lease_id, outcome.amount, now_s)
        if not outcome.is_open:
            self._make_do(purse, "closed", outcome, now_s)
        elif outcome.amount < job.need and purse.queue:
            self._run_dry(purse, outcome, now_s)
        else:
            self._serve(purse, now_s)

    def _run_dry(self, purse: Purse, outcome: Granted, now_s: float) -> None:
        """The account has not what was asked for. Perhaps other hosts can give some back."""
        if self.hosts > 1 and not purse.recalled:
            while purse.queue and self._satisfy(purse.queue[0], purse, now_s, last=False):
                purse.queue.popleft()
            if purse.queue:
                purse.recalling = True
                self.recalls.append(purse.account_id)
            return
        purse.recalled = False
        if outcome.available + outcome.credit_limit <= 0:
            self._make_do(purse, "credit", outcome, now_s)
            return
        # Something is left that is too little for the first; others may want less.
        self._make_do_with(purse.queue.popleft(), purse, "credit", outcome, now_s)
        self._serve(purse, now_s)

    def _make_do(self, purse: Purse, why: str, outcome: Granted | None, now_s: float) -> None:
        """There is no more than what is free for all who wait."""
        purse.recalling = purse.recalled = False
        for _ in range(len(purse.queue)):
            waiting = purse.queue.popleft()
            if waiting.budget is not None and waiting.budget.spent is None and why != "away":
                purse.queue.append(waiting)  # its budget is being read
            else:
                self._make_do_with(waiting, purse, why, outcome, now_s)

    def _make_do_with(
        self, waiting: Waiting, purse: Purse, why: str, outcome: Granted | None, now_s: float
    ) -> None:
        is_charge = isinstance(waiting.request, Entry)
        if (why != "closed" or is_charge) and self._satisfy(waiting, purse, now_s, last=True):
            return
        refusal = m.Refused(_id(waiting), why, waiting.least)
        if outcome is not None:
            free = purse.free
            available, limit = outcome.available, outcome.credit_limit
            refusal = m.Refused(
                refusal.request_id,
                why,
                waiting.least,
                free + available + limit,
                outcome.held - free,
                available + outcome.held,
            )
        self._refuse(waiting, refusal)

    def _returned(self, job: Return, outcome: Outcome) -> None:
        if isinstance(outcome, Away):
            self._due.append(job)
        for token in self._tokens.pop(job.lease_id, ()):
            self.recalled.append(token)

    def _read(self, job: Spending, outcome: Outcome, now_s: float) -> None:
        budget = self._budgets.get((job.key_id, job.since_us))
        if budget is not None:
            if isinstance(outcome, Spent):
                budget.read(outcome.amount, now_s)
            else:
                budget.asked = False
            for purse in self._purses.values():
                if purse.queue and purse.queue[0].budget is budget:
                    if isinstance(outcome, Spent) or budget.spent is not None:
                        self._serve(purse, now_s)
                    else:
                        self._make_do(purse, "away", None, now_s)

    def _marked(self, job: Undelivered, outcome: Outcome) -> None:
        if isinstance(outcome, Away):
            self._due.append(job)


def _id(waiting: Waiting) -> str:
    return waiting.request.request_id

"""Whose credit is at hand, who waits for more of it, and what the store is asked for.

The half of the ledger that knows accounts and budgets; calls and workers are ledger.py's. No I/O,
no clock. Amounts are nano-credits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable

from farebox.billing import messages as m
from farebox.billing.budget import Budget
from farebox.billing.entry import Entry
from farebox.billing.jobs import (
    EVERYTHING,
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
from farebox.billing.parties import Waiting
from farebox.billing.purse import Lease, Purse

IDLE_S = 2.0  # a lease that nobody has used for so long is given back
_RATE_S = 0.2  # spending is not looked at more often
_FORGET_S = 60.0  # a purse without a lease
MOST_BACK = 100  # leases given back in one tick: whoever needs a grant meanwhile waits for them


class _Purses(dict[int, Purse]):
    """By account; who asks for one by its brackets gets a new one if there is none."""

    def __missing__(self, account_id: int) -> Purse:
        purse = self[account_id] = Purse(account_id)
        return purse


class Credit(ABC):
    """Purses and budgets. `hosts` is how many ledgers share the store."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self.jobs: list[Job] = []
        self.recalls: list[int] = []  # accounts that other hosts are to give back
        self.recalled: list[Hashable] = []  # tokens of recalls that are done
        self.hosts = 1
        self._purses = _Purses()
        self._budgets: dict[tuple[str, int], Budget] = {}
        self._due: list[Job] = []  # could not be done, and will be tried again
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
            purse.recalling = False
            self._serve(purse, now_s)

    def recall(self, account_id: int, token: Hashable, now_s: float) -> None:
        """Give back what nobody needs of an account; `token` is in `recalled` when it is done.
        For a moment nothing is taken ahead of need, or who recalled it might find it gone again.
        """
        purse = self._purses.get(account_id)
        if purse is not None:
            purse.wait_to_top_up(now_s)
            self._return(purse, purse.give_up())
            purse.recalled = purse.asked
            if purse.returning or purse.recalled:
                self._try_again()
                purse.tokens.append(token)
                return
        self.recalled.append(token)

    def give_up(self) -> None:
        """Give back all that nobody needs: the end is near."""
        for purse in self._purses.values():
            self._return(purse, purse.give_up())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is leased, or on its way back."""
        return not any(purse.lease or purse.returning for purse in self._purses.values())

    def _adopt(self, lease: OpenLease, unspent: int, now_s: float) -> None:
        purse = self._purses[lease.account_id]
        purse.used_s = now_s
        if purse.lease is None:
            purse.lease, purse.free = Lease(lease.lease_id), max(0, unspent)
        else:
            job = Return(lease.lease_id, lease.account_id, max(0, unspent), close=True)
            self._return(purse, job)

    def _return(self, purse: Purse, job: Return | None) -> None:
        if job is not None:
            purse.returning += 1
            self.jobs.append(job)

    def _lose(self, purse: Purse, lease: Lease) -> None:
        """The store does not let this lease of the purse be charged. What it does have of it is to
        pay, and not to stay where nobody uses it.
        """
        purse.lose()
        self._return(purse, Return(lease.lease_id, purse.account_id, EVERYTHING, close=True))

    def _try_again(self) -> None:
        """What could not be done goes to the store once more, before all that is asked later."""
        self.jobs += self._due
        self._due = []

    def _tick(self, now_s: float) -> None:
        elapsed_s = now_s - self._ticked_s
        follow = elapsed_s >= _RATE_S
        if follow:
            self._ticked_s = now_s
            self._try_again()
        back = 0
        for purse in tuple(self._purses.values()):
            if follow:
                purse.tick(elapsed_s, now_s)
                if purse.queue:
                    for waiting in purse.queue:
                        waiting.later = False
                    self._serve(purse, now_s)
            if back < MOST_BACK:
                job = purse.excess(now_s, self._idle_s)
                self._return(purse, job)
                back += job is not None
            if purse.is_over and now_s - purse.used_s > _FORGET_S:
                del self._purses[purse.account_id]
        for key, budget in tuple(self._budgets.items()):
            if budget.is_over(now_s) and not self._is_waited_for(budget):
                del self._budgets[key]

    def _is_waited_for(self, budget: Budget) -> bool:
        purse = self._purses.get(budget.account_id)
        return purse is not None and any(each.budget is budget for each in purse.queue)

    def _budget(
        self, key_id: str, account_id: int, limit: int | None, since_us: int
    ) -> Budget | None:
        if limit is None:
            return None
        budget = self._budgets.get((key_id, since_us))
        if budget is None:
            budget = Budget(key_id, account_id, since_us)
            self._budgets[key_id, since_us] = budget
        return budget

    def _wait(self, purse: Purse, waiting: Waiting, now_s: float) -> None:
        """Give what is asked for now, if nobody came before; else in turn."""
        purse.queue.append(waiting)
        if len(purse.queue) == 1 or not (purse.asked or purse.recalling):
            self._serve(purse, now_s)

    def _serve(self, purse: Purse, now_s: float) -> None:
        """Give to those who wait, in turn, and ask the store for what is missing."""
        queue = purse.queue
        while queue and self._satisfy(queue[0], purse, now_s, last=False):
            queue.popleft()
        if not queue:
            purse.recalling = False
            self._top_up(purse, now_s)
        elif not (purse.asked or purse.recalling):
            budget = queue[0].budget
            is_read = budget is None or budget.spent is not None
            if is_read and not all(each.later for each in queue):
                self._ask(purse)

    def _top_up(self, purse: Purse, now_s: float) -> None:
        job = purse.top_up(now_s, self.hosts)
        if job is not None:
            self.jobs.append(job)

    def _ask(self, purse: Purse) -> None:
        first, free = purse.queue[0], purse.free
        need, owed = -free, -free
        for waiting in purse.queue:
            waiting.asked = True
            need += waiting.most
            owed += waiting.most if isinstance(waiting.request, Entry) else 0
        # A charge takes whatever there is: what it cannot have is absorbed.
        least = 1 if isinstance(first.request, Entry) else max(0, first.least - free)
        self._try_again()  # what is given back may be what is missing
        self.jobs.append(purse.ask(least, max(least, need), self.hosts, max(0, owed)))

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
        purse = self._purses[job.account_id]
        if not isinstance(outcome, Granted):
            purse.granted(None, 0, now_s)
            self._make_do(purse, "away", None, now_s)
            self._give_back_what_came(purse)
            return
        purse.granted(outcome.lease_id, outcome.amount, now_s)
        if not outcome.is_open:
            self._make_do(purse, "closed", outcome, now_s)
        elif outcome.amount < job.need and not purse.returning:
            self._make_do(purse, "credit", outcome, now_s)
        else:
            self._serve(purse, now_s)
        self._give_back_what_came(purse)

    def _give_back_what_came(self, purse: Purse) -> None:
        """It was on its way when it was recalled, and nobody has needed it. Where somebody waits
        here it is for them: more has been asked for, counting on what is free.
        """
        if purse.recalled:
            purse.recalled = False
            if not purse.queue:
                self._return(purse, purse.give_up())
            if not purse.returning:
                self._tell_recalled(purse)

    def _tell_recalled(self, purse: Purse) -> None:
        self.recalled += purse.tokens
        purse.tokens.clear()

    def _make_do(self, purse: Purse, why: str, outcome: Granted | None, now_s: float) -> None:
        """There is no more than what is free, for those whom this answer is for: those who came
        after the question ask anew.
        """
        queue = purse.queue
        for _ in range(len(queue)):
            waiting = queue.popleft()
            if waiting.asked and self._is_final(waiting, purse, why, outcome):
                self._make_do_with(waiting, purse, why, outcome, now_s)
            else:
                queue.append(waiting)
        if any(each.asked and not each.recalled for each in queue) and self._may_recall(why):
            self._recall_others(purse, now_s)
        else:
            self._serve(purse, now_s)

    def _is_final(self, waiting: Waiting, purse: Purse, why: str, outcome: Granted | None) -> bool:
        """Whether asking once more would bring this one nothing."""
        is_charge = isinstance(waiting.request, Entry)
        if is_charge:
            # Nothing is absorbed that the account may be able to pay.
            waiting.later = outcome is None
        elif waiting.budget is not None and waiting.budget.spent is None:
            return False
        if outcome is None:
            return not waiting.later
        room = outcome.available + outcome.credit_limit
        # A closed account still pays for what is over, also when the lease for it has been lost.
        may_have = why == "credit" or (why == "closed" and is_charge)
        if may_have and room > 0 and waiting.least <= purse.free + room:
            waiting.asked = False
            return False
        return waiting.recalled or not self._may_recall(why)

    def _may_recall(self, why: str) -> bool:
        return why == "credit" and self.hosts > 1

    def _recall_others(self, purse: Purse, now_s: float) -> None:
        """Perhaps other hosts can give some back."""
        queue = purse.queue
        while queue and self._satisfy(queue[0], purse, now_s, last=False):
            queue.popleft()
        if queue:
            purse.recalling = True
            self.recalls.append(purse.account_id)
            for waiting in queue:
                waiting.recalled = True

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
        purse = self._purses[job.account_id]
        if isinstance(outcome, Away):
            self._due.append(job)
        else:
            purse.returning -= 1
        if purse.tokens:
            is_done = not (purse.returning or purse.recalled)
            if is_done or isinstance(outcome, Away):
                self._tell_recalled(purse)

    def _read(self, job: Spending, outcome: Outcome, now_s: float) -> None:
        budget = self._budgets.get((job.key_id, job.since_us))
        if budget is None:
            return
        if isinstance(outcome, Spent):
            budget.read(outcome.amount, now_s)
        budget.asked = False
        purse = self._purses[budget.account_id]
        if budget.spent is None:
            for waiting in tuple(purse.queue):
                if waiting.budget is budget:
                    purse.queue.remove(waiting)
                    self._refuse(waiting, m.Refused(_id(waiting), "away", waiting.least))
        self._serve(purse, now_s)

    def _marked(self, job: Undelivered, outcome: Outcome) -> None:
        if isinstance(outcome, Away):
            self._due.append(job)


def _id(waiting: Waiting) -> str:
    return waiting.request.request_id

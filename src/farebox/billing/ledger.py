"""The ledger of one host: holds answered from memory, charges handed to the store in batches.

A state machine without I/O. What comes in are the methods; what goes out is collected in `answers`
(by worker), `jobs` (for the store, whose outcomes come back by `done`), `recalls` (accounts that
other hosts are to give back) and `recalled` (tokens of recalls that are done). Time is given.

The one rule that everything here serves: what is held or charged is always taken from a lease, a
lease is credit that the store has set apart, and the store counts a charge only with the row that
explains it. So whatever a crash makes this forget costs nobody anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from farebox.billing import messages as m
from farebox.billing.budget import Budget
from farebox.billing.credit import IDLE_S, Credit, Waiting, Worker
from farebox.billing.entry import Entry
from farebox.billing.jobs import (
    Grant,
    Job,
    LeaseGone,
    OpenLease,
    Outcome,
    Post,
    Posted,
    Rejected,
    Return,
    Spending,
    Spooled,
    Undelivered,
)
from farebox.billing.purse import Lease, Purse

START_S = 1.0  # for workers to tell a new ledger what the one before had held for them


# Structs rather than dataclasses: every call makes both, and these are made in a fifth of the time.
class _Call(msgspec.Struct, eq=False):
    """A call in flight: what is held for it, and of which lease."""

    worker: Worker
    purse: Purse
    lease: Lease | None
    amount: int
    budget: Budget | None
    limit: int = 0  # of the budget


class _Writing(msgspec.Struct, eq=False):
    """A charge that waits for credit, or is on its way into the store."""

    worker: Worker | None  # None: it has gone
    purse: Purse
    budget: Budget | None
    lease: Lease | None = None
    charge: int = 0


class Ledger(Credit):
    """See the module. `halted` stops all holds; what is in flight is still charged."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        super().__init__(idle_s)
        self.answers: defaultdict[Worker, list[m.Answer]] = defaultdict(list)
        self.halted = False
        self._calls: dict[str, _Call] = {}
        self._writing: dict[str, _Writing] = {}
        self._undelivered: dict[str, Worker] = {}  # answers whose end is on its way
        self._spooled: dict[str, Spooled] = {}
        self._resumes_due = 0
        self._deferred: dict[str, tuple[Worker, m.Hold]] = {}
        self._asking: dict[str, Waiting] = {}  # holds that are not answered yet
        self._start_until_s = 0.0

    def begin(
        self,
        leases: Iterable[OpenLease],
        spooled: Iterable[Spooled],
        workers: int,
        now_s: float,
    ) -> None:
        """Take over what an earlier life left. So many workers live, and will say what they had
        held: until they have, nobody else is held for.
        """
        self._spooled = {each.request_id: each for each in spooled}
        waits: dict[int | None, int] = {}
        for each in self._spooled.values():
            waits[each.lease_id] = waits.get(each.lease_id, 0) + each.charge
        for lease in leases:
            self._adopt(lease, lease.unspent - waits.get(lease.lease_id, 0), now_s)
        self._ticked_s = now_s
        self._resumes_due = workers
        self._start_until_s = now_s + START_S

    def tick(self, now_s: float) -> None:
        """To be called a few times a second."""
        if not self._resumes_due:
            self._tick(now_s)
        elif now_s >= self._start_until_s:
            self._start(now_s)

    @property
    def in_flight(self) -> int:
        """Calls that are held for."""
        return len(self._calls)

    @property
    def waiting(self) -> int:
        """Calls that are not held for yet, nor refused."""
        return len(self._asking)

    # What workers say.

    def resume(self, worker: Worker, holds: Iterable[m.OpenHold], now_s: float) -> None:
        """A worker is here, or here again, with calls in flight that were held for."""
        for hold in holds:
            request_id = hold.request_id
            call = self._calls.get(request_id)
            if call is not None:
                call.worker = worker
            if call is not None or request_id in self._writing or request_id in self._spooled:
                continue
            purse = self._purses[hold.account_id]
            budget = self._budget(hold.key_id, hold.account_id, hold.budget, hold.since_us)
            # What a lease lacks of it, if one was lost meanwhile, is got when it is charged.
            amount = min(hold.amount, purse.free)
            lease = purse.take(amount, now_s)
            call = _Call(worker, purse, lease, amount, budget, hold.budget or 0)
            self._note(request_id, call)
        if self._resumes_due:
            self._resumes_due -= 1
            if not self._resumes_due:
                self._start(now_s)

    def hold(self, worker: Worker, request: m.Hold, now_s: float) -> None:
        """Hold for a call. Asking again gives the same answer."""
        request_id = request.request_id
        if request_id in self._calls:
            call = self._calls[request_id]
            call.worker = worker  # the same call, on another connection
            self.answers[worker].append(m.Held(request_id, call.amount))
        elif request_id in self._asking:
            self._asking[request_id].worker = worker
        elif self.halted:
            self.answers[worker].append(m.Refused(request_id, "away"))
        elif self._resumes_due:
            self._deferred[request_id] = (worker, request)
        else:
            purse, most, limit = self._purses[request.account_id], request.most, request.budget
            if limit is None and most <= purse.free and not purse.queue:
                # So it is with nearly every call, and need not be noted as waiting first.
                call = _Call(worker, purse, purse.take(most, now_s), most, None)
                self._note(request_id, call)
                self.answers[worker].append(m.Held(request_id, most))
                job = purse.top_up(now_s, self.hosts)
                if job is not None:
                    self.jobs.append(job)
                return
            budget = self._budget(request.key_id, request.account_id, limit, request.since_us)
            waiting = Waiting(worker, request, request.least, most, budget, limit or 0)
            self._asking[request_id] = waiting
            self._wait(purse, waiting, now_s)

    def extend(self, worker: Worker, request: m.Extend, now_s: float) -> None:
        """Hold more for a call that is held for."""
        call = self._calls.get(request.request_id)
        if call is None or self.halted:
            self.answers[worker].append(m.Refused(request.request_id, "away"))
        else:
            more = request.more
            waiting = Waiting(worker, request, more, more, call.budget, call.limit)
            self._wait(call.purse, waiting, now_s)

    def release(self, request_id: str, now_s: float) -> None:
        """The call will not be settled."""
        call = self._end(request_id, now_s)
        if call is not None:
            self._serve(call.purse, now_s)
            return
        self._deferred.pop(request_id, None)
        waiting = self._asking.pop(request_id, None)
        if waiting is not None:
            assert isinstance(waiting.request, m.Hold)
            purse = self._purses[waiting.request.account_id]
            purse.queue.remove(waiting)
            self._serve(purse, now_s)

    def settle(self, worker: Worker, request: m.Settle, now_s: float) -> None:
        """Charge a call and have it written; what was held for it is free again."""
        entry = request.entry
        request_id = entry.request_id
        if request_id in self._writing:
            self._writing[request_id].worker = worker
            return
        call = self._end(request_id, now_s)
        if request_id in self._spooled:
            spooled = self._spooled[request_id]
            self.answers[worker].append(m.Settled(request_id, spooled.charge, spooled.absorbed))
            return
        purse = self._purses[entry.account_id]
        self._charge(worker, purse, None if call is None else call.budget, entry, now_s)
        if purse.queue:
            self._serve(purse, now_s)

    def delivered(self, worker: Worker, request_ids: Iterable[str]) -> None:
        """The clients have all of their answers."""
        undelivered = self._undelivered
        for request_id in request_ids:
            if undelivered.get(request_id) == worker:
                del undelivered[request_id]

    def gone(self, worker: Worker, now_s: float) -> None:
        """A worker's connection has ended. If it lives, it connects again and says once more all
        that counts; if it died, what is not on its way into the store yet is not charged.
        """
        for request_id in [key for key, call in self._calls.items() if call.worker == worker]:
            self._end(request_id, now_s)
        self._deferred = {key: each for key, each in self._deferred.items() if each[0] != worker}
        for purse in self._purses.values():
            left = [each for each in purse.queue if self._asks(worker, each)]
            for each in left:
                purse.queue.remove(each)
                if isinstance(each.request, Entry):
                    del self._writing[each.request.request_id]
                elif isinstance(each.request, m.Hold):
                    del self._asking[each.request.request_id]
        self._withdraw(worker)
        for purse in self._purses.values():
            self._serve(purse, now_s)
        undelivered = [key for key, each in self._undelivered.items() if each == worker]
        for request_id in undelivered:
            del self._undelivered[request_id]
        self._mark(sorted(undelivered))

    def done(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now_s: float) -> None:
        """A batch was done, or could not be: one outcome for each job."""
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(job, Post):
                self._posted(job, outcome, now_s)
            elif isinstance(job, Grant):
                self._granted(job, outcome, now_s)
            elif isinstance(job, Return):
                self._returned(job, outcome)
            elif isinstance(job, Spending):
                self._read(job, outcome, now_s)
            else:
                self._marked(job, outcome)

    # How it is done.

    def _start(self, now_s: float) -> None:
        """All that was held is known; others may be held for."""
        self._resumes_due = 0
        self._ticked_s = now_s
        deferred, self._deferred = self._deferred, {}
        for worker, request in deferred.values():
            self.hold(worker, request, now_s)

    def _asks(self, worker: Worker, waiting: Waiting) -> bool:
        if isinstance(waiting.request, Entry):
            return self._writing[waiting.request.request_id].worker == worker
        return waiting.worker == worker

    def _note(self, request_id: str, call: _Call) -> None:
        self._calls[request_id] = call
        call.purse.calls += 1
        if call.budget is not None:
            call.budget.held += call.amount

    def _end(self, request_id: str, now_s: float) -> _Call | None:
        """Forget a call in flight; what was held for it is free."""
        call = self._calls.pop(request_id, None)
        if call is not None:
            purse = call.purse
            purse.calls -= 1
            purse.give_back(call.amount, call.lease, now_s)
            if call.budget is not None:
                call.budget.held -= call.amount
        return call

    def _give(self, waiting: Waiting, purse: Purse, amount: int, now_s: float) -> None:
        request = waiting.request
        if isinstance(request, Entry):
            writing = self._writing[request.request_id]
            self._post(writing.worker, purse, writing.budget, request, amount)
        elif isinstance(request, m.Hold):
            lease = purse.take(amount, now_s)
            del self._asking[request.request_id]
            call = _Call(waiting.worker, purse, lease, amount, waiting.budget, waiting.limit)
            self._note(request.request_id, call)
            self.answers[waiting.worker].append(m.Held(request.request_id, amount))
        else:
            self._lengthen(waiting.worker, request.request_id, amount, now_s)

    def _lengthen(self, worker: Worker, request_id: str, amount: int, now_s: float) -> None:
        call = self._calls.get(request_id)
        if call is None:
            return  # it ended while it waited for more
        if call.lease is not call.purse.lease:
            call.purse.give_back(call.amount, call.lease, now_s)
            if call.budget is not None:
                call.budget.held -= call.amount
            call.amount = 0
        call.lease = call.purse.take(amount, now_s)
        call.amount += amount
        if call.budget is not None:
            call.budget.held += amount
        self.answers[worker].append(m.Held(request_id, call.amount))

    def _refuse(self, waiting: Waiting, refusal: m.Refused) -> None:
        self._asking.pop(refusal.request_id, None)
        self.answers[waiting.worker].append(refusal)

    def _charge(
        self, worker: Worker | None, purse: Purse, budget: Budget | None, entry: Entry, now_s: float
    ) -> None:
        if entry.due <= purse.free:
            self._post(worker, purse, budget, entry, entry.due)
            return
        # It goes before those who wait to be held for: it has been sent already.
        self._writing[entry.request_id] = _Writing(worker, purse, budget)
        purse.queue.appendleft(Waiting(worker, entry, 0, entry.due))
        self._serve(purse, now_s)

    def _post(
        self, worker: Worker | None, purse: Purse, budget: Budget | None, entry: Entry, charge: int
    ) -> None:
        lease = purse.charge(charge)
        self._writing[entry.request_id] = _Writing(worker, purse, budget, lease, charge)
        if budget is not None:
            budget.posted += charge
        lease_id = lease.lease_id if charge and lease is not None else None
        self.jobs.append(Post(entry, lease_id, charge, entry.due - charge))

    def _posted(self, job: Post, outcome: Outcome, now_s: float) -> None:
        entry = job.entry
        writing = self._writing.pop(entry.request_id)
        worker, purse, charge = writing.worker, writing.purse, writing.charge
        lease, budget = writing.lease, writing.budget
        if lease is not None:
            lease.posted -= 1
        if budget is not None:
            budget.posted -= charge
        # What nearly always is comes first: isinstance is slow to say no of a Struct.
        if isinstance(outcome, Posted):
            if not outcome.inserted:
                purse.uncharge(charge, lease)  # it was written before
            elif budget is not None and budget.spent is not None:
                budget.spent += charge
            self._tell(worker, entry, outcome)
        elif isinstance(outcome, LeaseGone):
            if lease is not None and lease is purse.lease:
                self._lose(purse, lease)
            self._charge(worker, purse, budget, entry, now_s)
            return
        else:
            purse.uncharge(charge, lease)  # it is not written at all
            if worker is not None:
                reason = outcome.reason if isinstance(outcome, Rejected) else "away"
                self.answers[worker].append(m.NotSettled(entry.request_id, reason))
        if purse.queue:
            self._serve(purse, now_s)

    def _tell(self, worker: Worker | None, entry: Entry, posted: Posted) -> None:
        request_id = entry.request_id
        if worker is not None:
            self.answers[worker].append(m.Settled(request_id, posted.charge, posted.absorbed))
        if posted.charge and entry.outcome == "complete":
            if worker is None:
                self._mark([request_id])
            else:
                self._undelivered[request_id] = worker

    def _mark(self, request_ids: Sequence[str]) -> None:
        if request_ids:
            self.jobs.append(Undelivered(tuple(request_ids)))

    def _withdraw(self, worker: Worker) -> None:
        """Charges of this worker that nobody has taken to the store yet are not made."""
        kept: list[Job] = []
        for job in self.jobs:
            writing = self._writing.get(job.entry.request_id) if isinstance(job, Post) else None
            if isinstance(job, Post) and writing is not None and writing.worker == worker:
                del self._writing[job.entry.request_id]
                if writing.lease is not None:
                    writing.lease.posted -= 1
                writing.purse.uncharge(writing.charge, writing.lease)
                if writing.budget is not None:
                    writing.budget.posted -= writing.charge
            else:
                kept.append(job)
        self.jobs[:] = kept
        for writing in self._writing.values():
            if writing.worker == worker:
                writing.worker = None

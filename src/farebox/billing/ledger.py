"""The ledger of one host: holds answered from memory, charges handed to the store in batches.

A state machine without I/O. What comes in are the methods; what goes out is collected in `answers`
of each worker, `jobs` (for the store, whose outcomes come back by `done`), `recalls` (accounts that
other hosts are to give back) and `recalled` (tokens of recalls that are done). Time is given.

The one rule that everything here serves: what is held or charged is always taken from a lease, a
lease is credit that the store has set apart, and the store counts a charge only with the row that
explains it. So whatever a crash makes this forget costs nobody anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from farebox.billing import messages as m
from farebox.billing.credit import IDLE_S, Credit
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
from farebox.billing.parties import OpenCall, Waiting, Worker, tell
from farebox.billing.purse import Purse

START_S = 1.0  # for workers to tell a new ledger what the one before had held for them


class Ledger(Credit):
    """See the module. `halted` stops all holds; what is in flight is still charged."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        super().__init__(idle_s)
        self.halted = False
        self._workers: set[Worker] = set()
        self._calls: dict[str, OpenCall] = {}  # that are held for
        self._writing: dict[str, OpenCall] = {}  # that are over
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

    def come(self) -> Worker:
        """A connection was made."""
        worker = Worker()
        self._workers.add(worker)
        return worker

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
            lease, limit = purse.take(amount, now_s), hold.budget or 0
            self._note(request_id, OpenCall(worker, purse, lease, amount, budget, limit))
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
            worker.answers.append(m.Held(request_id, call.amount))
        elif request_id in self._asking:
            self._asking[request_id].worker = worker
        elif self.halted:
            worker.answers.append(m.Refused(request_id, "away"))
        elif self._resumes_due:
            self._deferred[request_id] = (worker, request)
        else:
            purse, most, limit = self._purses[request.account_id], request.most, request.budget
            if limit is None and most <= purse.free and not purse.queue:
                # So it is with nearly every call, and need not be noted as waiting first.
                purse.calls += 1
                call = OpenCall(worker, purse, purse.take(most, now_s), most, None)
                self._calls[request_id] = call
                worker.answers.append(m.Held(request_id, most))
                if purse.free * 2 < purse.block:
                    self._top_up(purse, now_s)
                return
            budget = self._budget(request.key_id, request.account_id, limit, request.since_us)
            waiting = Waiting(worker, request, request.least, most, budget, limit or 0)
            self._asking[request_id] = waiting
            self._wait(purse, waiting, now_s)

    def extend(self, worker: Worker, request: m.Extend, now_s: float) -> None:
        """Hold more for a call that is held for."""
        call = self._calls.get(request.request_id)
        if call is None or self.halted:
            worker.answers.append(m.Refused(request.request_id, "away"))
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
        if request_id in self._spooled:
            self._end(request_id, now_s)
            spooled = self._spooled[request_id]
            worker.answers.append(m.Settled(request_id, spooled.charge, spooled.absorbed))
            return
        call = self._calls.pop(request_id, None)
        if call is None or call.purse.account_id != entry.account_id:
            if call is not None:
                self._free(call, now_s)
            call = OpenCall(worker, self._purses[entry.account_id], None, 0, None)
        else:
            call.worker = worker
            call.purse.calls -= 1
            if call.budget is not None:
                call.budget.held -= call.amount
        self._writing[request_id] = call
        job = call.purse.post(call, entry, entry.due, call.amount, now_s)
        if job is not None:
            self.jobs.append(job)
        else:
            self._wait_for_charge(call, entry)
        if call.purse.queue:
            self._serve(call.purse, now_s)

    def delivered(self, request_ids: Iterable[str]) -> None:
        """The clients have all of their answers, whichever connections were told the charges: two
        of them were if the store was away the second time.
        """
        for each in self._workers:
            each.undelivered.difference_update(request_ids)

    def gone(self, worker: Worker, now_s: float) -> None:
        """A worker's connection has ended. If it lives, it connects again and says once more all
        that counts; if it died, what is not on its way into the store yet is not charged.
        """
        for request_id in [key for key, call in self._calls.items() if call.worker is worker]:
            self._end(request_id, now_s)
        deferred = self._deferred.items()
        self._deferred = {key: each for key, each in deferred if each[0] is not worker}
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
        self._workers.discard(worker)
        left = worker.undelivered.difference(*(each.undelivered for each in self._workers))
        self._mark(sorted(left))

    def done(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now_s: float) -> None:
        """A batch was done, or could not be: one outcome for each job."""
        writing = self._writing
        for job, outcome in zip(jobs, outcomes, strict=True):
            # What nearly always is comes first: isinstance is slow to say no of a Struct.
            if not isinstance(job, Post):
                self._done(job, outcome, now_s)
                continue
            entry = job.entry
            request_id = entry.request_id
            call = writing.pop(request_id)
            worker, lease = call.worker, call.lease
            if lease is not None:
                lease.posted -= 1
            if call.budget is not None:
                call.budget.end_post(call.amount, outcome)
            if not isinstance(outcome, Posted):
                self._not_posted(call, entry, outcome, now_s)
            else:
                if not outcome.inserted:
                    self._was_posted(call, entry, outcome)
                if worker is None:
                    self._mark_lost(entry, outcome)
                else:
                    worker.answers.append(m.Settled(request_id, outcome.charge, outcome.absorbed))
                    if outcome.charge and entry.outcome == "complete":
                        worker.undelivered.add(request_id)
            if call.purse.queue:
                self._serve(call.purse, now_s)

    # How it is done.

    def _done(self, job: Job, outcome: Outcome, now_s: float) -> None:
        if isinstance(job, Grant):
            self._granted(job, outcome, now_s)
        elif isinstance(job, Return):
            self._returned(job, outcome)
        elif isinstance(job, Spending):
            self._read(job, outcome, now_s)
        elif isinstance(job, Undelivered):
            self._marked(job, outcome)

    def _start(self, now_s: float) -> None:
        """All that was held is known; others may be held for."""
        self._resumes_due = 0
        self._ticked_s = now_s
        deferred, self._deferred = self._deferred, {}
        for worker, request in deferred.values():
            self.hold(worker, request, now_s)

    def _asks(self, worker: Worker, waiting: Waiting) -> bool:
        if isinstance(waiting.request, Entry):
            return self._writing[waiting.request.request_id].worker is worker
        return waiting.worker is worker

    def _note(self, request_id: str, call: OpenCall) -> None:
        self._calls[request_id] = call
        call.purse.calls += 1
        if call.budget is not None:
            call.budget.held += call.amount

    def _end(self, request_id: str, now_s: float) -> OpenCall | None:
        """Forget a call in flight; what was held for it is free."""
        call = self._calls.pop(request_id, None)
        if call is not None:
            self._free(call, now_s)
        return call

    def _free(self, call: OpenCall, now_s: float) -> None:
        call.purse.calls -= 1
        call.purse.give_back(call.amount, call.lease, now_s)
        if call.budget is not None:
            call.budget.held -= call.amount

    def _give(self, waiting: Waiting, purse: Purse, amount: int, now_s: float) -> None:
        request = waiting.request
        if isinstance(request, Entry):
            call = self._writing[request.request_id]
            job = purse.post(call, request, amount, 0, now_s)
            assert job is not None, "it was free"
            self.jobs.append(job)
        elif isinstance(request, m.Hold):
            lease = purse.take(amount, now_s)
            del self._asking[request.request_id]
            call = OpenCall(waiting.worker, purse, lease, amount, waiting.budget, waiting.limit)
            self._note(request.request_id, call)
            tell(waiting.worker, m.Held(request.request_id, amount))
        else:
            self._lengthen(waiting.worker, request.request_id, amount, now_s)

    def _lengthen(self, worker: Worker | None, request_id: str, amount: int, now_s: float) -> None:
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
        tell(worker, m.Held(request_id, call.amount))

    def _refuse(self, waiting: Waiting, refusal: m.Refused) -> None:
        self._asking.pop(refusal.request_id, None)
        tell(waiting.worker, refusal)

    def _wait_for_charge(self, call: OpenCall, entry: Entry) -> None:
        """It goes before those who wait to be held for: it has been sent already."""
        call.purse.queue.appendleft(Waiting(call.worker, entry, 0, entry.due))

    def _not_posted(self, call: OpenCall, entry: Entry, outcome: Outcome, now_s: float) -> None:
        if isinstance(outcome, LeaseGone):
            if call.lease is not None and call.lease is call.purse.lease:
                self._lose(call.purse, call.lease)
            self._writing[entry.request_id] = call
            job = call.purse.post(call, entry, entry.due, 0, now_s)
            if job is not None:
                self.jobs.append(job)
            else:
                self._wait_for_charge(call, entry)
        else:
            call.purse.uncharge(call.amount, call.lease)  # it is not written at all
            reason = outcome.reason if isinstance(outcome, Rejected) else "away"
            tell(call.worker, m.NotSettled(entry.request_id, reason))

    def _was_posted(self, call: OpenCall, entry: Entry, posted: Posted) -> None:
        """It was written before, and perhaps told to another worker. Now it is this one's to say
        that the client has its answer.
        """
        call.purse.uncharge(call.amount, call.lease)
        if call.worker is not None and posted.charge and entry.outcome == "complete":
            for other in self._workers:
                other.undelivered.discard(entry.request_id)

    def _mark_lost(self, entry: Entry, posted: Posted) -> None:
        """Its worker has gone, and cannot say any more whether the client has its answer."""
        if posted.charge and entry.outcome == "complete":
            self._mark([entry.request_id])

    def _mark(self, request_ids: Sequence[str]) -> None:
        if request_ids:
            self.jobs.append(Undelivered(tuple(request_ids)))

    def _withdraw(self, worker: Worker) -> None:
        """Charges of this worker that nobody has taken to the store yet are not made."""
        kept: list[Job] = []
        for job in self.jobs:
            writing = self._writing.get(job.entry.request_id) if isinstance(job, Post) else None
            if isinstance(job, Post) and writing is not None and writing.worker is worker:
                del self._writing[job.entry.request_id]
                if writing.lease is not None:
                    writing.lease.posted -= 1
                writing.purse.uncharge(writing.amount, writing.lease)
                if writing.budget is not None:
                    writing.budget.posted -= writing.amount
            else:
                kept.append(job)
        self.jobs[:] = kept
        for writing in self._writing.values():
            if writing.worker is worker:
                writing.worker = None

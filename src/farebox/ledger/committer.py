"""The thread between a ledger and its store: batches are done here, or set aside while the store
is away.

A batch is what gathered while the one before was done. When the store cannot be written, charges
go to the spool and count; the store is tried again and again with what waits there, and what it has
committed is dropped from the spool. Nothing is decided here that costs anybody anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import structlog

from farebox.billing.jobs import (
    EVERYTHING,
    Away,
    Job,
    LeaseGone,
    Outcome,
    Post,
    Posted,
    Rejected,
    Return,
    Undelivered,
)
from farebox.core import clock
from farebox.ledger.ports import LedgerStore, SpoolPort
from farebox.ledger.reserve import Reserve, is_full

MOST_JOBS = 500  # in one transaction: what is asked meanwhile waits for it
RETRY_S = 0.25  # while the store is away
PATIENCE_MS = 1_000  # of one attempt: then the spool takes the calls, whose answers wait for this
_RETRY_MS = 100  # of one while it is away, which whoever settles meanwhile waits for too
_RESERVE_S = 1.0  # while the disk is full
_AWAY = Away()

_log = structlog.get_logger(__name__)


class Watch(Protocol):
    """Who is told what the committer does. Called in its thread."""

    def committed(self, jobs: Sequence[Job], took_s: float) -> None:
        """These were done in one transaction."""
        ...

    def spooled(self, calls: int) -> None:
        """So many calls wait in the spool now."""
        ...

    def rejected(self, calls: int) -> None:
        """So many calls could not be written, and never will be."""
        ...


class Committer:
    """See the module. `tell` gets the outcomes, in the thread; `away` is what the store raises when
    it cannot be written. Without `may_spool`, what waits in the spool is shipped, and no more put
    there.
    """

    def __init__(
        self,
        store: LedgerStore,
        spool: SpoolPort,
        reserve: Reserve,
        watch: Watch,
        *,
        may_spool: bool,
        away: type[Exception],
        tell: Callable[[Sequence[Job], Sequence[Outcome]], None],
    ) -> None:
        self._store = store
        self._spool = spool
        self._reserve = reserve
        self._watch = watch
        self._may_spool = may_spool
        self._away = away
        self._tell = tell
        self._inbox: SimpleQueue[Sequence[Job] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._waiting = len(spool)
        self._is_away = False
        self._retry_s = 0.0  # when the store is tried again
        self._reserve_s = 0.0  # when the reserve is made again
        self.is_full = not reserve.make()  # read by others: nothing new may be begun
        watch.spooled(self._waiting)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Do these; the outcomes are told. The next only when they were."""
        self._inbox.put(jobs)

    def stop(self) -> None:
        """End when what was submitted is done and, if the store takes it, the spool is empty."""
        self._inbox.put(None)
        self._thread.join()

    @property
    def spooled(self) -> int:
        """How many calls wait in the spool."""
        return self._waiting

    # The thread.

    def _run(self) -> None:
        while True:
            try:
                jobs = self._inbox.get(timeout=self._patience_s())
            except Empty:
                jobs = ()
            if jobs is None:
                break
            if jobs:
                self._tell(jobs, self.commit(jobs))
            self.recover()
        while self._waiting and not self._is_away:
            self.recover()

    def _patience_s(self) -> float | None:
        now_s = clock.monotonic_s()
        if self._is_away:
            return max(0.0, self._retry_s - now_s)
        if self._waiting:
            return 0.0
        return max(0.0, self._reserve_s - now_s) if self.is_full else None

    def commit(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """Do these, or set them aside; one outcome for each."""
        try:
            outcomes = self._done(jobs)
        except Exception as error:  # noqa: BLE001
            # A defect. It must not end the thread, and with it all that others do.
            _log.exception("batch_failed", jobs=len(jobs))
            outcomes = [Rejected(f"{type(error).__name__}: {error}")] * len(jobs)
        self._note_rejected(jobs, outcomes)
        return outcomes

    def recover(self) -> None:
        """What is to be tried again and again: the store, and making the reserve."""
        now_s = clock.monotonic_s()
        try:
            if self._is_away and now_s >= self._retry_s:
                self._retry_s = now_s + RETRY_S
                self._ship()
            elif self._waiting and not self._is_away:
                self._ship()
        except Exception:  # noqa: BLE001 (as above)
            _log.exception("spool_not_shipped")
            self._is_away, self._retry_s = True, clock.monotonic_s() + RETRY_S
        if self.is_full and now_s >= self._reserve_s:
            self._reserve_s = now_s + _RESERVE_S
            if self._reserve.make():
                self.is_full = False
                _log.warning("disk_has_room_again")

    def _done(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        if self._is_away:
            return self._set_aside(jobs)
        if not self._waiting:
            if Return in map(type, jobs):
                jobs = [_whole(job) if isinstance(job, Return) else job for job in jobs]
            outcomes = self._try(tuple(jobs))
            return self._set_aside(jobs) if outcomes is None else outcomes
        # The store works, but what came before has not all been shipped: charges join it, so that
        # there is one order, and one place to look for a call that is said again.
        now = [job for job in jobs if not self._must_wait(job)]
        done = iter((self._try(now) if now else None) or [_AWAY] * len(now))
        aside = self._set_aside(jobs) if self._may_spool else [_AWAY] * len(jobs)
        return [
            outcome if self._must_wait(job) else next(done)
            for job, outcome in zip(jobs, aside, strict=True)
        ]

    def _must_wait(self, job: Job) -> bool:
        """Whether this may not be done before what waits in the spool; of leases, see `_whole`."""
        if isinstance(job, Post):
            return self._may_spool
        if isinstance(job, Undelivered):
            return True  # there may be no row yet to be marked
        return isinstance(job, Return) and job.close

    def _try(self, jobs: Sequence[Job], patience_ms: int = PATIENCE_MS) -> list[Outcome] | None:
        """Do these in the store; None: it is away."""
        began_s = clock.monotonic_s()
        try:
            try:
                outcomes = self._store.do(jobs, patience_ms)
            except self._away as error:
                if not self._make_room(error):
                    raise
                outcomes = self._store.do(jobs, patience_ms)
        except self._away as error:
            if not self._is_away:
                _log.error("store_away", reason=str(error))
            self._is_away, self._retry_s = True, clock.monotonic_s() + RETRY_S
            return None
        if jobs:
            self._watch.committed(jobs, clock.monotonic_s() - began_s)
        return outcomes

    def _set_aside(self, jobs: Sequence[Job]) -> list[Outcome]:
        posts = [job for job in jobs if isinstance(job, Post)]
        kept = iter(self._keep(posts) if posts else [])
        return [next(kept, _AWAY) if isinstance(job, Post) else _AWAY for job in jobs]

    def _keep(self, posts: Sequence[Post]) -> list[Posted]:
        """Put them into the spool; nothing if it cannot be written either."""
        if not self._may_spool:
            return []
        try:
            try:
                kept = self._spool.add(posts)
            except Exception as error:
                if not self._make_room(error):
                    raise
                kept = self._spool.add(posts)
        except Exception:  # noqa: BLE001 (whatever it was, these calls are not charged)
            _log.exception("spool_not_written", calls=len(posts))
            return []
        self._count(sum(posted.inserted for posted in kept))
        return kept

    def _ship(self) -> None:
        """Try the store with the oldest of what waits: it is away until it takes that."""
        posts = self._spool.oldest(MOST_JOBS) if self._waiting else []
        outcomes = self._try(posts, _RETRY_MS if self._is_away else PATIENCE_MS)
        if outcomes is None:
            return
        try:
            outcomes = [
                self._store.settle_apart(post) if isinstance(outcome, LeaseGone) else outcome
                for post, outcome in zip(posts, outcomes, strict=True)
            ]
        except self._away:
            return  # those that were settled stay settled when they are shipped again
        self._note_rejected(posts, outcomes)
        if posts:
            self._spool.drop([post.entry.request_id for post in posts])
            self._count(-len(posts))
        elif self._waiting:
            # Somebody deleted the file. Those are lost, and must not be waited for.
            _log.error("spool_lost", calls=self._waiting)
            self._count(-self._waiting)
        if self._is_away:
            self._is_away = False
            _log.warning("store_back", spooled=self._waiting)

    def _count(self, more: int) -> None:
        self._waiting += more
        self._watch.spooled(self._waiting)

    def _note_rejected(self, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        if Rejected not in map(type, outcomes):  # as nearly always, and this is quick to say so
            return
        calls = sum(
            isinstance(outcome, Rejected) and isinstance(job, Post)
            for job, outcome in zip(jobs, outcomes, strict=True)
        )
        if calls:
            self._watch.rejected(calls)

    def _make_room(self, error: Exception) -> bool:
        """Whether the disk was full, and has some room now."""
        if not is_full(error):
            return False
        if not self.is_full:
            _log.error("disk_full", reason=str(error))
        self.is_full = True
        self._reserve_s = clock.monotonic_s() + _RESERVE_S
        return self._reserve.give_up()


def _whole(job: Return) -> Return:
    """A lease is closed when nothing of it waits in the spool. Then all that is left of it goes
    back, also what its ledger does not know of: a charge that was committed unheard, and told again
    while the store was away, or found in the spool by a new ledger, was counted twice there.
    """
    if job.close:
        return Return(job.lease_id, job.account_id, EVERYTHING, close=True)
    return job

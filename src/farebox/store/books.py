"""The store in the hands of one ledger process: its jobs done in batches, its leases, its name.

To be used by one thread. What a batch comes to is posting.py's; what others may know and do of
leases is leases.py's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import msgspec
import structlog
from msgspec.structs import asdict

from farebox.billing.jobs import (
    Grant,
    Granted,
    Job,
    OpenLease,
    Outcome,
    Post,
    Posted,
    Rejected,
    Return,
)
from farebox.core import clock
from farebox.store.errors import StoreError
from farebox.store.leases import Leases
from farebox.store.posting import Batch
from farebox.store.tables import Tables

PATIENCE_MS = 1_000  # then the spool takes the calls, whose answers wait for this
_REASON_CHARS = 500

_log = structlog.get_logger(__name__)


class _BadJob(Exception):
    """One of the jobs cannot be done; none of the batch was."""


class OwnedBooks:
    """See the module. `owner` is who takes the leases: see owner.py."""

    def __init__(self, store: Leases, owner: str) -> None:
        self._store = store
        self._owner = owner
        # Of batches that failed, perhaps after they were done; see Batch.
        self._unsure: dict[int, tuple[int, int]] = {}
        self._given_back: dict[int, int] = {}

    def begin(self, is_dead: Callable[[str], bool]) -> list[OpenLease]:
        """Register the owner; the leases that it has from an earlier life. Raises StoreError.

        A SQLite store is one host's: what owners of that host left that have ended is given back,
        `is_dead` says of which. With PostgreSQL others may live elsewhere, and nobody is asked.
        """
        self._store.beat(self._owner, socket.gethostname())
        if not self._store.is_postgresql:
            others = {each.owner for each in self._store.leases() if each.is_usable}
            for owner in sorted(others - {self._owner}):
                if is_dead(owner):
                    self._store.drive(
                        lambda tables, owner=owner: _close(tables, owner), PATIENCE_MS
                    )
        return self.unspent()

    def unspent(self) -> list[OpenLease]:
        """This owner's leases that may be charged, with what is not spent of them. Raises
        StoreError.
        """
        return self._store.drive(lambda tables: tables.unspent(self._owner), PATIENCE_MS)

    def do(self, jobs: Sequence[Job], patience_ms: int = PATIENCE_MS) -> list[Outcome]:
        """Do these in one transaction, in order; one outcome for each, never Away.

        Raises StoreError when the store cannot be written, or not within about `patience_ms`. Then
        nothing was done, or all of it, if only the answer was lost. Either is made good by doing
        the same again: a call that is written is not written twice, and the next batch gives back
        what this one granted or, if it returned credit, does not return it once more.
        """
        batch = self._batch(jobs)
        try:
            outcomes = self._drive(batch, patience_ms)
        except _BadJob:
            outcomes = self._one_by_one(jobs, patience_ms)
        else:
            self._is_done(batch)
        return outcomes

    def settle_apart(self, post: Post, patience_ms: int = PATIENCE_MS) -> Outcome:
        """Settle a call whose lease is gone, which waited in the spool for too long: charge what
        its account has, by a lease that is made and closed for it; the rest is absorbed.

        The outcome as of a Post, never LeaseGone. Raises StoreError.
        """
        entry, now_us = post.entry, clock.now_us()

        def work(tables: Tables) -> Outcome:
            grant = Grant(entry.account_id, None, 1, entry.due, entry.due, hosts=1, owed=entry.due)
            (granted,) = Batch(self._owner, [grant], now_us).run(tables)
            assert isinstance(granted, Granted)
            charge = granted.amount
            again = Post(entry, granted.lease_id, charge, entry.due - charge)
            (outcome,) = Batch(self._owner, [again], now_us).run(tables)
            if granted.lease_id is not None:
                is_new = isinstance(outcome, Posted) and outcome.inserted
                rest = 0 if is_new else charge
                close = Return(granted.lease_id, entry.account_id, rest, close=True)
                Batch(self._owner, [close], now_us).run(tables)
            return outcome

        return self._store.drive(work, patience_ms)

    def _batch(self, jobs: Sequence[Job]) -> Batch:
        return Batch(self._owner, jobs, clock.now_us(), self._unsure, self._given_back)

    def _drive(self, batch: Batch, patience_ms: int) -> list[Outcome]:
        def work(tables: Tables) -> list[Outcome]:
            try:
                return batch.run(tables)
            except Exception as error:
                if tables.is_away(error):
                    raise
                raise _BadJob from error

        try:
            return self._store.drive(work, patience_ms)
        except StoreError:
            self._is_unsure(batch)
            raise

    def _is_done(self, batch: Batch) -> None:
        self._unsure = {}
        self._given_back = batch.given_back

    def _is_unsure(self, batch: Batch) -> None:
        # What was before the first of several failures counts.
        self._unsure = batch.before | self._unsure

    def _one_by_one(self, jobs: Sequence[Job], patience_ms: int) -> list[Outcome]:
        """One of them is bad. Which, is found by doing each within a savepoint."""
        batches = [self._batch(())]

        def work(tables: Tables) -> list[Outcome]:
            batches[-1].run(tables)
            outcomes: list[Outcome] = []
            for job in jobs:
                batches.append(self._after(batches[-1], job))
                tables.execute("SAVEPOINT job")
                try:
                    outcomes += batches[-1].run(tables)
                except Exception as error:
                    if tables.is_away(error):
                        raise
                    tables.execute("ROLLBACK TO SAVEPOINT job")
                    outcomes.append(_reject(tables, job, error))
                    batches.pop()
                tables.execute("RELEASE SAVEPOINT job")
            return outcomes

        try:
            outcomes = self._store.drive(work, patience_ms)
        except StoreError:
            for batch in batches:
                self._is_unsure(batch)
            raise
        self._is_done(batches[-1])
        return outcomes

    def _after(self, before: Batch, job: Job) -> Batch:
        return Batch(self._owner, [job], clock.now_us(), None, before.given_back)


def _close(tables: Tables, owner: str) -> None:
    returns = [
        Return(each.lease_id, each.account_id, each.unspent, close=True)
        for each in tables.unspent(owner)
    ]
    Batch(owner, returns, clock.now_us()).run(tables)


def _reject(tables: Tables, job: Job, error: Exception) -> Rejected:
    reason = f"{type(error).__name__}: {error}"[:_REASON_CHARS]
    request_id = job.entry.request_id if isinstance(job, Post) else None
    _log.error(
        "a job of the ledger cannot be done",
        job=type(job).__name__,
        request_id=request_id,
        reason=reason,
    )
    if isinstance(job, Post):
        # As JSON, any text can be kept, and whoever mends it finds every field.
        entry = msgspec.json.encode(asdict(job.entry)).decode()
        tables.reject((str(request_id), entry, reason, clock.now_us()))
    return Rejected(reason)

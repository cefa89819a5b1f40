"""The books of one worker: holds and settlements asked on the event loop, written by one thread.

What waits when the writer is free is committed together; each call keeps its own answer.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from sqlite3 import Connection
from time import sleep
from typing import Any

from farebox.core import clock
from farebox.core.ports import HoldRequest, Settled, Settlement
from farebox.errors import BillingUnavailable
from farebox.store.calls import hold_in, release_in, settle_in
from farebox.store.store import Store

PATIENCE_S = 10.0  # after that, the caller is told that the books cannot be written
TRY_MS = 1_000  # of one attempt, so that those who come later are not late because of the first
RETRY_S = 0.05
OWED_RETRY_S = 0.5  # while nobody waits for an answer
TOGETHER = 100  # calls in one commit: enough to make a sync cheap, few enough to stay quick

Work = Callable[[Connection], Any]


@dataclass(slots=True)
class _Job:
    """Work to be done within some transaction, by a time, for somebody who waits (or nobody)."""

    request_id: str
    work: Work
    deadline_s: float
    answer: asyncio.Future[Any] | None
    settles: bool = False  # a call, which has a hold to give back if this cannot be done


class StoreBooks:
    """core.ports.Books over a Store. To be used on one event loop, closed at the end."""

    def __init__(self, store: Store, owner: str, patience_s: float = PATIENCE_S) -> None:
        self._store = store
        self._owner = owner
        self._patience_s = patience_s
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="books")
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._busy = False
        self._closing = False
        self._owed: list[_Job] = []  # the thread's own: holds to give back

    async def hold(self, request: HoldRequest) -> int:
        """Reserve; the nano-credits held. Raises OutOfCredit, Unauthorized, BillingUnavailable."""
        try:
            return await self._ask(
                request.request_id, partial(hold_in, request=request, owner=self._owner)
            )
        except asyncio.CancelledError:
            # Nobody will settle what was (or is just being) held for a caller that gave up.
            self._put(_give_back(request.request_id))
            raise

    async def settle(self, settlement: Settlement) -> Settled:
        """Charge and write the call. Raises BillingUnavailable when it could not be written."""
        work = partial(settle_in, settlement=settlement)
        return await self._ask(settlement.request_id, work, settles=True)

    async def close(self) -> None:
        """Write what still waits, then stop the thread.

        Holds that cannot be given back by then are released with all others of this owner.
        """
        self._closing = True
        await asyncio.to_thread(self._writer.shutdown)

    async def _ask(self, request_id: str, work: Work, *, settles: bool = False) -> Any:
        answer = asyncio.get_running_loop().create_future()
        deadline_s = clock.monotonic_s() + self._patience_s
        self._put(_Job(request_id, work, deadline_s, answer, settles))
        return await answer

    def _put(self, job: _Job) -> None:
        with self._lock:
            self._waiting.append(job)
            if self._busy:
                return
            self._busy = True
        self._writer.submit(self._write)

    def _write(self) -> None:
        """Runs in the thread until nothing waits and nothing is owed."""
        while jobs := self._take():
            try:
                results = self._store.together([job.work for job in jobs], TRY_MS)
            except Exception as error:  # noqa: BLE001 (a writer that ended would answer nobody)
                self._keep_or_refuse(jobs, error)
            else:
                # What failed by a fault of its own was undone alone; its hold must still go.
                self._owed += _owed(
                    job
                    for job, result in zip(jobs, results, strict=True)
                    if isinstance(result, Exception)
                )
                self._answer(jobs, results)

    def _take(self) -> list[_Job]:
        with self._lock:
            jobs = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
            if jobs or not self._closing:
                # Holds that could not be given back before, with whatever comes next or alone.
                jobs += self._owed
                self._owed = []
            self._busy = bool(jobs)
        return jobs

    def _keep_or_refuse(self, jobs: list[_Job], error: Exception) -> None:
        """Nothing of these was written: try again those that have time left, refuse the others."""
        now_s = clock.monotonic_s()
        kept = [job for job in jobs if job.answer is not None and now_s < job.deadline_s]
        late = [job for job in jobs if job.answer is not None and now_s >= job.deadline_s]
        with self._lock:
            self._waiting.extendleft(reversed(kept))
        # A call whose settlement was refused is not charged, so its hold is owed back too.
        self._owed += [job for job in jobs if job.answer is None]
        self._owed += _owed(late)
        refusal = BillingUnavailable("The books cannot be written at the moment. Try again later.")
        refusal.__cause__ = error
        self._answer(late, [refusal] * len(late))
        sleep(RETRY_S if kept else OWED_RETRY_S)

    def _answer(self, jobs: list[_Job], results: Sequence[object]) -> None:
        answers = [
            (job.answer, result)
            for job, result in zip(jobs, results, strict=True)
            if job.answer is not None
        ]
        if answers:
            # A loop that was closed meanwhile has nobody left who waits; what is written stays.
            with suppress(RuntimeError):
                answers[0][0].get_loop().call_soon_threadsafe(_deliver, answers)


def _give_back(request_id: str) -> _Job:
    return _Job(request_id, partial(release_in, request_id=request_id), 0.0, None)


def _owed(jobs: Iterable[_Job]) -> list[_Job]:
    return [_give_back(job.request_id) for job in jobs if job.settles]


def _deliver(answers: list[tuple[asyncio.Future[Any], object]]) -> None:
    for answer, result in answers:
        if answer.done():
            continue  # its task was cancelled
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)

"""The thread between a ledger and its store: what happens to jobs when the store is there, away,
full, or lies.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from farebox.billing.entry import entry_of
from farebox.billing.jobs import (
    EVERYTHING,
    Away,
    Done,
    Grant,
    Granted,
    Job,
    LeaseGone,
    Outcome,
    Post,
    Posted,
    Rejected,
    Return,
    Undelivered,
)
from farebox.ledger.committer import MOST_JOBS, Committer
from farebox.ledger.reserve import Reserve, is_full
from farebox.store.errors import StoreError
from farebox.store.spool import Spool
from tests.settlements import settlement
from tests.test_supervisor import until

GRANT = Grant(1, None, 5, 5, 10, 1)
GRANTED = Granted(7, 10, 90, 0, 10)
BACK = Return(7, 1, 3, close=False)
RESERVE_BYTES = 65536


def post(request_id: str = "req_1", due: int = 9, lease_id: int | None = 7) -> Post:
    return Post(entry_of(settlement(request_id=request_id, due_nanocredits=due)), lease_id, due, 0)


class FakeStore:
    """Keeps what was done. `fails` is raised before the next attempts, `lies` after them."""

    def __init__(self) -> None:
        self.fails: list[Exception] = []  # one an attempt
        self.is_away = False
        self.lies = False
        self.gone: set[str] = set()  # calls whose lease is gone
        self.batches: list[Sequence[Job]] = []
        self.apart: list[Post] = []
        self.written: dict[str, Post] = {}

    def do(self, jobs: Sequence[Job], patience_ms: int) -> list[Outcome]:
        if self.fails:
            raise self.fails.pop(0)
        if self.is_away:
            raise StoreError("the store is away")
        self.batches.append(jobs)
        outcomes = [self._do(job) for job in jobs]
        if self.lies:
            raise StoreError("the connection broke")
        return outcomes

    def _do(self, job: Job) -> Outcome:
        if isinstance(job, Grant):
            return GRANTED
        if not isinstance(job, Post):
            return Done()
        request_id = job.entry.request_id
        if request_id in self.gone:
            return LeaseGone()
        is_new = self.written.setdefault(request_id, job) is job
        return Posted(job.charge, job.absorbed, inserted=is_new)

    def settle_apart(self, post: Post) -> Outcome:
        self.apart.append(post)
        return Posted(post.charge, post.absorbed, inserted=True)


@dataclass
class Watched:
    """What the committer's watch is told."""

    batches: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    rejections: int = 0

    def committed(self, jobs: Sequence[Job], took_s: float) -> None:
        assert took_s >= 0
        self.batches.append(len(jobs))

    def spooled(self, calls: int) -> None:
        self.waiting.append(calls)

    def rejected(self, calls: int) -> None:
        self.rejections += calls


@dataclass
class Parts:
    """A committer at work, and all that it has to do with."""

    committer: Committer
    store: FakeStore
    spool: Spool
    watched: Watched
    told: SimpleQueue[tuple[Sequence[Job], Sequence[Outcome]]]
    reserve: Path

    def does(self, *jobs: Job) -> list[Outcome]:
        """The outcomes of these, in one batch."""
        self.committer.submit(jobs)
        told, outcomes = self.told.get(timeout=10)
        assert told == jobs
        return list(outcomes)


Made = Callable[..., Parts]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """Makes parts that are stopped at the end."""
    all_parts: list[Parts] = []

    def make(**options: Any) -> Parts:
        store, watched = FakeStore(), Watched()
        spool = Spool(tmp_path / "spool.db")
        told: SimpleQueue[tuple[Sequence[Job], Sequence[Outcome]]] = SimpleQueue()
        committer = Committer(
            store,
            spool,
            Reserve(tmp_path / "reserve", RESERVE_BYTES),
            watched,
            may_spool=options.get("may_spool", True),
            away=StoreError,
            tell=lambda jobs, outcomes: told.put((jobs, outcomes)),
        )
        parts = Parts(committer, store, spool, watched, told, tmp_path / "reserve")
        if options.get("runs", True):
            committer.start()
            all_parts.append(parts)
        return parts

    yield make
    for parts in all_parts:
        parts.committer.stop()
        parts.spool.close()


@pytest.fixture
def parts(made: Made) -> Parts:
    return made()


def _full() -> StoreError:
    """As the store says it."""
    error = StoreError("The store failed: database or disk is full.")
    error.__cause__ = sqlite3.OperationalError("database or disk is full")
    error.__cause__.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_a_batch_is_one_transaction(parts: Parts) -> None:
    """With an outcome for each job, in order."""
    assert parts.does(GRANT, post(), BACK) == [GRANTED, Posted(9, 0, inserted=True), Done()]
    assert parts.store.batches == [(GRANT, post(), BACK)]
    assert parts.watched.batches == [3]


def test_while_the_store_is_away_charges_count_and_nothing_else_is_done(parts: Parts) -> None:
    """They are on the disk; whoever wants credit hears that the books are away."""
    parts.store.is_away = True
    assert parts.does(GRANT, post(), BACK) == [Away(), Posted(9, 0, inserted=True), Away()]
    assert parts.does(post("req_2")) == [Posted(9, 0, inserted=True)]
    assert parts.spool.oldest(10) == [post(), post("req_2")]
    assert parts.watched.waiting == [0, 1, 2]


def test_a_call_that_is_said_again_is_spooled_once(parts: Parts) -> None:
    """And its amounts stay those of the first time."""
    parts.store.is_away = True
    parts.does(post(due=9))
    assert parts.does(post(due=5)) == [Posted(9, 0, inserted=False)]
    assert parts.spool.oldest(10) == [post(due=9)]


def test_the_spool_is_shipped_when_the_store_is_back(parts: Parts) -> None:
    """By the same jobs, once; then nothing waits, and batches go to the store again."""
    parts.store.is_away = True
    for number in range(3):
        parts.does(post(f"req_{number}"))
    parts.store.is_away = False
    until(lambda: parts.committer.spooled == 0, "the spool is empty")
    assert parts.store.batches == [[post(f"req_{number}") for number in range(3)]]
    until(lambda: parts.does(GRANT) == [GRANTED], "credit is to be had")
    assert len(parts.spool) == 0


def test_a_lease_is_closed_whole_and_after_what_waits_for_it(parts: Parts) -> None:
    """While a charge of it may be in the spool it is not given up; then all that is left of it
    goes back, also what its ledger counted twice.
    """
    close = Return(7, 1, 3, close=True)
    parts.store.fails = [StoreError("the store is away")]
    assert parts.does(post()) == [Posted(9, 0, inserted=True)]
    until(lambda: parts.does(close) == [Done()], "closed")
    assert parts.store.batches[-1] == (Return(7, 1, EVERYTHING, close=True),)
    assert list(parts.store.written) == ["req_1"]


def test_a_store_that_did_it_and_could_not_say_so_charges_once(parts: Parts) -> None:
    """The connection broke between the commit and its answer: the spool is shipped to a store that
    has it already.
    """
    parts.store.lies = True
    assert parts.does(post()) == [Posted(9, 0, inserted=True)]
    assert list(parts.store.written) == ["req_1"]
    parts.store.lies = False
    until(lambda: parts.committer.spooled == 0, "the spool is empty")
    assert parts.store.written == {"req_1": post()}


def test_many_that_wait_are_shipped_in_batches(parts: Parts) -> None:
    """In order, each no larger than a batch may be."""
    parts.store.is_away = True
    posts = [post(f"req_{number:04}") for number in range(MOST_JOBS + 1)]
    parts.does(*posts)
    parts.store.is_away = False
    until(lambda: parts.committer.spooled == 0, "the spool is empty")
    assert [list(batch) for batch in parts.store.batches if batch] == [
        posts[:MOST_JOBS],
        posts[MOST_JOBS:],
    ]


def test_a_call_is_marked_when_its_row_is_there(made: Made) -> None:
    """Whose end did not arrive may wait in the spool: its mark is set after it was shipped."""
    parts = made(runs=False)
    posts = [post(f"req_{number:04}") for number in range(MOST_JOBS + 1)]
    mark = Undelivered((posts[-1].entry.request_id,))
    parts.store.is_away = True
    parts.committer.commit(posts)
    parts.store.is_away = False

    def are_shipped() -> bool:
        parts.committer.recover()
        return parts.committer.spooled == 1

    until(are_shipped, "all but the last are shipped")
    assert parts.committer.commit([mark]) == [Away()]
    parts.committer.recover()
    assert parts.committer.commit([mark]) == [Done()]
    parts.spool.close()


def test_a_spool_that_was_deleted_is_not_waited_for(parts: Parts) -> None:
    """What was in it is lost. All else goes on, and the thread can end."""
    parts.store.is_away = True
    assert parts.does(post()) == [Posted(9, 0, inserted=True)]
    for file in parts.reserve.parent.glob("spool.db*"):
        file.unlink()
    parts.store.is_away = False
    until(lambda: parts.committer.spooled == 0, "nothing is waited for")
    assert parts.does(post("req_2")) == [Posted(9, 0, inserted=True)]
    assert list(parts.store.written) == ["req_2"]


def test_a_call_whose_lease_is_gone_when_it_is_shipped_is_settled_apart(parts: Parts) -> None:
    """Its client has been answered; its charge is taken from wherever the account has it."""
    parts.store.is_away = True
    parts.does(post(), post("req_2"))
    parts.store.gone = {"req_1"}
    parts.store.is_away = False
    until(lambda: parts.committer.spooled == 0, "the spool is empty")
    assert parts.store.apart == [post()]
    assert list(parts.store.written) == ["req_2"]


def test_without_a_spool_nothing_is_charged_while_the_store_is_away(made: Made) -> None:
    """For disks that do not outlive the process. Afterwards all is as before."""
    parts = made(may_spool=False)
    parts.store.is_away = True
    assert parts.does(post(), GRANT) == [Away(), Away()]
    assert not parts.spool.waiting()
    parts.store.is_away = False
    until(lambda: parts.does(GRANT) == [GRANTED], "credit is to be had")


def test_what_an_earlier_life_spooled_is_shipped(made: Made, tmp_path: Path) -> None:
    """Also when no more may be spooled."""
    spool = Spool(tmp_path / "spool.db")
    spool.add([post()])
    spool.close()
    parts = made(may_spool=False)
    until(lambda: parts.committer.spooled == 0, "the spool is empty")
    assert parts.store.written == {"req_1": post()}


def test_what_cannot_be_spooled_is_not_charged(parts: Parts, tmp_path: Path) -> None:
    """The store is away and the spool's place is taken: it is said, and nothing is lost by it."""
    (tmp_path / "spool.db").mkdir()
    parts.store.is_away = True
    assert parts.does(post()) == [Away()]
    parts.store.is_away = False
    until(lambda: parts.does(post()) == [Posted(9, 0, inserted=True)], "it can be charged again")


def test_a_defect_ends_one_batch_and_not_the_thread(parts: Parts) -> None:
    """Whatever it is: the jobs are rejected, which is counted, and the next are done."""
    parts.store.fails = [ValueError("a defect")]
    assert parts.does(GRANT, post()) == [Rejected("ValueError: a defect")] * 2
    assert parts.watched.rejections == 1
    assert parts.does(GRANT) == [GRANTED]


def test_on_a_full_disk_the_reserve_is_given_up_for_what_is_in_flight(parts: Parts) -> None:
    """The batch is done after all, and nothing new begun until there is room for a reserve."""
    assert parts.reserve.stat().st_size == RESERVE_BYTES
    parts.store.fails = [_full()]
    assert parts.does(post()) == [Posted(9, 0, inserted=True)]
    assert parts.committer.is_full
    until(lambda: not parts.committer.is_full, "there is room again")
    assert parts.reserve.stat().st_size == RESERVE_BYTES


def test_a_disk_that_stays_full_is_a_store_that_is_away(parts: Parts) -> None:
    """Once the reserve is used up, what still fits into the spool is there."""
    parts.store.fails = [_full(), _full()]
    assert parts.does(GRANT, post()) == [Away(), Posted(9, 0, inserted=True)]
    assert parts.committer.is_full


def test_the_end_waits_for_what_can_be_shipped(parts: Parts) -> None:
    """But not for a store that is away: the next life ships the rest."""
    parts.store.is_away = True
    parts.does(post())
    parts.committer.stop()
    assert parts.spool.oldest(10) == [post()]
    second = Committer(
        parts.store,
        parts.spool,
        Reserve(parts.reserve, RESERVE_BYTES),
        parts.watched,
        may_spool=True,
        away=StoreError,
        tell=lambda jobs, outcomes: None,
    )
    parts.store.is_away = False
    second.start()
    second.stop()
    assert parts.store.written == {"req_1": post()}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_full(), True),
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (OSError(errno.EACCES, "no"), False),
        (StoreError("locked"), False),
    ],
)
def test_what_says_that_a_disk_is_full(error: Exception, expected: bool) -> None:
    """Whoever says it, and however deep it is wrapped."""
    assert is_full(error) is expected


def test_a_reserve_takes_its_room_and_leaves_it(tmp_path: Path) -> None:
    """It can be made again, and one that cannot be made is none."""
    reserve = Reserve(tmp_path / "reserve", RESERVE_BYTES)
    assert reserve.make()
    assert reserve.make()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= RESERVE_BYTES
    assert reserve.give_up()
    assert not reserve.give_up()
    assert not (tmp_path / "reserve").exists()
    assert not Reserve(tmp_path / "missing" / "reserve").make()

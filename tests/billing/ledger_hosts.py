"""Hosts with ledgers on one store, and workers that talk to them as ledger.client does.

Each thing that happens between them is a method, so that a test may put them in any order that can
really happen: a batch that is done before its outcomes arrive, a connection that breaks, a process
that dies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from farebox.billing import messages as m
from farebox.billing.entry import Entry
from farebox.billing.jobs import (
    EVERYTHING,
    Away,
    Grant,
    Granted,
    Job,
    LeaseGone,
    Outcome,
    Post,
    Posted,
    Return,
    Spooled,
)
from farebox.billing.ledger import Ledger
from farebox.billing.parties import Worker as Link
from tests.billing.ledger_store import FakeStore

IDLE_S = 0.5


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now_s: float = 1000.0


@dataclass(eq=False)
class Worker:
    """A process that serves calls: what it waits for, and says again on each connection."""

    host: Host
    link: Link | None = None
    asked: dict[str, m.Hold | m.Extend] = field(default_factory=dict[str, "m.Hold | m.Extend"])
    held: dict[str, tuple[m.Hold, int]] = field(default_factory=dict[str, tuple[m.Hold, int]])
    settling: dict[str, tuple[Entry, tuple[m.Hold, int] | None]] = field(
        default_factory=dict[str, "tuple[Entry, tuple[m.Hold, int] | None]"]
    )
    given_up: set[str] = field(default_factory=set[str])  # asked, and then ended otherwise
    last: dict[str, m.Answer] = field(default_factory=dict[str, m.Answer])
    heard: Callable[[m.Answer, Entry | None], None] = lambda _answer, _entry: None

    def hold(self, request: m.Hold) -> None:
        self.asked[request.request_id] = request
        if self.link is not None:
            self.host.ledger.hold(self.link, request, self.host.now_s)

    def extend(self, request: m.Extend) -> None:
        self.asked[request.request_id] = request
        if self.link is not None:
            self.host.ledger.extend(self.link, request, self.host.now_s)

    def release(self, request_id: str) -> None:
        """Give up: before the answer, or after it."""
        if self.asked.pop(request_id, None) is not None:
            self.given_up.add(request_id)
        self.held.pop(request_id, None)
        if self.link is not None:
            self.host.ledger.release(request_id, self.host.now_s)

    def settle(self, entry: Entry) -> None:
        request_id = entry.request_id
        if self.asked.pop(request_id, None) is not None:
            self.given_up.add(request_id)
        self.settling[request_id] = (entry, self.held.pop(request_id, None))
        if self.link is not None:
            self.host.ledger.settle(self.link, m.Settle(entry), self.host.now_s)

    def delivered(self, request_id: str) -> None:
        if self.link is not None:
            self.host.ledger.delivered([request_id])

    def connect(self) -> None:
        """On a new connection: Resume first, then all that is not answered."""
        self.link = self.host.new_link(self)
        self.given_up.clear()
        ledger, now_s = self.host.ledger, self.host.now_s
        holds = [*self.held.values(), *(held for _, held in self.settling.values() if held)]
        ledger.resume(self.link, [_open(*each) for each in holds], now_s)
        for request in self.asked.values():
            if isinstance(request, m.Hold):
                ledger.hold(self.link, request, now_s)
            else:
                ledger.extend(self.link, request, now_s)
        for entry, _ in self.settling.values():
            ledger.settle(self.link, m.Settle(entry), now_s)

    def received(self, answer: m.Answer) -> None:
        """Every answer is to something that was asked, once."""
        assert not isinstance(answer, m.Recalled)
        request_id = answer.request_id
        if isinstance(answer, m.Held | m.Refused):
            request = self.asked.pop(request_id, None)
            if request is None:
                assert request_id in self.given_up, f"not asked: {answer}"
                self.given_up.discard(request_id)
                return
            if isinstance(answer, m.Held):
                hold = request if isinstance(request, m.Hold) else self.held[request_id][0]
                self.held[request_id] = (hold, answer.amount)
            self.heard(answer, None)
        else:
            assert request_id in self.settling, f"not asked: {answer}"
            self.heard(answer, self.settling.pop(request_id)[0])
        self.last[request_id] = answer


@dataclass(eq=False)
class Host:
    """A ledger with its committer, its spool and its workers."""

    name: str
    store: FakeStore
    clock: Clock
    workers: list[Worker] = field(default_factory=list[Worker])
    has_spool: bool = True
    ledger: Ledger = field(default_factory=lambda: Ledger(IDLE_S))
    spool: dict[str, Post] = field(default_factory=dict[str, Post])
    batch: list[Job] = field(default_factory=list[Job])  # with the committer
    outcomes: list[Outcome] | None = None  # of it, on their way back
    links: dict[Link, Worker] = field(default_factory=dict[Link, Worker])
    broken: list[Link] = field(default_factory=list[Link])  # connections whose end is not seen yet
    hosts: int = 1
    observe: Callable[[], None] = lambda: None  # after each thing that changed the store

    @property
    def now_s(self) -> float:
        return self.clock.now_s

    def new_link(self, worker: Worker) -> Link:
        link = self.ledger.come()
        self.links[link] = worker
        return link

    def hire(self) -> Worker:
        """A worker that has connected."""
        worker = Worker(self)
        self.workers.append(worker)
        worker.connect()
        return worker

    def disconnect(self, worker: Worker) -> None:
        """The connection is cut; this ledger sees it later."""
        if worker.link is not None:
            self.broken.append(worker.link)
            del self.links[worker.link]
            worker.link = None

    def see_broken(self) -> None:
        """The ledger is told of connections that have ended."""
        broken, self.broken = self.broken, []
        for link in broken:
            self.ledger.gone(link, self.now_s)
        self.deliver()

    def kill(self, worker: Worker) -> None:
        """A worker dies, with all that it knew."""
        self.disconnect(worker)
        self.workers.remove(worker)

    # The committer.

    def take(self) -> None:
        """The committer takes what waits."""
        if not self.batch and self.ledger.jobs:
            self.batch = self.ledger.jobs[:]
            self.ledger.jobs.clear()

    def commit(self) -> None:
        """The batch is done in the store, after what waits in the spool."""
        if self.batch and self.outcomes is None:
            self.ship()
            # Nothing waits in the spool now, so a lease that is closed comes back whole.
            jobs = [
                Return(job.lease_id, job.account_id, EVERYTHING, close=True)
                if isinstance(job, Return) and job.close
                else job
                for job in self.batch
            ]
            self.outcomes = self.store.do(self.name, jobs)
            self.observe()

    def lose_answer(self) -> None:
        """The batch is done, and nobody hears of it. What it granted or gave back the store undoes
        by itself, so only its calls count.
        """
        if self.batch and self.outcomes is None:
            posts = [job for job in self.batch if not isinstance(job, Grant | Return)]
            self.store.do(self.name, posts)
            self.fail()

    def fail(self) -> None:
        """The store is away: what cannot wait goes to the spool."""
        if self.batch and self.outcomes is None:
            self.outcomes = [self._spooled(job) for job in self.batch]
            self.observe()

    def _spooled(self, job: Job) -> Outcome:
        if not isinstance(job, Post) or not self.has_spool:
            return Away()
        kept = self.spool.setdefault(job.entry.request_id, job)
        return Posted(kept.charge, kept.absorbed, inserted=True)

    def ship(self) -> None:
        """What waits in the spool is written."""
        posts = list(self.spool.values())
        for post, outcome in zip(posts, self.store.do(self.name, posts), strict=True):
            if isinstance(outcome, LeaseGone):
                self._ship_otherwise(post)
        self.spool.clear()

    def _ship_otherwise(self, post: Post) -> None:
        """The lease was written off meanwhile: the account pays what it can."""
        entry, account_id = post.entry, post.entry.account_id
        grant = Grant(account_id, None, 1, post.charge, post.charge, 1)
        (granted,) = self.store.do(self.name, [grant])
        assert isinstance(granted, Granted)
        again = Post(entry, granted.lease_id, granted.amount, entry.due - granted.amount)
        self.store.do(self.name, [again])
        if granted.lease_id is not None:
            self.store.do(self.name, [Return(granted.lease_id, account_id, 0, close=True)])

    def hear(self) -> None:
        """The outcomes arrive."""
        if self.outcomes is not None:
            jobs, outcomes = self.batch, self.outcomes
            self.batch, self.outcomes = [], None
            self.ledger.done(jobs, outcomes, self.now_s)
            self.deliver()

    def deliver(self) -> None:
        """Answers go to those who are still there."""
        for link, worker in tuple(self.links.items()):
            told, link.answers = link.answers, []
            for answer in told:
                if link in self.links:
                    worker.received(answer)

    # The process itself.

    def die(self) -> None:
        """kill -9 of the ledger process: a new one begins with what the store and the spool say."""
        self.batch, self.outcomes = [], None
        self.links.clear()
        self.broken = []
        for worker in self.workers:
            worker.link = None
        self.ledger = Ledger(IDLE_S)
        self.ledger.hosts = self.hosts
        spooled = [
            Spooled(request_id, post.lease_id, post.charge, post.absorbed)
            for request_id, post in self.spool.items()
        ]
        leases = self.store.unspent(self.name)
        self.ledger.begin(leases, spooled, len(self.workers), self.now_s)
        self.observe()


@dataclass
class World:
    """Hosts on one store, and recalls between them."""

    count: int = 1
    store: FakeStore = field(default_factory=FakeStore)
    clock: Clock = field(default_factory=Clock)
    hosts: list[Host] = field(default_factory=list[Host])
    # For (host, account): hosts that have not given back yet.
    recalling: dict[tuple[int, int], set[int]] = field(
        default_factory=dict[tuple[int, int], set[int]]
    )

    def __post_init__(self) -> None:
        for number in range(self.count):
            host = Host(f"own_{number}", self.store, self.clock, hosts=self.count)
            host.ledger.hosts = self.count
            host.ledger.begin([], [], 0, self.clock.now_s)
            self.hosts.append(host)

    def carry_recalls(self) -> bool:
        """Recalls go to the other hosts, and their answers back; whether there was any."""
        carried = False
        for number, host in enumerate(self.hosts):
            recalls, host.ledger.recalls = host.ledger.recalls, []
            for account_id in recalls:
                carried = True
                others = {n for n in range(self.count) if n != number}
                self.recalling[number, account_id] = set(others)
                for other in others:
                    asked = self.hosts[other]
                    asked.ledger.recall(account_id, (number, account_id), asked.now_s)
        for number, host in enumerate(self.hosts):
            tokens, host.ledger.recalled = host.ledger.recalled, []
            for token in tokens:
                carried = True
                assert isinstance(token, tuple)
                self._gave_back(token, number)
        return carried

    def _gave_back(self, token: tuple[int, int], number: int) -> None:
        waited = self.recalling.get(token)
        if waited is not None:
            waited.discard(number)
            if not waited:
                del self.recalling[token]
                asker = self.hosts[token[0]]
                asker.ledger.others_gave_back(token[1], self.clock.now_s)
                asker.deliver()

    def give_up_on(self, number: int) -> None:
        """A host has died: what it was to give back is not waited for."""
        for token in list(self.recalling):
            if token[0] == number:
                del self.recalling[token]
            else:
                self._gave_back(token, number)

    def drain(self) -> None:
        """Until nothing more happens by itself."""
        busy = True
        while busy:
            busy = self.carry_recalls()
            for host in self.hosts:
                host.see_broken()
                host.deliver()
                host.take()
                busy = busy or bool(host.batch)
                host.commit()
                host.hear()

    def ticks(self, seconds: float) -> None:
        """Time passes, and all ledgers tick and are drained meanwhile."""
        until_s = self.clock.now_s + seconds
        step_s = 0.25 if seconds < 20 else 5.0
        while self.clock.now_s < until_s:
            self.clock.now_s = min(until_s, self.clock.now_s + step_s)
            for host in self.hosts:
                host.ledger.tick(self.clock.now_s)
            self.drain()


def _open(hold: m.Hold, amount: int) -> m.OpenHold:
    return m.OpenHold(
        hold.request_id, hold.account_id, hold.key_id, amount, hold.budget, hold.since_us
    )

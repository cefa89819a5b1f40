"""The ledger with batches, broken connections and deaths in any order that can really happen.

The books add up and nobody is wronged, whatever comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from farebox.billing import messages as m
from farebox.billing.entry import Entry
from farebox.billing.jobs import Away, Grant, Post
from tests.billing.ledger_hosts import Host, Worker, World
from tests.billing.ledger_store import entry

ACCOUNTS = st.integers(1, 2)
AMOUNTS = st.integers(0, 60)
PICKS = st.integers(0, 10**6)
PAUSES = st.sampled_from([0.05, 0.3, 0.6, 3.0, 12.0, 70.0])
BUDGET = 90  # of the key "thrifty"


@dataclass
class Ask:
    """What one request was told, or waits for; and what was true at some moment meanwhile."""

    account_id: int
    host: Host
    least_there: int  # the least that the account could pay, idle leases of others included
    was_closed: bool = False
    was_away: bool = False


class AtOnce(RuleBasedStateMachine):
    """Everything in any order."""

    @initialize(hosts=st.integers(1, 2), spool=st.booleans())
    def start(self, hosts: int, spool: bool) -> None:
        self.world = World(hosts)
        self.asks: dict[str, Ask] = {}
        self.ids = 0
        self.due: dict[str, int] = {}
        for account_id in (1, 2):
            self.world.store.credit(account_id, 40, limit=10 * (account_id - 1))
        for host in self.world.hosts:
            host.has_spool = spool
            host.observe = self.watch
            for _ in range(2):
                self.hire(host)

    def hire(self, host: Host) -> None:
        host.hire().heard = self.heard

    def workers(self) -> list[Worker]:
        return [worker for host in self.world.hosts for worker in host.workers]

    def worker(self, pick: int) -> Worker:
        return self.workers()[pick % len(self.workers())]

    def host(self, pick: int) -> Host:
        return self.world.hosts[pick % self.world.count]

    def call(self, pick: int) -> tuple[Worker, str] | None:
        calls = [
            (worker, request_id)
            for worker in self.workers()
            for request_id in worker.held
            if request_id not in worker.asked
        ]
        return calls[pick % len(calls)] if calls else None

    # What is watched.

    def is_idle(self, host: Host, account_id: int) -> bool:
        """Whether nobody at this host has anything to do with the account."""
        busy = {
            each.account_id
            for worker in host.workers
            for each in (
                *(hold for hold, _ in worker.held.values()),
                *(each for each in worker.asked.values() if isinstance(each, m.Hold)),
                *(what for what, _ in worker.settling.values()),
            )
        }
        for job in (*host.ledger.jobs, *host.batch):
            if isinstance(job, Grant):
                busy.add(job.account_id)
            elif isinstance(job, Post):
                busy.add(job.entry.account_id)
        return account_id not in busy and not host.broken and not host.spool

    def there(self, ask: Ask) -> int:
        store = self.world.store
        account = store.accounts[ask.account_id]
        if not account.is_open:
            return account.room  # for what is over; nobody is asked to give back for it
        idle = [
            store.held(ask.account_id, host.name)
            for host in self.world.hosts
            if host is not ask.host and self.is_idle(host, ask.account_id)
        ]
        return account.room + sum(idle)

    def watch(self) -> None:
        for ask in self.asks.values():
            ask.least_there = min(ask.least_there, self.there(ask))
            ask.was_closed |= not self.world.store.accounts[ask.account_id].is_open

    def ask(self, request_id: str, account_id: int, host: Host) -> None:
        ask = self.asks[request_id] = Ask(account_id, host, 0)
        ask.least_there = self.there(ask)
        ask.was_closed = not self.world.store.accounts[account_id].is_open
        ask.was_away = Away() in (host.outcomes or ())  # and the ledger has not heard it yet

    def heard(self, answer: m.Answer, what: Entry | None) -> None:
        """Nobody is refused, and nothing absorbed, while the account could pay."""
        assert not isinstance(answer, m.Recalled)
        ask = self.asks.pop(answer.request_id)
        if isinstance(answer, m.Refused):
            if answer.why == "credit":
                assert ask.least_there < answer.least, (answer, ask)
            elif answer.why == "budget":
                assert answer.room < answer.least
            else:
                assert {"closed": ask.was_closed, "away": ask.was_away}[answer.why], (answer, ask)
        elif isinstance(answer, m.Settled):
            assert what is not None
            assert answer.charge + answer.absorbed == what.due
            if answer.absorbed:
                assert ask.least_there <= 0, (answer, ask)
            self.find(ask.host, answer)
        elif isinstance(answer, m.NotSettled):
            assert answer.reason == "away"
            assert ask.was_away
            assert not ask.host.has_spool

    def find(self, host: Host, answer: m.Settled) -> None:
        """What is acknowledged is written, with these amounts."""
        row = self.world.store.usage.get(answer.request_id) or host.spool[answer.request_id]
        assert (row.charge, row.absorbed) == (answer.charge, answer.absorbed)

    # What workers do.

    @rule(pick=PICKS, account=ACCOUNTS, least=AMOUNTS, more=AMOUNTS, thrifty=st.booleans())
    def hold(self, pick: int, account: int, least: int, more: int, thrifty: bool) -> None:
        self.ids += 1
        request_id, worker = f"req_{self.ids}", self.worker(pick)
        self.ask(request_id, account, worker.host)
        key, budget = (f"thrifty-{account}", BUDGET) if thrifty else ("key", None)
        worker.hold(m.Hold(request_id, account, key, least, least + more, budget))
        worker.host.deliver()

    @rule(pick=PICKS, more=AMOUNTS)
    def extend(self, pick: int, more: int) -> None:
        call = self.call(pick)
        if call is not None:
            worker, request_id = call
            self.ask(request_id, worker.held[request_id][0].account_id, worker.host)
            worker.extend(m.Extend(request_id, more))
            worker.host.deliver()

    @rule(pick=PICKS, due=st.integers(0, 120))
    def settle(self, pick: int, due: int) -> None:
        call = self.call(pick)
        if call is not None:
            worker, request_id = call
            hold = worker.held[request_id][0]
            self.ask(request_id, hold.account_id, worker.host)
            worker.settle(entry(request_id, hold.account_id, due, hold.key_id))
            worker.host.deliver()

    @rule(pick=PICKS)
    def release(self, pick: int) -> None:
        """A call that is held for, or waits to be."""
        calls = [
            (worker, request_id)
            for worker in self.workers()
            for request_id in {**worker.held, **worker.asked}
        ]
        if calls:
            worker, request_id = calls[pick % len(calls)]
            self.asks.pop(request_id, None)
            worker.release(request_id)
            worker.host.deliver()

    # What the committer does.

    @rule(pick=PICKS)
    def take(self, pick: int) -> None:
        self.host(pick).take()

    @rule(pick=PICKS)
    def commit(self, pick: int) -> None:
        self.host(pick).commit()

    @rule(pick=PICKS, done=st.booleans())
    def fail(self, pick: int, done: bool) -> None:
        host = self.host(pick)
        if host.batch and host.outcomes is None:
            for ask in self.asks.values():
                if ask.host is host:
                    ask.was_away = True
                else:
                    ask.least_there = -1  # this host cannot give back
            host.lose_answer() if done else host.fail()

    @rule(pick=PICKS)
    def hear(self, pick: int) -> None:
        self.host(pick).hear()

    @rule()
    def recalls(self) -> None:
        self.world.carry_recalls()
        for host in self.world.hosts:
            host.deliver()

    # What breaks.

    @rule(pick=PICKS)
    def disconnect(self, pick: int) -> None:
        worker = self.worker(pick)
        worker.host.disconnect(worker)

    @rule(pick=PICKS)
    def connect(self, pick: int) -> None:
        worker = self.worker(pick)
        if worker.link is None:
            worker.connect()
            worker.host.deliver()

    @rule(pick=PICKS)
    def see_broken(self, pick: int) -> None:
        self.host(pick).see_broken()

    @rule(pick=PICKS)
    def kill_worker(self, pick: int) -> None:
        worker = self.worker(pick)
        for request_id in (*worker.asked, *worker.settling):
            self.asks.pop(request_id, None)
        worker.host.kill(worker)
        self.hire(worker.host)

    @rule(pick=PICKS)
    def kill_ledger(self, pick: int) -> None:
        number = pick % self.world.count
        for ask in self.asks.values():
            ask.least_there = -1  # until it has begun, it cannot give back
        self.world.hosts[number].die()
        self.world.give_up_on(number)

    @rule(pick=PICKS)
    def lose_lease(self, pick: int) -> None:
        leases = [key for key, each in self.world.store.leases.items() if each.is_usable]
        if leases:
            self.world.store.lose(leases[pick % len(leases)])
            self.watch()

    # What else happens.

    @rule(account=ACCOUNTS, amount=st.integers(-30, 60))
    def credit(self, account: int, amount: int) -> None:
        room = self.world.store.accounts[account].room
        self.world.store.credit(account, max(amount, -room))
        self.watch()

    @rule(account=ACCOUNTS, is_open=st.booleans())
    def open_or_close(self, account: int, is_open: bool) -> None:
        self.world.store.accounts[account].is_open = is_open
        self.watch()

    @rule(seconds=PAUSES)
    def tick(self, seconds: float) -> None:
        self.world.clock.now_s += seconds
        for host in self.world.hosts:
            host.ledger.tick(self.world.clock.now_s)
            host.deliver()

    @rule()
    def settle_down(self) -> None:
        """Without any more time, everybody is answered, unless the store was away."""
        self.connect_all()
        self.world.drain()
        for worker in self.workers():
            for request_id in (*worker.asked, *worker.settling):
                assert self.asks[request_id].was_away, "not answered"

    def connect_all(self) -> None:
        for worker in self.workers():
            if worker.link is None:
                worker.connect()

    @invariant()
    def the_books_add_up(self) -> None:
        if hasattr(self, "world"):
            self.world.store.check()

    def teardown(self) -> None:
        """Everybody is answered, what was acknowledged is written, and nothing stays held."""
        if not hasattr(self, "world"):
            return
        self.connect_all()
        self.world.ticks(2.0)
        for worker in self.workers():
            assert (worker.asked, worker.settling) == ({}, {})
            for answer in worker.last.values():
                if isinstance(answer, m.Settled):
                    self.find(worker.host, answer)
            for request_id in tuple(worker.held):
                worker.release(request_id)
        self.world.ticks(2.0)
        assert not any(host.spool for host in self.world.hosts)
        leases = self.world.store.leases.values()
        assert {lease.state for lease in leases} <= {"closed", "lost"}


TestAtOnce = AtOnce.TestCase
TestAtOnce.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)

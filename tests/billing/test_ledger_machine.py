"""The ledger against a plain one that does each call in a transaction of its own.

Whatever is asked, with everything heard before the next is asked, gets exactly the plain ledger's
answer, also after any process was killed. What happens at once, test_ledger_at_once.py shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from farebox.billing import messages as m
from tests.billing.ledger_hosts import Worker, World
from tests.billing.ledger_store import entry

ACCOUNTS = st.integers(1, 2)
AMOUNTS = st.integers(0, 60)
PICKS = st.integers(0, 10**6)
PAUSES = st.sampled_from([0.05, 0.3, 0.6, 3.0, 12.0, 70.0])
BUDGET = 90  # of the key "thrifty"


@dataclass
class Plain:
    """One account in a ledger that does every call in a transaction of its own."""

    limit: int
    balance: int = 0
    holds: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def free(self) -> int:
        return self.balance + self.limit - sum(self.holds.values())


class InTurn(RuleBasedStateMachine):
    """One thing after the other."""

    @initialize(hosts=st.integers(1, 3))
    def start(self, hosts: int) -> None:
        self.world = World(hosts)
        self.plain = {1: Plain(0), 2: Plain(15)}
        self.keys: dict[str, tuple[int, str]] = {}  # account and key of a call
        self.charged_of_key: dict[tuple[int, str], int] = {}
        self.ids = 0
        for account_id, plain in self.plain.items():
            self.world.store.credit(account_id, 0, plain.limit)
        for host in self.world.hosts:
            for _ in range(2):
                host.hire()

    def worker(self, pick: int) -> Worker:
        workers = [worker for host in self.world.hosts for worker in host.workers]
        return workers[pick % len(workers)]

    def call(self, pick: int) -> tuple[Worker, str] | None:
        """A call in flight."""
        calls = [
            (worker, request_id)
            for host in self.world.hosts
            for worker in host.workers
            for request_id in worker.held
        ]
        return calls[pick % len(calls)] if calls else None

    def key_room(self, account_id: int, key: str) -> int:
        held = sum(
            amount
            for request_id, amount in self.plain[account_id].holds.items()
            if self.keys[request_id] == (account_id, key)
        )
        return BUDGET - self.charged_of_key.get((account_id, key), 0) - held

    @rule(account=ACCOUNTS, amount=AMOUNTS)
    def credit(self, account: int, amount: int) -> None:
        self.world.store.credit(account, amount)
        self.plain[account].balance += amount

    @rule(pick=PICKS, account=ACCOUNTS, least=AMOUNTS, more=AMOUNTS, thrifty=st.booleans())
    def hold(self, pick: int, account: int, least: int, more: int, thrifty: bool) -> None:
        self.ids += 1
        request_id, worker, plain = f"req_{self.ids}", self.worker(pick), self.plain[account]
        # Budgets are exact where one ledger charges the key; others' are read once a second.
        thrifty = thrifty and self.world.count == 1
        key = f"thrifty-{account}" if thrifty else "key"
        budget = BUDGET if thrifty else None
        worker.hold(m.Hold(request_id, account, key, least, least + more, budget))
        self.world.drain()
        answer = worker.last.get(request_id)
        key_room = max(0, self.key_room(account, key)) if thrifty else 10**9
        if key_room < least:
            assert answer == m.Refused(request_id, "budget", least, key_room)
        elif plain.free < least:
            assert isinstance(answer, m.Refused)
            told = (answer.why, answer.least, answer.room, answer.balance)
            assert told == ("credit", least, plain.free, plain.balance)
        else:
            amount = min(least + more, plain.free, key_room)
            assert answer == m.Held(request_id, amount)
            plain.holds[request_id] = amount
            self.keys[request_id] = (account, key)

    @rule(pick=PICKS, more=AMOUNTS)
    def extend(self, pick: int, more: int) -> None:
        call = self.call(pick)
        if call is None:
            return
        worker, request_id = call
        account, key = self.keys[request_id]
        plain = self.plain[account]
        worker.extend(m.Extend(request_id, more))
        self.world.drain()
        key_room = max(0, self.key_room(account, key)) if key != "key" else 10**9
        if min(key_room, plain.free) < more:
            answer = worker.last[request_id]
            assert isinstance(answer, m.Refused)
            assert answer.why == ("budget" if key_room < more else "credit")
            worker.last[request_id] = m.Held(request_id, plain.holds[request_id])
        else:
            plain.holds[request_id] += more
            assert worker.last[request_id] == m.Held(request_id, plain.holds[request_id])

    @rule(pick=PICKS, due=st.integers(0, 150), again=st.booleans())
    def settle(self, pick: int, due: int, again: bool) -> None:
        call = self.call(pick)
        if call is None:
            return
        worker, request_id = call
        account, key = self.keys[request_id]
        plain = self.plain[account]
        del plain.holds[request_id]
        charge = min(due, plain.free)
        what = entry(request_id, account, due, key)
        for _ in range(2 if again else 1):
            worker.settle(what)
            self.world.drain()
            assert worker.last[request_id] == m.Settled(request_id, charge, due - charge)
        plain.balance -= charge
        spent = self.charged_of_key.get((account, key), 0)
        self.charged_of_key[account, key] = spent + charge

    @rule(pick=PICKS)
    def release(self, pick: int) -> None:
        call = self.call(pick)
        if call is not None:
            call[0].release(call[1])
            self.world.drain()
            del self.plain[self.keys[call[1]][0]].holds[call[1]]

    @rule(pick=PICKS)
    def kill_worker(self, pick: int) -> None:
        worker = self.worker(pick)
        for request_id in worker.held:
            del self.plain[self.keys[request_id][0]].holds[request_id]
        worker.host.kill(worker)
        self.world.drain()
        worker.host.hire()
        self.world.drain()

    @rule(pick=PICKS, new_first=st.booleans())
    def reconnect(self, pick: int, new_first: bool) -> None:
        worker = self.worker(pick)
        worker.host.disconnect(worker)
        if not new_first:
            self.world.drain()
        else:
            worker.connect()
        self.world.drain()
        if worker.link is None:
            worker.connect()
            self.world.drain()

    @rule(pick=PICKS)
    def kill_ledger(self, pick: int) -> None:
        host = self.worker(pick).host
        host.die()
        for worker in host.workers:
            worker.connect()
        self.world.drain()

    @rule(seconds=PAUSES)
    def wait(self, seconds: float) -> None:
        self.world.ticks(seconds)

    @invariant()
    def balances_are_the_same(self) -> None:
        for account_id, plain in self.plain.items():
            account = self.world.store.accounts[account_id]
            assert account.available + self.world.store.held(account_id) == plain.balance

    def teardown(self) -> None:
        """Nothing stays held when no call is in flight."""
        if not hasattr(self, "world"):
            return
        for host in self.world.hosts:
            for worker in host.workers:
                for request_id in tuple(worker.held):
                    worker.release(request_id)
        self.world.ticks(2.0)
        leases = self.world.store.leases.values()
        assert {lease.state for lease in leases} <= {"closed"}
        for account_id, plain in self.plain.items():
            assert self.world.store.accounts[account_id].available == plain.balance


TestInTurn = InTurn.TestCase
TestInTurn.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

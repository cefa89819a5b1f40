"""A ledger's batches against an oracle of plain dictionaries, over sequences that Hypothesis makes
up, on either engine.
"""

from dataclasses import dataclass, field
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farebox.billing.jobs import (
    Done,
    Grant,
    Granted,
    Job,
    LeaseGone,
    Outcome,
    Post,
    Posted,
    Return,
)
from farebox.store import Store
from farebox.store.books import OwnedBooks
from tests.store.bookkeeping import broken_invariants, post, read_all

AMOUNTS = st.integers(0, 60)
ONE_OF_TWO = st.integers(0, 1)


@dataclass
class Lease:
    """What the oracle knows of a lease."""

    account: int
    owner: str
    unspent: int = 0
    state: str = "open"

    @property
    def is_usable(self) -> bool:
        return self.state in ("open", "draining")

    def settle(self) -> None:
        if self.state == "draining" and not self.unspent:
            self.state = "closed"


@dataclass
class World:
    """Accounts, leases and calls, changed job by job."""

    available: dict[int, int] = field(default_factory=dict[int, int])
    limits: dict[int, int] = field(default_factory=dict[int, int])
    leases: dict[int, Lease] = field(default_factory=dict[int, Lease])
    calls: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    def own(self, owner: str, lease_id: int | None) -> Lease | None:
        lease = self.leases.get(lease_id or 0)
        return lease if lease and lease.owner == owner and lease.is_usable else None

    def held(self, account: int) -> int:
        return sum(x.unspent for x in self.leases.values() if x.account == account and x.is_usable)

    def check(self, owner: str, job: Job, outcome: Outcome) -> None:
        """What the job came to is what it comes to here."""
        if isinstance(job, Post):
            assert outcome == self.post(owner, job)
        elif isinstance(job, Grant):
            assert isinstance(outcome, Granted)
            self.grant(owner, job, outcome)
        else:
            assert isinstance(job, Return)
            assert outcome == Done()
            lease = self.own(owner, job.lease_id)
            if lease is not None:
                amount = min(job.amount, lease.unspent)
                lease.unspent -= amount
                self.available[lease.account] += amount
                lease.state = "draining" if job.close else lease.state

    def grant(self, owner: str, job: Grant, outcome: Granted) -> None:
        room = self.available[job.account_id] + self.limits[job.account_id]
        amount = 0
        if room >= max(1, job.least):
            amount = min(room, job.need)
            if room > job.need:
                amount += max(0, min(job.want - job.need, (room - job.need) // (4 * job.hosts)))
        if amount:
            lease = self.own(owner, job.lease_id)
            if lease is None:
                assert outcome.lease_id is not None
                assert outcome.lease_id not in self.leases
                lease = self.leases[outcome.lease_id] = Lease(job.account_id, owner)
            else:
                assert outcome.lease_id == job.lease_id
            lease.state = "open"
            lease.unspent += amount
            self.available[job.account_id] -= amount
        expected = (amount, self.available[job.account_id], self.held(job.account_id))
        assert (outcome.amount, outcome.available, outcome.held) == expected

    def post(self, owner: str, job: Post) -> Outcome:
        request_id = job.entry.request_id
        if request_id in self.calls:
            return Posted(*self.calls[request_id], inserted=False)
        if job.lease_id is not None:
            lease = self.own(owner, job.lease_id)
            if lease is None or lease.unspent < job.charge:
                return LeaseGone()
            lease.unspent -= job.charge
        self.calls[request_id] = (job.charge, job.absorbed)
        return Posted(job.charge, job.absorbed, inserted=True)

    def settle(self) -> None:
        for lease in self.leases.values():
            lease.settle()


class Books(RuleBasedStateMachine):
    """Two owners, two accounts; batches of jobs that make sense, and of some that don't."""

    store: Store  # all examples write there, each with names of its own
    examples = count()

    def __init__(self) -> None:
        super().__init__()
        self.name = f"x{next(self.examples)}"
        self.owners = [f"{self.name}_{number}" for number in range(2)]
        self.books = {owner: OwnedBooks(self.store, owner) for owner in self.owners}
        self.accounts: list[int] = []
        self.world = World()
        self.jobs: list[Job] = []
        self.calls = 0

    @initialize(credits=st.lists(AMOUNTS, min_size=2, max_size=2), limit=st.integers(0, 20))
    def open_accounts(self, credits: list[int], limit: int) -> None:
        for number, amount in enumerate(credits, 1):
            made = self.store.create_account(
                f"{self.name}_{number}",
                credits_nanocredits=amount,
                credit_limit_nanocredits=limit * (number - 1),
            )
            self.world.available[made.id] = amount
            self.world.limits[made.id] = limit * (number - 1)
            self.accounts.append(made.id)

    def any_lease(self, data: st.DataObject, owner: str) -> int | None:
        """One of any owner and state: of this owner's and of the youngest, more often."""
        own = [key for key, lease in self.world.leases.items() if lease.owner == owner]
        return data.draw(st.sampled_from([None, *self.world.leases, *own, *own[-3:] * 2]))

    @rule(data=st.data(), which=ONE_OF_TWO, whose=ONE_OF_TWO)
    def batch(self, data: st.DataObject, which: int, whose: int) -> None:
        """Up to a dozen jobs of one owner, in one transaction."""
        account, owner = self.accounts[which], self.owners[whose]
        self.jobs = []
        for _ in range(data.draw(st.integers(1, 12))):
            self.jobs.append(self.job(data, account, owner))
        outcomes = self.books[owner].do(self.jobs)
        for job, outcome in zip(self.jobs, outcomes, strict=True):
            self.world.check(owner, job, outcome)
        self.world.settle()

    def job(self, data: st.DataObject, account: int, owner: str) -> Job:
        kind = data.draw(st.sampled_from(["grant", "return", "post", "post", "post", "again"]))
        lease_id = self.any_lease(data, owner)
        lease = self.world.leases.get(lease_id or 0)
        if kind == "grant":
            least, need, want, hosts = (data.draw(AMOUNTS) for _ in range(4))
            mine = lease_id if lease and lease.account == account else None
            need = max(1, need, least)
            # At most one that makes a lease: two of one account in a batch are not asked for.
            if any(isinstance(job, Grant) and job.account_id == account for job in self.jobs):
                return Return(0, account, 0, close=False)
            return Grant(account, mine, least, need, need + want, 1 + hosts // 20)
        if kind == "return" and lease_id and lease:
            return Return(lease_id, lease.account, data.draw(AMOUNTS), data.draw(st.booleans()))
        if kind == "again" and self.world.calls:
            request_id = data.draw(st.sampled_from(sorted(self.world.calls)))
        else:
            self.calls += 1
            request_id = f"{self.name}_{self.calls}"
        charge = data.draw(AMOUNTS) if lease else 0
        hour = data.draw(st.integers(0, 2)) * 3_600_000_000
        return post(
            request_id,
            lease_id if lease else None,
            charge,
            lease.account if lease else account,
            created_us=1_795_435_200_000_000 + hour,
        )

    @rule(which=ONE_OF_TWO, amount=st.integers(1, 60))
    def credit(self, which: int, amount: int) -> None:
        account = self.accounts[which]
        self.store.credit(account, amount, "more")
        self.world.available[account] += amount

    @precondition(lambda self: self.world.leases)
    @rule(whose=ONE_OF_TWO)
    def begin_again(self, whose: int) -> None:
        """A new life of an owner finds what the oracle says is left."""
        owner = self.owners[whose]
        self.books[owner] = OwnedBooks(self.store, owner)
        assert [(each.lease_id, each.unspent) for each in self.books[owner].unspent()] == [
            (lease_id, lease.unspent)
            for lease_id, lease in sorted(self.world.leases.items())
            if lease.owner == owner and lease.is_usable
        ]

    @invariant()
    def the_books_add_up(self) -> None:
        """The store says what the oracle says, and nothing in it contradicts itself."""
        accounts, leases, calls = read_all(
            self.store,
            [
                "SELECT id, available FROM accounts",
                "SELECT id, state, granted - spent - returned, owner FROM leases",
                "SELECT request_id, charge, absorbed FROM usage",
            ],
        )
        assert {key: amount for key, amount in accounts if key in self.accounts} == (
            self.world.available
        )
        assert {row[:3] for row in leases if row[3] in self.owners} == {
            (key, lease.state, lease.unspent) for key, lease in self.world.leases.items()
        }
        assert {
            key: tuple(amounts) for key, *amounts in calls if key.startswith(f"{self.name}_")
        } == (self.world.calls)
        assert broken_invariants(self.store) == {}


def test_batches_come_to_what_an_oracle_says(either: Store) -> None:
    """Every outcome, every balance and every sum, after each batch."""

    class Machine(Books):
        store = either

    run_state_machine_as_test(Machine, settings=settings(max_examples=10, stateful_step_count=15))

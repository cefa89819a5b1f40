"""A ledger's batches against an oracle of plain dictionaries, over sequences that Hypothesis makes
up, on either engine.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

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
from farebox.store import Store, open_store
from farebox.store.books import OwnedBooks
from tests import postgres
from tests.store.bookkeeping import broken_invariants, post, read_all

AMOUNTS = st.integers(0, 60)
ACCOUNTS = st.integers(1, 2)
OWNERS = ("own_1", "own_2")


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

    def __init__(self, empty_store: AbstractContextManager[Store]) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.store = self.resources.enter_context(empty_store)
        self.books = {owner: OwnedBooks(self.store, owner) for owner in OWNERS}
        self.world = World()
        self.jobs: list[Job] = []
        self.calls = 0

    def teardown(self) -> None:
        self.resources.close()

    @initialize(credits=st.lists(AMOUNTS, min_size=2, max_size=2), limit=st.integers(0, 20))
    def open_accounts(self, credits: list[int], limit: int) -> None:
        for number, amount in enumerate(credits, 1):
            made = self.store.create_account(
                f"a{number}",
                credits_nanocredits=amount,
                credit_limit_nanocredits=limit * (number - 1),
            )
            self.world.available[made.id] = amount
            self.world.limits[made.id] = limit * (number - 1)

    def any_lease(self, data: st.DataObject, owner: str) -> int | None:
        """One of any owner and state: of this owner's and of the youngest, more often."""
        own = [key for key, lease in self.world.leases.items() if lease.owner == owner]
        return data.draw(st.sampled_from([None, *self.world.leases, *own, *own[-3:] * 2]))

    @rule(data=st.data(), account=ACCOUNTS, owner=st.sampled_from(OWNERS))
    def batch(self, data: st.DataObject, account: int, owner: str) -> None:
        """Up to a dozen jobs of one owner, in one transaction."""
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
            request_id = f"req_{self.calls}"
        charge = data.draw(AMOUNTS) if lease else 0
        hour = data.draw(st.integers(0, 2)) * 3_600_000_000
        return post(
            request_id,
            lease_id if lease else None,
            charge,
            lease.account if lease else account,
            created_us=1_795_435_200_000_000 + hour,
        )

    @rule(account=ACCOUNTS, amount=st.integers(1, 60))
    def credit(self, account: int, amount: int) -> None:
        self.store.credit(account, amount, "more")
        self.world.available[account] += amount

    @precondition(lambda self: self.world.leases)
    @rule(owner=st.sampled_from(OWNERS))
    def begin_again(self, owner: str) -> None:
        """A new life of an owner finds what the oracle says is left."""
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
                "SELECT id, state, granted - spent - returned FROM leases",
                "SELECT request_id, charge, absorbed FROM usage",
            ],
        )
        assert dict(accounts) == self.world.available
        assert set(leases) == {
            (key, lease.state, lease.unspent) for key, lease in self.world.leases.items()
        }
        assert {key: tuple(amounts) for key, *amounts in calls} == self.world.calls
        assert broken_invariants(self.store) == {}


@contextmanager
def fresh_sqlite(empty: Path) -> Generator[Store]:
    """A copy of an empty store."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "farebox.db"
        path.write_bytes(empty.read_bytes())
        store = open_store(f"sqlite:///{path}", Path(folder))
        yield store
        store.close()


@contextmanager
def fresh_postgresql(template: str) -> Generator[Store]:
    """The same on PostgreSQL."""
    url = postgres.server().fresh_database(template=template)
    store = open_store(url, Path())
    yield store
    store.close()
    postgres.server().drop(url)


def play(fresh: Callable[[], AbstractContextManager[Store]]) -> None:
    """Run the machine on stores that are made so."""

    class Machine(Books):
        def __init__(self) -> None:
            super().__init__(fresh())

    run_state_machine_as_test(Machine, settings=settings(max_examples=10, stateful_step_count=15))


def test_batches_come_to_what_an_oracle_says(empty_store: Path) -> None:
    """Every outcome, every balance and every sum, after each batch."""
    play(partial(fresh_sqlite, empty_store))


def test_batches_come_to_the_same_on_postgresql(empty_postgres_store: str) -> None:
    """By other statements."""
    play(partial(fresh_postgresql, empty_postgres_store))

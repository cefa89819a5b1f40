"""A store in memory that does a ledger's jobs as billing.jobs describes them, and checks itself.

It is small enough to be believed: the real ones are compared with it by what the ledger makes of
both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from farebox.billing.entry import Entry
from farebox.billing.jobs import (
    EVERYTHING,
    Done,
    Grant,
    Granted,
    Job,
    LeaseGone,
    OpenLease,
    Outcome,
    Post,
    Posted,
    Rejected,
    Return,
    Spending,
    Spent,
    Undelivered,
)


@dataclass
class Account:
    """Who pays."""

    credited: int = 0
    available: int = 0
    limit: int = 0
    is_open: bool = True

    @property
    def room(self) -> int:
        return self.available + self.limit


@dataclass
class LeaseRow:
    """Credit in the hands of one owner."""

    account_id: int
    owner: str
    granted: int = 0
    spent: int = 0
    returned: int = 0
    state: str = "open"

    @property
    def unspent(self) -> int:
        return self.granted - self.spent - self.returned

    @property
    def is_usable(self) -> bool:
        return self.state in {"open", "draining"}


@dataclass
class Row:
    """A call that was written."""

    entry: Entry
    lease_id: int | None
    charge: int
    absorbed: int
    outcome: str


@dataclass
class FakeStore:
    """`unwritable` are request ids that are rejected, whatever is tried."""

    accounts: dict[int, Account] = field(default_factory=dict[int, Account])
    leases: dict[int, LeaseRow] = field(default_factory=dict[int, LeaseRow])
    usage: dict[str, Row] = field(default_factory=dict[str, Row])
    unwritable: set[str] = field(default_factory=set[str])
    jobs_done: list[Job] = field(default_factory=list[Job])

    def credit(self, account_id: int, amount: int, limit: int = 0) -> None:
        """Top an account up (or debit it), making it if there is none."""
        account = self.accounts.setdefault(account_id, Account(limit=limit))
        account.credited += amount
        account.available += amount

    def do(self, owner: str, jobs: Sequence[Job]) -> list[Outcome]:
        """A batch, in order."""
        self.jobs_done += jobs
        outcomes = [self._do(owner, job) for job in jobs]
        self.check()
        return outcomes

    def unspent(self, owner: str) -> list[OpenLease]:
        """The leases of an owner that begins again."""
        return [
            OpenLease(lease_id, lease.account_id, lease.unspent)
            for lease_id, lease in self.leases.items()
            if lease.owner == owner and lease.is_usable
        ]

    def held(self, account_id: int, owner: str | None = None) -> int:
        """What leases on an account have not spent."""
        return sum(
            lease.unspent
            for lease in self.leases.values()
            if lease.account_id == account_id
            and lease.is_usable
            and (owner is None or lease.owner == owner)
        )

    def charged(self, account_id: int) -> int:
        """What calls of an account were charged."""
        return sum(row.charge for row in self.usage.values() if row.entry.account_id == account_id)

    def lose(self, lease_id: int) -> None:
        """The operator writes a lease off: what is not spent of it comes back to the account."""
        lease = self.leases[lease_id]
        self.accounts[lease.account_id].available += lease.unspent
        lease.returned += lease.unspent
        lease.state = "lost"

    def check(self) -> None:
        """Raises AssertionError where the books do not add up."""
        for account_id, account in self.accounts.items():
            assert account.available >= -account.limit, "below the floor"
            whole = account.available + self.held(account_id) + self.charged(account_id)
            assert account.credited == whole, "credited = available + unspent + charged"
        for lease_id, lease in self.leases.items():
            assert 0 <= lease.spent + lease.returned <= lease.granted
            rows = [row for row in self.usage.values() if row.lease_id == lease_id]
            assert lease.spent == sum(row.charge for row in rows)
        for row in self.usage.values():
            assert row.charge >= 0
            assert row.absorbed >= 0
            assert row.charge + row.absorbed == row.entry.due

    def _do(self, owner: str, job: Job) -> Outcome:
        if isinstance(job, Grant):
            return self._grant(owner, job)
        if isinstance(job, Return):
            return self._return(owner, job)
        if isinstance(job, Post):
            return self._post(owner, job)
        if isinstance(job, Spending):
            return Spent(self._spent(job))
        for request_id in job.request_ids:
            if request_id in self.usage:
                self.usage[request_id].outcome = "undelivered"
        return Done()

    def _own(self, owner: str, lease_id: int | None) -> LeaseRow | None:
        lease = self.leases.get(lease_id) if lease_id is not None else None
        return lease if lease and lease.owner == owner and lease.is_usable else None

    def _grant(self, owner: str, job: Grant) -> Granted:
        account = self.accounts.get(job.account_id)
        if account is None:
            return Granted(None, 0, 0, 0, 0, is_open=False)
        room, need = account.room, job.need
        if not account.is_open:
            amount = max(0, min(job.owed, room))
        elif room < job.least:
            amount = 0
        elif room <= need:
            amount = room
        else:
            amount = need + max(0, min(job.want - need, (room - need) // (4 * job.hosts)))
        lease_id = job.lease_id if self._own(owner, job.lease_id) else None
        if amount:
            if lease_id is None:
                lease_id = len(self.leases) + 1
                self.leases[lease_id] = LeaseRow(job.account_id, owner)
            lease = self.leases[lease_id]
            lease.granted += amount
            lease.state = "open"
            account.available -= amount
        return Granted(
            lease_id,
            amount,
            account.available,
            account.limit,
            self.held(job.account_id),
            account.is_open,
        )

    def _return(self, owner: str, job: Return) -> Outcome:
        lease = self._own(owner, job.lease_id)
        if lease is not None:
            assert lease.account_id == job.account_id
            amount = lease.unspent if job.amount == EVERYTHING else job.amount
            assert 0 <= amount <= lease.unspent, "more is given back than there is"
            lease.returned += amount
            self.accounts[job.account_id].available += amount
            if job.close:
                lease.state = "draining"
            self._close_if_used_up(lease)
        return Done()

    def _post(self, owner: str, job: Post) -> Outcome:
        entry = job.entry
        row = self.usage.get(entry.request_id)
        if row is not None:
            return Posted(row.charge, row.absorbed, inserted=False)
        if entry.request_id in self.unwritable:
            return Rejected("no")
        if job.charge:
            lease = self._own(owner, job.lease_id)
            if lease is None or job.charge > lease.unspent:
                return LeaseGone()
            assert lease.account_id == entry.account_id
            lease.spent += job.charge
            self._close_if_used_up(lease)
        self.usage[entry.request_id] = Row(
            entry, job.lease_id, job.charge, job.absorbed, entry.outcome
        )
        return Posted(job.charge, job.absorbed, inserted=True)

    @staticmethod
    def _close_if_used_up(lease: LeaseRow) -> None:
        if lease.state == "draining" and not lease.unspent:
            lease.state = "closed"

    def _spent(self, job: Spending) -> int:
        return sum(
            row.charge
            for row in self.usage.values()
            if row.entry.key_id == job.key_id and row.entry.created_us >= job.since_us
        )


def entry(
    request_id: str, account_id: int, due: int, key_id: str = "key", outcome: str = "complete"
) -> Entry:
    """A call that is over."""
    return Entry(
        request_id=request_id,
        account_id=account_id,
        key_id=key_id,
        model="gpt-5.6",
        channel="openai",
        dialect="chat",
        stream=0,
        outcome=outcome,
        created_us=0,
        price_version=1,
        rate_ppm=1_000_000,
        uncached_input=due,
        cache_read=0,
        cache_write=0,
        cache_write_1h=0,
        audio_input=0,
        image_input=0,
        output=0,
        audio_output=0,
        due=due,
        hold=0,
        service_tier=None,
        tool_calls="[]",
        flags="[]",
        attempts="[]",
        ms=0,
        ttft_ms=None,
    )


assert Undelivered in Job.__args__  # the last branch of _do

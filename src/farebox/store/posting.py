"""One batch of a ledger's jobs: what each of them comes to, and what is written of all of them.

It runs within one transaction, on rows that are locked or in a store that has one writer, so that
all of it is decided here. The statements are posting_sqlite.py's and posting_postgresql.py's.
Amounts are nano-credits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import cast

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
    Spending,
    Spent,
    Undelivered,
)
from farebox.store.tables import (
    USABLE,
    AccountState,
    Ask,
    Changes,
    Found,
    LeaseState,
    Row,
    Tables,
)
from farebox.store.usage_rows import (
    HOUR_US,
    Groups,
    absorbed_of,
    account_of,
    charge_of,
    created_of,
    grouped,
    id_of,
    lease_of,
    rows_of,
    summed,
)

_FEW = 2  # calls that are charged sooner one by one

_DONE = Done()
_GONE = LeaseGone()


class Batch:
    """See the module. `unsure`: of leases, the account, and what they kept (granted less returned)
    before a batch of which nobody knows whether it was done. `given_back`: what such batches have
    returned of leases, which the ledger will ask for again; run() changes it, and that counts once
    it is committed.
    """

    def __init__(
        self,
        owner: str,
        jobs: Sequence[Job],
        now_us: int,
        unsure: Mapping[int, tuple[int, int]] | None = None,
        given_back: Mapping[int, int] | None = None,
    ) -> None:
        self._owner = owner
        self._jobs = jobs
        # Those of one kind that no other comes between.
        self._runs = [(kind, list(run)) for kind, run in groupby(jobs, type)]
        self._now_us = now_us
        self._unsure = unsure or {}
        self.given_back = dict(given_back or {})
        self.before: dict[int, tuple[int, int]] = {}  # as `unsure`: of leases that this changes
        self._found = Found({}, {}, (), (), {})
        self._leases: dict[int, LeaseState] = {}
        self._changes = Changes()
        self._rows: list[Row] = []  # of its calls, in order
        self._is_usual = True  # none of them is there twice, and each is paid in full
        self._answered: set[str] = set()  # calls that were looked at one by one
        self._outcomes: list[Outcome] = []
        self._absorbed: dict[int, list[int]] = {}
        # The rows that count, by account, key, model and lease.
        self._groups: Groups = defaultdict(list)

    def run(self, tables: Tables) -> list[Outcome]:
        """Do all jobs; one outcome for each."""
        ask = self._ask()
        found = self._found = tables.look(ask)
        self._leases = {
            lease_id: lease
            for lease_id, lease in found.leases.items()
            if lease.state in USABLE and lease.owner == self._owner
        }
        spare = iter(found.new_leases)
        spent = iter(found.spent)
        self._make_sure()
        rows = iter(self._rows)
        outcomes = self._outcomes
        for kind, jobs in self._runs:
            if kind is Post:
                self._post_all(cast("list[Post]", jobs), rows)
                continue
            for job in jobs:
                if isinstance(job, Grant):
                    outcomes.append(self._grant(job, next(spare)))
                elif isinstance(job, Return):
                    outcomes.append(self._return(job))
                elif isinstance(job, Spending):
                    outcomes.append(Spent(next(spent) + self._spent_here(job)))
                elif isinstance(job, Undelivered):
                    self._changes.undelivered += job.request_ids
                    outcomes.append(_DONE)
        self._sum_up()
        tables.write(self._changes, self._now_us)
        return outcomes

    def _ask(self) -> Ask:
        accounts: set[int] = {account_id for account_id, _ in self._unsure.values()}
        leases: set[int] = set(self._unsure)
        spendings: list[Spending] = []
        grants = 0
        for kind, jobs in self._runs:
            if kind is Post:
                self._rows += rows_of(cast("list[Post]", jobs), self._now_us)
                continue
            for job in jobs:
                if isinstance(job, Grant | Return):
                    accounts.add(job.account_id)
                    grants += isinstance(job, Grant)
                    if job.lease_id is not None:
                        leases.add(job.lease_id)
                elif isinstance(job, Spending):
                    spendings.append(job)
        rows = self._rows
        leases.update(map(lease_of, rows))
        leases.difference_update((None,))
        if any(map(absorbed_of, rows)):
            self._is_usual = False
            # Is there such an account?
            accounts.update(account_of(row) for row in rows if absorbed_of(row))
        if len(set(map(id_of, rows))) < len(rows):
            self._is_usual = False
            once: dict[str, Row] = {}
            for row in rows:
                once.setdefault(id_of(row), row)
            rows = list(once.values())
        return Ask(sorted(accounts), sorted(leases), spendings, grants, rows)

    def _own(self, lease_id: int | None, account_id: int) -> LeaseState | None:
        """The lease, if it is this owner's and may be charged. A database that came back without
        its last commits knows nothing of some, and gives their ids to others' leases.
        """
        lease = None if lease_id is None else self._leases.get(lease_id)
        return lease if lease is not None and lease.account_id == account_id else None

    # Calls.

    def _post_all(self, jobs: Sequence[Post], rows: Iterator[Row]) -> None:
        """Calls that no other job comes between; theirs are the next of `rows`."""
        calls = list(islice(rows, len(jobs)))
        if len(calls) > _FEW and self._charge_at_once(calls):
            self._outcomes += [Posted(job.charge, 0, True) for job in jobs]
            return
        for job, row in zip(jobs, calls, strict=True):
            self._outcomes.append(self._post(job, row))

    def _charge_at_once(self, calls: Sequence[Row]) -> bool:
        """Whether all of these are new, and covered by their leases however they are ordered, as
        nearly always; then they are charged. Nothing is done if not.
        """
        if self._found.written or not self._is_usual:
            return False
        groups = grouped(calls)
        charges: defaultdict[tuple[int | None, int], int] = defaultdict(int)
        for (account_id, _, _, lease_id), rows in groups.items():
            charges[lease_id, account_id] += sum(map(charge_of, rows))
        for (lease_id, account_id), charge in charges.items():
            lease = self._own(lease_id, account_id)
            if charge if lease_id is None else lease is None or lease.unspent < charge:
                return False
        for (lease_id, account_id), charge in charges.items():
            if lease_id is not None:
                self._spend(lease_id, account_id, charge)
        for group, rows in groups.items():
            self._groups[group] += rows
        return True

    def _post(self, job: Post, row: Row) -> Outcome:
        entry, lease_id, charge = job.entry, job.lease_id, job.charge
        request_id, account_id = entry.request_id, entry.account_id
        if request_id in self._answered:
            return self._again(request_id)
        self._answered.add(request_id)
        if request_id in self._found.written:
            return Posted(*self._found.written[request_id], inserted=False)
        if lease_id is None:
            if charge:
                raise ValueError(f"{charge} charged to no lease")
        elif not self._spend(lease_id, account_id, charge):
            self._changes.taken_back.append(request_id)
            return _GONE
        if job.absorbed:
            self._absorb(account_id, job.absorbed)
        self._groups[account_id, entry.key_id, entry.model, lease_id].append(row)
        return Posted(charge, job.absorbed, True)

    def _again(self, request_id: str) -> Outcome:
        """What a call comes to that is settled twice in one batch."""
        first = next(
            outcome
            for job, outcome in zip(self._jobs, self._outcomes, strict=False)
            if isinstance(job, Post) and job.entry.request_id == request_id
        )
        if isinstance(first, Posted):
            return Posted(first.charge, first.absorbed, inserted=False)
        return first

    def _spend(self, lease_id: int, account_id: int, charge: int) -> bool:
        lease = self._leases.get(lease_id)
        if lease is None or lease.account_id != account_id or lease.unspent < charge:
            return False
        lease.unspent -= charge
        if account_id in self._found.accounts:
            self._found.accounts[account_id].held -= charge
        return True

    def _absorb(self, account_id: int, amount: int) -> None:
        # PostgreSQL would not ask. Of what is charged, the lease is proof.
        if account_id not in self._found.accounts:
            raise ValueError(f"there is no account {account_id}")
        absorbed = self._absorbed.setdefault(account_id, [0, 0])
        absorbed[0] += amount
        absorbed[1] += 1

    def _spent_here(self, job: Spending) -> int:
        """What calls of this batch so far were charged, of those that are asked for."""
        return sum(
            charge_of(row)
            for (_, key_id, _, _), rows in self._groups.items()
            if key_id == job.key_id
            for row in rows
            if created_of(row) // HOUR_US * HOUR_US >= job.since_us
        )

    # Credit.

    def _grant(self, job: Grant, spare_id: int) -> Granted:
        account = self._found.accounts.get(job.account_id)
        if account is None:
            return Granted(None, 0, 0, 0, 0, is_open=False)
        lease = self._own(job.lease_id, job.account_id)
        room = account.available + account.credit_limit
        amount = grant_amount(job, room) if account.is_open else max(0, min(job.owed, room))
        if amount:
            if lease is None:
                lease = LeaseState(spare_id, job.account_id, self._owner, "open", 0, 0, 0)
                lease.is_new = True
                self._leases[spare_id] = lease
            lease.next_state = "open"
            lease.more_granted += amount
            lease.unspent += amount
            self._move(account, lease, -amount)
        return Granted(
            lease.lease_id if lease else None,
            amount,
            account.available,
            account.credit_limit,
            account.held,
            account.is_open,
        )

    def _return(self, job: Return) -> Outcome:
        if job.amount < 0:
            raise ValueError(f"{job.amount} to be returned")
        lease = self._own(job.lease_id, job.account_id)
        already = self.given_back.pop(job.lease_id, 0)
        if lease is None:
            return _DONE
        amount = max(0, job.amount - already)
        if already > job.amount:
            self.given_back[job.lease_id] = already - job.amount
        self._give_back(lease, min(amount, lease.unspent), close=job.close)
        return _DONE

    def _give_back(self, lease: LeaseState, amount: int, *, close: bool) -> None:
        if amount:
            lease.more_returned += amount
            lease.unspent -= amount
            self._move(self._found.accounts[lease.account_id], lease, amount)
        if close:
            lease.next_state = "draining"

    def _move(self, account: AccountState, lease: LeaseState, amount: int) -> None:
        """From the lease to the account; the other way round if it is negative."""
        account.available += amount
        account.change += amount
        account.held -= amount
        account_id, lease_id = account.account_id, lease.lease_id
        debit, credit = f"lease:{lease_id}", f"account:{account_id}"
        kind = "lease_return"
        if amount < 0:
            debit, credit, kind = credit, debit, "lease_grant"
        self._changes.transfers.append(
            (account_id, kind, debit, credit, abs(amount), 0, lease_id, self._now_us)
        )

    def _make_sure(self) -> None:
        """Undo what an unclear failure granted, and remember what it returned: the ledger was told
        that neither happened.
        """
        for lease_id, (account_id, kept) in sorted(self._unsure.items()):
            lease = self._own(lease_id, account_id)
            if lease is None:
                self.given_back.pop(lease_id, None)
                continue
            more = lease.granted - lease.returned - kept
            if more > 0:
                amount = min(more, lease.unspent)
                self._give_back(lease, amount, close=kept == 0 and lease.spent == 0)
            elif more < 0:
                self.given_back[lease_id] = self.given_back.get(lease_id, 0) - more

    # The end.

    def _sum_up(self) -> None:
        changes, now_us = self._changes, self._now_us
        sums = summed(self._groups)
        changes.lease_hours, changes.usage_hours = sums.lease_hours, sums.usage_hours
        for lease_id, (charge, calls) in sums.leases.items():
            lease = self._leases[lease_id]
            lease.more_spent, lease.calls = charge, calls
        changes.accounts = [each for each in self._found.accounts.values() if each.change]
        for lease_id, lease in sorted(self._leases.items()):
            if lease.next_state == "draining" and not lease.unspent:
                lease.next_state = "closed"
            if lease.is_changed:
                self.before[lease_id] = (lease.account_id, lease.granted - lease.returned)
                changes.leases.append(lease)
            if lease.more_spent:
                names = (f"lease:{lease_id}", "operator:revenue")
                charged = (lease.more_spent, lease.calls)
                changes.transfers.append(
                    (lease.account_id, "charge", *names, *charged, lease_id, now_us)
                )
        for account_id, (amount, calls) in sorted(self._absorbed.items()):
            names = ("operator:absorbed", "operator:unpaid")
            changes.transfers.append((account_id, "absorbed", *names, amount, calls, None, now_us))
        present_us = now_us // HOUR_US * HOUR_US
        changes.unsealed = sorted(hour_us for hour_us in sums.hours if hour_us < present_us)


def grant_amount(job: Grant, room: int) -> int:
    """How much is moved of an account that has `room` above its floor."""
    if room < job.least or room <= 0:
        return 0
    if room <= job.need:
        return room
    # Beyond what is needed now, no host takes so much that the others would have to come and ask.
    return job.need + max(0, min(job.want - job.need, (room - job.need) // (4 * job.hosts)))

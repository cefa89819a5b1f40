"""What the ledger asks of its store, and what the store answers: one outcome for each job.

A batch of jobs is done in one transaction, in order. Amounts are nano-credits.
"""

from __future__ import annotations

from dataclasses import dataclass

from farebox.billing.entry import Entry


@dataclass(frozen=True, slots=True)
class Grant:
    """Move credit of an account into this owner's lease on it. Outcome: Granted.

    `need` is what waiting calls want altogether; if the account does not have that, all that it
    has is taken, unless it is below `least`, and then nothing. Where there is plenty, up to `want`
    is taken, but no more than `available / (4 · hosts)` beyond the need.
    """

    account_id: int
    lease_id: int | None  # the lease to add to; a closed one, or none, makes a new one
    least: int
    need: int
    want: int
    hosts: int


@dataclass(frozen=True, slots=True)
class Granted:
    """What was moved, 0 if nothing; and what the account has beside all leases now."""

    lease_id: int | None
    amount: int
    available: int
    credit_limit: int
    held: int  # unspent parts of all leases on this account, other hosts' included, after this
    is_open: bool = True  # the account is neither disabled nor missing


@dataclass(frozen=True, slots=True)
class Return:
    """Give back part of a lease. Outcome: Done.

    `close`: nothing more will be taken from it; it closes now, or with the last spooled charge.
    """

    lease_id: int
    account_id: int
    amount: int
    close: bool


@dataclass(frozen=True, slots=True)
class Post:
    """Write a call, and charge its lease. charge + absorbed = entry.due. Outcome: Posted,
    LeaseGone, Rejected.
    """

    entry: Entry
    lease_id: int | None  # None only if nothing is charged
    charge: int
    absorbed: int


@dataclass(frozen=True, slots=True)
class Posted:
    """The call is written. `inserted` is false when it was already, with these amounts."""

    charge: int
    absorbed: int
    inserted: bool


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Calls that were charged and whose end their clients did not get. Outcome: Done."""

    request_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spending:
    """Ask what a key has been charged for calls since a time. Outcome: Spent."""

    key_id: str
    since_us: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What the key was charged, jobs earlier in the same batch included."""

    amount: int


@dataclass(frozen=True, slots=True)
class Done:
    """Done, and nothing to say of it."""


@dataclass(frozen=True, slots=True)
class LeaseGone:
    """The lease of a Post is not there to be charged any more. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """This job cannot be done, whatever is tried; it was noted and delays nobody else."""

    reason: str


@dataclass(frozen=True, slots=True)
class Away:
    """The store cannot be written at the moment, nor the spool. Nothing was done."""


Job = Grant | Return | Post | Undelivered | Spending
Outcome = Granted | Done | Posted | Spent | LeaseGone | Rejected | Away


@dataclass(frozen=True, slots=True)
class OpenLease:
    """A lease that an earlier life of this owner left: what is not spent of it, by the store."""

    lease_id: int
    account_id: int
    unspent: int


@dataclass(frozen=True, slots=True)
class Spooled:
    """A call that waits in the spool for the store to come back."""

    request_id: str
    lease_id: int | None
    charge: int
    absorbed: int

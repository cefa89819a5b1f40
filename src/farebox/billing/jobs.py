"""What the ledger asks of its store, and what the store answers: one outcome for each job.

A batch of jobs is done in one transaction, in order. Amounts are nano-credits. Structs rather than
dataclasses: every call makes some, and these are made in a fifth of the time.
"""

from __future__ import annotations

import msgspec

from farebox.billing.entry import Entry


class Grant(msgspec.Struct, frozen=True, gc=False):
    """Move credit of an account into this owner's lease on it. Outcome: Granted.

    `need` is what waiting calls want altogether; if the account does not have that, all that it
    has is taken, unless it is below `least`, and then nothing. Where there is plenty, up to `want`
    is taken, but no more than `available / (4 · hosts)` beyond the need. A disabled account gives
    only what calls of it that are over cost, which is `owed`.
    """

    account_id: int
    lease_id: int | None  # the lease to add to; a closed one, or none, makes a new one
    least: int
    need: int
    want: int
    hosts: int
    owed: int = 0


class Granted(msgspec.Struct, frozen=True, gc=False):
    """What was moved, 0 if nothing; and what the account has beside all leases now."""

    lease_id: int | None
    amount: int
    available: int
    credit_limit: int
    held: int  # unspent parts of all leases on this account, other hosts' included, after this
    is_open: bool = True  # the account is neither disabled nor missing


class Return(msgspec.Struct, frozen=True, gc=False):
    """Give back part of a lease, at most what is left of it. Outcome: Done.

    `close`: nothing more will be taken from it; it closes now, or with the last spooled charge.
    """

    lease_id: int
    account_id: int
    amount: int
    close: bool


EVERYTHING = 2**63 - 1  # as the amount of a Return


class Post(msgspec.Struct, frozen=True, gc=False):
    """Write a call, and charge its lease. charge + absorbed = entry.due. Outcome: Posted,
    LeaseGone, Rejected.
    """

    entry: Entry
    lease_id: int | None  # None only if nothing is charged
    charge: int
    absorbed: int


class Posted(msgspec.Struct, frozen=True, gc=False):
    """The call is written. `inserted` is false when it was already, with these amounts."""

    charge: int
    absorbed: int
    inserted: bool


class Undelivered(msgspec.Struct, frozen=True, gc=False):
    """Calls that were charged and whose end their clients did not get. Outcome: Done."""

    request_ids: tuple[str, ...]


class Spending(msgspec.Struct, frozen=True, gc=False):
    """Ask what a key has been charged for calls since a time. Outcome: Spent."""

    key_id: str
    since_us: int


class Spent(msgspec.Struct, frozen=True, gc=False):
    """What the key was charged, jobs earlier in the same batch included."""

    amount: int


class Done(msgspec.Struct, frozen=True, gc=False):
    """Done, and nothing to say of it."""


class LeaseGone(msgspec.Struct, frozen=True, gc=False):
    """The lease of a Post is not there to be charged any more. Nothing was written."""


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """This job cannot be done, whatever is tried; it was noted and delays nobody else."""

    reason: str


class Away(msgspec.Struct, frozen=True, gc=False):
    """The store cannot be written at the moment, nor the spool. Nothing was done."""


Job = Grant | Return | Post | Undelivered | Spending
Outcome = Granted | Done | Posted | Spent | LeaseGone | Rejected | Away


class OpenLease(msgspec.Struct, frozen=True, gc=False):
    """A lease that an earlier life of this owner left: what is not spent of it, by the store."""

    lease_id: int
    account_id: int
    unspent: int


class Spooled(msgspec.Struct, frozen=True, gc=False):
    """A call that waits in the spool for the store to come back."""

    request_id: str
    lease_id: int | None
    charge: int
    absorbed: int

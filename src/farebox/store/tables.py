"""What a batch of a ledger's jobs asks of the database, gets, and has written: values, and the seam
between posting.py, which decides, and the statements of either engine.

Amounts are nano-credits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from farebox.billing.jobs import OpenLease, Spending

USABLE = ("open", "draining")  # states of a lease that may be charged
TRANSFER = ("account_id", "kind", "debit", "credit", "amount", "calls", "lease_id", "created_us")

Row = tuple[Any, ...]


# Structs rather than dataclasses: every batch makes them, in a fifth of the time.
class AccountState(msgspec.Struct):
    """An account, as it is after what was done of the batch so far."""

    account_id: int
    available: int
    credit_limit: int
    is_open: bool
    held: int  # by all leases on it
    change: int = 0  # of `available`, to be written


class LeaseState(msgspec.Struct):
    """A lease as it was found, what is to be added to that, and what is not spent of it now."""

    lease_id: int
    account_id: int
    owner: str
    state: str
    granted: int
    spent: int
    returned: int
    unspent: int = 0  # may still be charged or returned; this and the next are set by the others
    next_state: str = ""
    more_granted: int = 0
    more_spent: int = 0
    more_returned: int = 0
    calls: int = 0  # that cost something
    is_new: bool = False

    def __post_init__(self) -> None:
        self.unspent = self.granted - self.spent - self.returned
        self.next_state = self.state

    @property
    def is_changed(self) -> bool:
        """Whether anything is to be written."""
        return (
            self.next_state != self.state
            or self.more_granted > 0
            or self.more_spent > 0
            or self.more_returned > 0
        )


class Ask(msgspec.Struct, frozen=True):
    """What a batch must know, and the rows of `usage` that it would add."""

    accounts: Sequence[int]  # to be locked, in order
    leases: Sequence[int]  # to be locked after the accounts, in order
    spendings: Sequence[Spending]
    new_leases: int  # how many ids to set apart
    rows: Sequence[Row]


class Found(msgspec.Struct, frozen=True):
    """The answer. `written`: charge and absorbed of the calls that were there before; the rows of
    all others have been inserted.
    """

    accounts: Mapping[int, AccountState]
    leases: Mapping[int, LeaseState]
    spent: Sequence[int]
    new_leases: Sequence[int]
    written: Mapping[str, tuple[int, int]]


class Changes(msgspec.Struct):
    """What is written at the end of a batch. Lists are in the order in which rows are locked."""

    accounts: list[AccountState] = []
    leases: list[LeaseState] = []
    transfers: list[Row] = []  # see TRANSFER
    lease_hours: list[Row] = []  # columns of the table
    usage_hours: list[Row] = []  # columns of the table
    unsealed: list[int] = []  # hours that may be sealed
    taken_back: list[str] = []  # rows of `usage` that must not stay
    undelivered: list[str] = []


def check_changed(changed: int, leases: Sequence[LeaseState]) -> None:
    """Raises RuntimeError if not every lease of a batch was there to be written."""
    if changed != len(leases):
        raise RuntimeError(f"{len(leases)} leases were to be written, {changed} were there")


class Tables(Protocol):
    """The statements, on a transaction that is open."""

    def look(self, ask: Ask) -> Found:
        """Lock, read, and insert the rows that are not there yet."""
        ...

    def write(self, changes: Changes, now_us: int) -> None:
        """Write all of this. Raises what the driver raises, and RuntimeError for a lease that is
        not what it was when it was looked at.
        """
        ...

    def unspent(self, owner: str) -> list[OpenLease]:
        """The leases of an owner that may be charged."""
        ...

    def reject(self, row: Row) -> None:
        """Note a call that cannot be written: (request_id, entry, error, created_us)."""
        ...

    def execute(self, statement: str) -> None:
        """A statement without parameters."""
        ...

    def is_away(self, error: Exception) -> bool:
        """Whether this says that the store cannot be written, rather than that a job is bad."""
        ...

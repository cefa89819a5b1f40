"""What the ledger process needs of the store and of the spool, for the committer's thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from farebox.billing.jobs import Job, OpenLease, Outcome, Post, Posted, Spooled


class LedgerStore(Protocol):
    """The store in the hands of one owner. Used by one thread."""

    def do(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Do these in one transaction, in order; one outcome for each, never Away.

        Raises StoreError when the store cannot be written within about a second. Then nothing was
        done, or all of it, if it was only the answer that was lost.
        """
        ...

    def unspent(self) -> list[OpenLease]:
        """This owner's leases that are open, with what is not spent of them. Raises StoreError."""
        ...


class SpoolPort(Protocol):
    """Where charges wait while the store cannot be written. Used by one thread."""

    def add(self, posts: Sequence[Post]) -> list[Posted]:
        """Keep these, safely on the disk; what becomes of each. One that waits there already stays
        as it was. Raises OSError or sqlite3.Error when it cannot be written.
        """
        ...

    def first(self, limit: int) -> list[Post]:
        """The oldest of them, at most so many."""
        ...

    def drop(self, request_ids: Sequence[str]) -> None:
        """These are in the store now."""
        ...

    def waiting(self) -> list[Spooled]:
        """All that is kept, for a ledger that begins."""
        ...

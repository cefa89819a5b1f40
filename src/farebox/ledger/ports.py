"""What the ledger process needs of the store and of the spool. Both are used by one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from farebox.billing.jobs import Job, Outcome, Post, Posted


class LedgerStore(Protocol):
    """The store in the hands of one owner."""

    def do(self, jobs: Sequence[Job], patience_ms: int) -> list[Outcome]:
        """Do these in one transaction, in order; one outcome for each, never Away.

        Raises StoreError when the store cannot be written within about `patience_ms`. Then nothing
        was done, or all of it, if only the answer was lost; doing the same again makes either good.
        """
        ...

    def settle_apart(self, post: Post) -> Outcome:
        """Settle a call that waited in the spool until its lease was gone. Raises StoreError."""
        ...


class SpoolPort(Protocol):
    """Where charges wait while the store cannot be written. What it raises means that it cannot
    be used now, and that nothing was changed.
    """

    def __len__(self) -> int:
        """How many wait."""
        ...

    def add(self, posts: Sequence[Post]) -> list[Posted]:
        """Keep these, safely on the disk; one that waits there already stays as it was."""
        ...

    def oldest(self, limit: int) -> list[Post]:
        """The first of them, at most so many."""
        ...

    def drop(self, request_ids: Sequence[str]) -> None:
        """These are in the store now."""
        ...

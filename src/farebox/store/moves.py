"""One transfer of an account with what it explains. Who may make which is transfers.py's; those of
calls and leases are posting.py's and leases.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from farebox.core import clock
from farebox.store.schema import accounts, transfers

OPERATOR = "operator:credits"  # where top-ups come from and debits go to


@dataclass(frozen=True, slots=True)
class Move:
    """Credits from the operator to an account, or back if `amount_nanocredits` is below zero."""

    account_id: int
    kind: Literal["top_up", "debit", "refund", "correction"]
    amount_nanocredits: int
    reason: str
    external_id: str | None = None
    corrects: int | None = None


def move(connection: sa.Connection, made: Move) -> None:
    """Insert the transfer, and change the account by it. The account's row is locked already."""
    signed = made.amount_nanocredits
    assert signed, "nothing moves"
    sides = (OPERATOR, f"account:{made.account_id}")
    debit, credit = sides if signed > 0 else reversed(sides)
    connection.execute(
        sa.insert(transfers).values(
            account_id=made.account_id,
            kind=made.kind,
            debit=debit,
            credit=credit,
            amount=abs(signed),
            corrects=made.corrects,
            external_id=made.external_id,
            reason=made.reason,
            created_us=clock.now_us(),
        )
    )
    connection.execute(
        sa.update(accounts)
        .where(accounts.c.id == made.account_id)
        .values(available=accounts.c.available + signed, credited=accounts.c.credited + signed)
    )

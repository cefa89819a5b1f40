"""Accounts: made, changed and shown. What an operator does to their money is transfers.py's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from farebox.core import clock
from farebox.core.account import Account
from farebox.core.money import show_credits
from farebox.store.engine import StoreBase
from farebox.store.errors import StoreConflict
from farebox.store.moves import Move, move
from farebox.store.schema import accounts, leases, revisions

# What leases of the account have left, in the one statement that reads its row. The states stand in
# its text, so that the index of such leases serves.
_HELD = (
    sa.select(
        sa.func.coalesce(sa.func.sum(leases.c.granted - leases.c.spent - leases.c.returned), 0)
    )
    .where(leases.c.account_id == accounts.c.id, sa.text("leases.state IN ('open', 'draining')"))
    .scalar_subquery()
)
_ACCOUNTS = sa.select(accounts, _HELD.label("held"))


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """One account as it is at one moment. `available` may be below zero, down to -credit_limit.

    `held` is what leases have left, and the holds of calls in flight lie within. `spent` is what
    calls were charged, and what was declared lost with the lease of a host.
    """

    id: int
    name: str
    group: str
    rate_ppm: int | None
    credit_limit_nanocredits: int
    available_nanocredits: int
    held_nanocredits: int
    credited_nanocredits: int
    disabled: bool
    created_us: int

    @property
    def balance_nanocredits(self) -> int:
        """What is not spent yet, held or not."""
        return self.available_nanocredits + self.held_nanocredits

    @property
    def spent_nanocredits(self) -> int:
        """What of all credits is there no more."""
        return self.credited_nanocredits - self.balance_nanocredits


def _stored(row: sa.RowMapping) -> StoredAccount:
    return StoredAccount(
        id=row["id"],
        name=row["name"],
        group=row["group_name"],
        rate_ppm=row["rate_ppm"],
        credit_limit_nanocredits=row["credit_limit"],
        available_nanocredits=row["available"],
        held_nanocredits=int(row["held"]),  # PostgreSQL's sums are decimals
        credited_nanocredits=row["credited"],
        disabled=bool(row["disabled"]),
        created_us=row["created_us"],
    )


def bump_keys(connection: sa.Connection) -> int:
    """The next revision of accounts and keys, taken within the transaction that changes them."""
    return connection.execute(
        sa.update(revisions)
        .where(revisions.c.name == "keys")
        .values(value=revisions.c.value + 1)
        .returning(revisions.c.value)
    ).scalar_one()


class Accounts(StoreBase):
    """What the store knows of accounts."""

    def create_account(
        self,
        name: str,
        *,
        group: str = "default",
        rate_ppm: int | None = None,
        credit_limit_nanocredits: int = 0,
        credits_nanocredits: int = 0,
    ) -> StoredAccount:
        """A new account with its first credits. Raises StoreConflict when the name is taken."""
        now_us = clock.now_us()
        with self._writing() as connection:
            if _find(connection, accounts.c.name == name):
                raise StoreConflict(f"There is an account {name!r} already. Choose another name.")
            account_id = connection.execute(
                sa.insert(accounts)
                .values(
                    name=name,
                    group_name=group,
                    rate_ppm=rate_ppm,
                    credit_limit=credit_limit_nanocredits,
                    created_us=now_us,
                    revision=bump_keys(connection),
                )
                .returning(accounts.c.id)
            ).scalar_one()
            if credits_nanocredits:
                move(connection, Move(account_id, "top_up", credits_nanocredits, "first credits"))
            return get_account(connection, account_id)

    def account(self, name: str) -> StoredAccount | None:
        """The account of that name."""
        with self._reading() as connection:
            return _find(connection, accounts.c.name == name)

    def account_by_id(self, account_id: int) -> StoredAccount | None:
        """The account of that id."""
        with self._reading() as connection:
            return _find(connection, accounts.c.id == account_id)

    def accounts(self) -> list[StoredAccount]:
        """All accounts by name, from one snapshot."""
        with self._reading() as connection:
            rows = connection.execute(_ACCOUNTS.order_by(accounts.c.name))
            return [_stored(row) for row in rows.mappings()]

    def set_account(self, account_id: int, changes: Mapping[str, object]) -> StoredAccount:
        """Change `group`, `rate_ppm`, `credit_limit` or `disabled`; what is not named stays.

        Raises StoreConflict for a credit limit below what the account owes already.
        """
        values = {"group_name" if name == "group" else name: v for name, v in changes.items()}
        assert values.keys() <= {"group_name", "rate_ppm", "credit_limit", "disabled"}
        with self._writing() as connection:
            lock_account(connection, account_id)
            account = get_account(connection, account_id)
            limit = values.get("credit_limit", account.credit_limit_nanocredits)
            assert isinstance(limit, int)
            if account.available_nanocredits < -limit:
                raise StoreConflict(
                    f"Account {account.name!r} owes {show_credits(-account.available_nanocredits)} "
                    "credits, so its credit limit cannot be below that. Credit the account first."
                )
            connection.execute(
                sa.update(accounts)
                .where(accounts.c.id == account_id)
                .values(**values, revision=bump_keys(connection))
            )
            return get_account(connection, account_id)


def _find(connection: sa.Connection, which: sa.ColumnElement[bool]) -> StoredAccount | None:
    row = connection.execute(_ACCOUNTS.where(which)).mappings().first()
    return _stored(row) if row else None


def lock_account(connection: sa.Connection, account_id: int) -> None:
    """Let no grant or charge change the account until the transaction ends: with PostgreSQL ledgers
    write beside the one writer.
    """
    connection.execute(
        sa.select(accounts.c.id).where(accounts.c.id == account_id).with_for_update()
    )


def get_account(connection: sa.Connection, account_id: int) -> StoredAccount:
    """The account of that id, which exists."""
    account = _find(connection, accounts.c.id == account_id)
    assert account is not None, f"no account {account_id}"
    return account


def as_account(row: sa.RowMapping) -> Account:
    """What admission needs to know of an account's row."""
    return Account(
        id=row["id"],
        name=row["name"],
        group=row["group_name"],
        rate_ppm=row["rate_ppm"],
        disabled=bool(row["disabled"]),
    )

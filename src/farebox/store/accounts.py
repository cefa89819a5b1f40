"""Accounts and the transfers that explain their money. What calls do to it is calls.py's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from farebox.core import clock
from farebox.core.account import Account
from farebox.core.money import MAX_NANOCREDITS, show_credits
from farebox.errors import OutOfCredit
from farebox.store.engine import StoreBase
from farebox.store.errors import StoreConflict, StoreError
from farebox.store.schema import accounts, revisions, transfers


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """One account as it is at one moment. `available` may be below zero, down to -credit_limit."""

    id: int
    name: str
    group: str
    rate_ppm: int | None
    credit_limit_nanocredits: int
    available_nanocredits: int
    held_nanocredits: int
    spent_nanocredits: int
    credited_nanocredits: int
    disabled: bool
    created_us: int

    @property
    def balance_nanocredits(self) -> int:
        """What is not spent yet, held or not."""
        return self.available_nanocredits + self.held_nanocredits


def _stored(row: sa.RowMapping) -> StoredAccount:
    return StoredAccount(
        id=row["id"],
        name=row["name"],
        group=row["group_name"],
        rate_ppm=row["rate_ppm"],
        credit_limit_nanocredits=row["credit_limit"],
        available_nanocredits=row["available"],
        held_nanocredits=row["held"],
        spent_nanocredits=row["spent"],
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
                _transfer(connection, account_id, "top_up", credits_nanocredits, "first credits")
            return _get(connection, account_id)

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
            rows = connection.execute(sa.select(accounts).order_by(accounts.c.name))
            return [_stored(row) for row in rows.mappings()]

    def set_account(self, account_id: int, changes: Mapping[str, object]) -> StoredAccount:
        """Change `group`, `rate_ppm`, `credit_limit` or `disabled`; what is not named stays.

        Raises StoreConflict for a credit limit below what the account owes already.
        """
        values = {"group_name" if name == "group" else name: v for name, v in changes.items()}
        assert values.keys() <= {"group_name", "rate_ppm", "credit_limit", "disabled"}
        with self._writing() as connection:
            account = _get(connection, account_id)
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
            return _get(connection, account_id)

    def credit(self, account_id: int, amount_nanocredits: int, reason: str) -> StoredAccount:
        """Add credits (amount above zero)."""
        return self._post(account_id, "top_up", amount_nanocredits, reason)

    def debit(self, account_id: int, amount_nanocredits: int, reason: str) -> StoredAccount:
        """Take credits away (amount above zero), not below the floor: raises errors.OutOfCredit."""
        return self._post(account_id, "debit", amount_nanocredits, reason)

    def _post(
        self, account_id: int, kind: Literal["top_up", "debit"], amount: int, reason: str
    ) -> StoredAccount:
        assert amount > 0
        with self._writing() as connection:
            account = _get(connection, account_id)
            room = account.available_nanocredits + account.credit_limit_nanocredits
            if kind == "debit" and amount > room:
                raise OutOfCredit(
                    f"Account {account.name!r} has {show_credits(room)} credits that can be "
                    f"debited, {show_credits(amount - room)} less than {show_credits(amount)}."
                )
            if kind == "top_up" and account.credited_nanocredits + amount > MAX_NANOCREDITS:
                raise StoreError(
                    f"Account {account.name!r} cannot hold {show_credits(amount)} credits more: "
                    f"{show_credits(MAX_NANOCREDITS)} is the most that is kept."
                )
            _transfer(connection, account_id, kind, amount, reason)
            return _get(connection, account_id)


def _transfer(
    connection: sa.Connection,
    account_id: int,
    kind: Literal["top_up", "debit"],
    amount: int,
    reason: str,
) -> None:
    """The one place outside calls where money moves: the transfer and what it explains."""
    signed = amount if kind == "top_up" else -amount
    connection.execute(
        sa.insert(transfers).values(
            account_id=account_id,
            kind=kind,
            amount=amount,
            reason=reason,
            created_us=clock.now_us(),
        )
    )
    connection.execute(
        sa.update(accounts)
        .where(accounts.c.id == account_id)
        .values(
            available=accounts.c.available + signed,
            credited=accounts.c.credited + signed,
        )
    )


def _find(connection: sa.Connection, which: sa.ColumnElement[bool]) -> StoredAccount | None:
    row = connection.execute(sa.select(accounts).where(which)).mappings().first()
    return _stored(row) if row else None


def _get(connection: sa.Connection, account_id: int) -> StoredAccount:
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

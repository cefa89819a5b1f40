"""What an operator does to an account's money, each time with a transfer that explains it.

A transfer is never changed: a wrong one is corrected by another that goes the other way.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from farebox.core.money import MAX_NANOCREDITS, show_credits
from farebox.errors import NotFound, OutOfCredit
from farebox.store.accounts import StoredAccount, get_account, lock_account
from farebox.store.engine import StoreBase
from farebox.store.errors import StoreConflict, StoreError
from farebox.store.moves import OPERATOR, Move, move
from farebox.store.schema import accounts, transfers, usage

_CORRECTABLE = ("top_up", "debit", "refund")


@dataclass(frozen=True, slots=True)
class StoredTransfer:
    """A line of an account's statement; `amount_nanocredits` went from `debit` to `credit`."""

    id: int
    kind: str
    debit: str
    credit: str
    amount_nanocredits: int
    calls: int  # that a charge is for
    corrects: int | None
    external_id: str | None
    reason: str | None
    created_us: int


class Transfers(StoreBase):
    """What the store does with transfers. Each method that moves money gives the account after it.

    `external_id` is the operator's own name for a transfer, such as an invoice's number: one that
    is there already raises StoreConflict, and nothing is changed.
    """

    def credit(
        self,
        account_id: int,
        amount_nanocredits: int,
        reason: str,
        external_id: str | None = None,
    ) -> StoredAccount:
        """Add credits (amount above zero)."""
        return self._move(Move(account_id, "top_up", amount_nanocredits, reason, external_id))

    def debit(
        self,
        account_id: int,
        amount_nanocredits: int,
        reason: str,
        external_id: str | None = None,
    ) -> StoredAccount:
        """Take credits away (amount above zero), not below the floor: raises errors.OutOfCredit.

        What leases hold cannot be taken; have them given back first.
        """
        return self._move(Move(account_id, "debit", -amount_nanocredits, reason, external_id))

    def refund(
        self,
        account_id: int,
        amount_nanocredits: int,
        reason: str,
        external_id: str | None = None,
        request_id: str | None = None,
    ) -> StoredAccount:
        """Give credits back that calls were charged. The calls' charges stay as they are.

        With `request_id` no more than that call was charged, and once a call, unless external ids
        tell several refunds of it apart. Raises StoreConflict.
        """
        if request_id is None:
            return self._move(Move(account_id, "refund", amount_nanocredits, reason, external_id))
        named = external_id or f"refund:{request_id}"
        with self._writing() as connection:
            charged = connection.execute(
                sa.select(usage.c.charge).where(
                    usage.c.request_id == request_id, usage.c.account_id == account_id
                )
            ).scalar()
            if charged is None:
                raise StoreConflict(
                    f"The account has no call {request_id!r}, or its row was dropped at the end of "
                    "its time. Refund without naming the call."
                )
            if amount_nanocredits > charged:
                raise StoreConflict(
                    f"Call {request_id!r} was charged {show_credits(charged)} credits, so "
                    f"{show_credits(amount_nanocredits)} cannot be refunded for it."
                )
            return _moved(connection, Move(account_id, "refund", amount_nanocredits, reason, named))

    def correct(self, transfer_id: int, reason: str) -> StoredAccount:
        """Undo a top-up, debit or refund by a transfer the other way round.

        Raises errors.NotFound, errors.OutOfCredit when the account has spent it, and StoreConflict
        for one that is of another kind or was corrected already.
        """
        with self._writing() as connection:
            wrong = connection.execute(
                sa.select(transfers).where(transfers.c.id == transfer_id)
            ).first()
            if wrong is None:
                raise NotFound(f"There is no transfer {transfer_id}.")
            if wrong.kind not in _CORRECTABLE:
                raise StoreConflict(
                    f"Transfer {transfer_id} is a {wrong.kind}, which cannot be corrected. Give "
                    "credits back by a refund."
                )
            done = connection.execute(
                sa.select(transfers.c.id).where(
                    transfers.c.account_id == wrong.account_id,
                    transfers.c.corrects == transfer_id,
                )
            ).scalar()
            if done is not None:
                raise StoreConflict(f"Transfer {transfer_id} was corrected already, by {done}.")
            amount = wrong.amount if wrong.credit == OPERATOR else -wrong.amount
            return _moved(
                connection,
                Move(wrong.account_id, "correction", amount, reason, corrects=transfer_id),
            )

    def account_of_transfer(self, transfer_id: int) -> int | None:
        """Whose transfer it is; None if there is none of that id."""
        query = sa.select(transfers.c.account_id).where(transfers.c.id == transfer_id)
        with self._reading() as connection:
            return connection.execute(query).scalar()

    def transfers(self, account_id: int, limit: int = 100) -> list[StoredTransfer]:
        """The account's statement: the last transfers, newest first."""
        query = (
            sa.select(transfers)
            .where(transfers.c.account_id == account_id)
            .order_by(transfers.c.id.desc())
            .limit(limit)
        )
        with self._reading() as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]

    def _move(self, made: Move) -> StoredAccount:
        with self._writing() as connection:
            return _moved(connection, made)


def _moved(connection: sa.Connection, made: Move) -> StoredAccount:
    """Check that it may be done, and do it."""
    amount = made.amount_nanocredits
    assert (amount < 0) == (made.kind == "debit") or made.kind == "correction"
    if made.external_id is not None:
        _check_new(connection, made.external_id)
    lock_account(connection, made.account_id)
    account = get_account(connection, made.account_id)
    room = account.available_nanocredits + account.credit_limit_nanocredits
    if -amount > room:
        held = account.held_nanocredits
        beside = f" beside {show_credits(held)} that are held" if held else ""
        raise OutOfCredit(
            f"Account {account.name!r} has {show_credits(room)} credits that can be "
            f"debited{beside}, {show_credits(-amount - room)} less than {show_credits(-amount)}."
        )
    if account.credited_nanocredits + amount > MAX_NANOCREDITS:
        raise StoreError(
            f"Account {account.name!r} cannot hold {show_credits(amount)} credits more: "
            f"{show_credits(MAX_NANOCREDITS)} is the most that is kept."
        )
    move(connection, made)
    return get_account(connection, made.account_id)


def _check_new(connection: sa.Connection, external_id: str) -> None:
    known = connection.execute(
        sa.select(transfers.c.id, transfers.c.kind, transfers.c.amount, accounts.c.name)
        .join(accounts, accounts.c.id == transfers.c.account_id)
        .where(transfers.c.external_id == external_id)
    ).first()
    if known is not None:
        raise StoreConflict(
            f"There is a transfer with the external id {external_id!r} already: {known.id}, a "
            f"{known.kind} of {show_credits(known.amount)} credits of account {known.name!r}. "
            "Nothing was changed."
        )


def _stored(row: sa.RowMapping) -> StoredTransfer:
    return StoredTransfer(
        id=row["id"],
        kind=row["kind"],
        debit=row["debit"],
        credit=row["credit"],
        amount_nanocredits=row["amount"],
        calls=row["calls"],
        corrects=row["corrects"],
        external_id=row["external_id"],
        reason=row["reason"],
        created_us=row["created_us"],
    )

"""What an operator does to the money of accounts, and the statement that shows it.

Amounts come as decimal strings. Nothing is ever edited: a wrong transfer is corrected by another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farebox.admin import accounts
from farebox.admin.accounts import AccountView
from farebox.core import clock
from farebox.core.money import parse_credits
from farebox.errors import BadRequest, NotFound, OutOfCredit
from farebox.store import Store
from farebox.store.accounts import StoredAccount
from farebox.store.transfers import StoredTransfer

# Has running gateways give back what they have of an account in hand and do not need. It may take a
# moment, and may fail without a word.
Recall = Callable[[int], object]

_MAX_REASON_CHARS = 500
_MAX_EXTERNAL_ID_CHARS = 200
_ANSWERS = ("resp_", "msg_")  # whose ids are made of the request's


def credit(
    store: Store, name: str, amount: str, reason: str, external_id: str | None = None
) -> AccountView:
    """Add credits. Raises NotFound, BadRequest, BadAmount, and StoreConflict for an external id
    that is there already.
    """
    account = accounts.find(store, name)
    nanocredits, why, named = _checked(amount, reason, external_id)
    return accounts.view(store, store.credit(account.id, nanocredits, why, named))


def debit(
    store: Store,
    name: str,
    amount: str,
    reason: str,
    *,
    external_id: str | None = None,
    recall: Recall | None = None,
) -> AccountView:
    """Take credits away, not below the credit limit: raises OutOfCredit. Else as credit.

    If they are there, but in the hands of a gateway, `recall` has them given back first.
    """
    account = accounts.find(store, name)
    nanocredits, why, named = _checked(amount, reason, external_id)

    def take() -> StoredAccount:
        return store.debit(account.id, nanocredits, why, named)

    return accounts.view(store, _take(store, account.id, take, recall))


def refund(
    store: Store,
    name: str,
    amount: str,
    reason: str,
    *,
    external_id: str | None = None,
    request_id: str | None = None,
) -> AccountView:
    """Give credits back that calls were charged, at most what the call of that id was. Else as
    credit; raises StoreConflict for a call that was refunded already, too.
    """
    account = accounts.find(store, name)
    nanocredits, why, named = _checked(amount, reason, external_id)
    for kind in _ANSWERS:
        if request_id is not None and request_id.startswith(kind):
            request_id = f"req_{request_id.removeprefix(kind)}"
    return accounts.view(store, store.refund(account.id, nanocredits, why, named, request_id))


def correct(
    store: Store, transfer_id: int, reason: str, *, recall: Recall | None = None
) -> AccountView:
    """Undo a top-up, debit or refund by a transfer the other way round.

    Raises NotFound, BadRequest, StoreConflict for what cannot be undone or was already, and
    OutOfCredit for credits that have been spent.
    """
    why = _reason(reason)
    account_id = store.account_of_transfer(transfer_id)
    if account_id is None:
        raise NotFound(
            f"There is no transfer {transfer_id}. `farebox accounts statement` shows the ids."
        )
    corrected = _take(store, account_id, lambda: store.correct(transfer_id, why), recall)
    return accounts.view(store, corrected)


def statement(store: Store, name: str, limit: int) -> list[dict[str, Any]]:
    """The last transfers of an account, newest first. Each goes from `debit` to `credit`, which are
    `account:NAME`, `lease:ID` or one of the operator's. Raises NotFound.
    """
    account = accounts.find(store, name)
    return [_as_dict(each, account) for each in store.transfers(account.id, limit)]


def _as_dict(transfer: StoredTransfer, account: StoredAccount) -> dict[str, Any]:
    sides = {f"account:{account.id}": f"account:{account.name}"}
    return {
        "id": transfer.id,
        "created_at": clock.rfc3339(transfer.created_us),
        "kind": transfer.kind,
        "debit": sides.get(transfer.debit, transfer.debit),
        "credit": sides.get(transfer.credit, transfer.credit),
        "amount_nanocredits": transfer.amount_nanocredits,
        "calls": transfer.calls,
        "corrects": transfer.corrects,
        "external_id": transfer.external_id,
        "reason": transfer.reason,
    }


def _take(
    store: Store, account_id: int, take: Callable[[], StoredAccount], recall: Recall | None
) -> StoredAccount:
    """Do what takes credits away; once more if a gateway had them in hand."""
    try:
        return take()
    except OutOfCredit:
        account = store.account_by_id(account_id)
        if recall is None or account is None or not account.held_nanocredits:
            raise
    recall(account_id)
    return take()


def _checked(amount: str, reason: str, external_id: str | None) -> tuple[int, str, str | None]:
    return _positive(amount), _reason(reason), _external_id(external_id)


def _positive(text: str) -> int:
    amount = parse_credits(text)
    if amount <= 0:
        raise BadRequest(f"amount {text!r} is not above zero. Use debit to take credits away.")
    return amount


def _reason(text: str) -> str:
    text = text.strip()
    if not text or len(text) > _MAX_REASON_CHARS:
        raise BadRequest(f"A reason of 1 to {_MAX_REASON_CHARS} characters is needed.")
    return text


def _external_id(text: str | None) -> str | None:
    if text is not None and not (0 < len(text) <= _MAX_EXTERNAL_ID_CHARS and text.isprintable()):
        raise BadRequest(
            f"An external id has 1 to {_MAX_EXTERNAL_ID_CHARS} characters, all of them printable."
        )
    return text

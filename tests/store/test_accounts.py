"""Accounts: made, changed, and shown with what leases of theirs hold."""

import pytest

from farebox.billing.jobs import Return
from farebox.store import Store, StoreConflict
from farebox.store.accounts import StoredAccount
from farebox.store.books import OwnedBooks
from tests.store.bookkeeping import broken_invariants, granted, post


def test_a_new_account_has_its_first_credits(store: Store) -> None:
    """Creating an account stores what was asked, and its credits with the transfer they came by."""
    made = store.create_account(
        "ann", group="team", rate_ppm=800_000, credit_limit_nanocredits=5, credits_nanocredits=70
    )
    assert made == StoredAccount(
        id=1,
        name="ann",
        group="team",
        rate_ppm=800_000,
        credit_limit_nanocredits=5,
        available_nanocredits=70,
        held_nanocredits=0,
        credited_nanocredits=70,
        disabled=False,
        created_us=made.created_us,
    )
    assert (made.balance_nanocredits, made.spent_nanocredits) == (70, 0)
    assert store.account("ann") == store.account_by_id(1) == made
    (first,) = store.transfers(made.id)
    assert (first.kind, first.amount_nanocredits, first.reason) == ("top_up", 70, "first credits")


def test_a_name_is_taken_once(store: Store) -> None:
    """A second account of the same name is a conflict and leaves no trace."""
    store.create_account("ann")
    with pytest.raises(StoreConflict, match="an account 'ann' already"):
        store.create_account("ann", credits_nanocredits=5)
    assert [account.name for account in store.accounts()] == ["ann"]
    assert store.transfers(1) == []


def test_accounts_are_listed_by_name(store: Store) -> None:
    """The list is sorted, whatever the order of creation."""
    for name in ("zoe", "ann", "bob"):
        store.create_account(name)
    assert [account.name for account in store.accounts()] == ["ann", "bob", "zoe"]


def test_an_unknown_account_is_none(store: Store) -> None:
    """Looking for what is not there finds nothing."""
    assert (store.account("nobody"), store.account_by_id(9)) == (None, None)


def test_changing_an_account_leaves_the_rest(store: Store, account: StoredAccount) -> None:
    """Only what is named changes, and a rate of None is the group's again."""
    changed = store.set_account(
        account.id, {"group": "team", "rate_ppm": 5, "credit_limit": 7, "disabled": 1}
    )
    assert (changed.group, changed.rate_ppm, changed.credit_limit_nanocredits) == ("team", 5, 7)
    assert changed.disabled
    again = store.set_account(account.id, {"rate_ppm": None, "disabled": 0})
    assert (again.group, again.rate_ppm, again.credit_limit_nanocredits) == ("team", None, 7)
    assert not again.disabled


def test_a_credit_limit_cannot_go_below_the_debt(store: Store, account: StoredAccount) -> None:
    """An account that owes keeps at least that limit."""
    store.set_account(account.id, {"credit_limit": 100})
    store.debit(account.id, 1050, "now it owes 50")
    with pytest.raises(StoreConflict, match=r"owes 0\.00000005 credits"):
        store.set_account(account.id, {"credit_limit": 49})
    assert store.set_account(account.id, {"credit_limit": 50}).credit_limit_nanocredits == 50


def test_what_leases_hold_and_what_calls_were_charged_is_told_apart(
    store: Store, account: StoredAccount
) -> None:
    """available + held is the balance, and the balance with what was spent is what was credited."""
    books = OwnedBooks(store, "own_1")
    books.begin(lambda owner: False)
    lease_id = granted(books, 600)
    books.do([post("req_1", lease_id, 250)])
    now = store.account("ann")
    assert now is not None
    figures = (
        now.available_nanocredits,
        now.held_nanocredits,
        now.balance_nanocredits,
        now.spent_nanocredits,
        now.credited_nanocredits,
    )
    assert figures == (400, 350, 750, 250, 1000)
    assert store.accounts() == [now]
    books.do([Return(lease_id, account.id, 350, close=True)])
    idle = store.account_by_id(account.id)
    assert idle is not None
    assert (idle.available_nanocredits, idle.held_nanocredits) == (750, 0)
    assert broken_invariants(store) == {}

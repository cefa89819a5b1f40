"""Accounts: made, changed, credited and debited, with every movement explained by a transfer."""

import sqlite3
from contextlib import closing

import pytest

from farebox.core.money import MAX_NANOCREDITS
from farebox.errors import OutOfCredit
from farebox.store import Store, StoreConflict, StoreError
from farebox.store.accounts import StoredAccount
from tests.store.bookkeeping import broken_invariants


def transfers(store: Store) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(store.path)) as database:
        return database.execute("SELECT kind, amount, reason FROM transfers ORDER BY id").fetchall()


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
        spent_nanocredits=0,
        credited_nanocredits=70,
        disabled=False,
        created_us=made.created_us,
    )
    assert made.balance_nanocredits == 70
    assert store.account("ann") == store.account_by_id(1) == made
    assert transfers(store) == [("top_up", 70, "first credits")]


def test_a_name_is_taken_once(store: Store) -> None:
    """A second account of the same name is a conflict and leaves no trace."""
    store.create_account("ann")
    with pytest.raises(StoreConflict, match="an account 'ann' already"):
        store.create_account("ann", credits_nanocredits=5)
    assert [account.name for account in store.accounts()] == ["ann"]
    assert transfers(store) == []


def test_accounts_are_listed_by_name(store: Store) -> None:
    """The list is sorted, whatever the order of creation."""
    for name in ("zoe", "ann", "bob"):
        store.create_account(name)
    assert [account.name for account in store.accounts()] == ["ann", "bob", "zoe"]


def test_an_unknown_account_is_none(store: Store) -> None:
    """Looking for what is not there finds nothing."""
    assert (store.account("nobody"), store.account_by_id(9)) == (None, None)


def test_credit_and_debit_move_money_with_a_reason(store: Store, account: StoredAccount) -> None:
    """Both change available and credited alike, and append a transfer."""
    assert store.credit(account.id, 50, "invoice 7").available_nanocredits == 1050
    debited = store.debit(account.id, 1050, "refund")
    assert (debited.available_nanocredits, debited.credited_nanocredits) == (0, 0)
    assert transfers(store)[1:] == [("top_up", 50, "invoice 7"), ("debit", 1050, "refund")]
    assert broken_invariants(store.path) == {}


def test_a_debit_stops_at_the_floor(store: Store, account: StoredAccount) -> None:
    """A debit goes down to minus the credit limit and not below; a refused one changes nothing."""
    store.set_account(account.id, {"credit_limit": 10})
    with pytest.raises(OutOfCredit, match=r"0\.00000101 credits that can be debited, 0\.000000001"):
        store.debit(account.id, 1011, "too much")
    assert store.debit(account.id, 1010, "all").available_nanocredits == -10
    assert broken_invariants(store.path) == {}


def test_an_account_cannot_hold_more_than_the_store_can_count(
    store: Store, account: StoredAccount
) -> None:
    """Credits beyond 64 bits are refused with a sentence."""
    with pytest.raises(StoreError, match="is the most that is kept"):
        store.credit(account.id, MAX_NANOCREDITS, "typing error")
    assert store.account("ann") == account


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

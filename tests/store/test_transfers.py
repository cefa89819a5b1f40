"""Credits in and out: each movement explained by a transfer between two sides, for ever."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from farebox.core.account import Key
from farebox.core.money import MAX_NANOCREDITS
from farebox.errors import NotFound, OutOfCredit
from farebox.store import Store, StoreConflict, StoreError
from farebox.store.accounts import StoredAccount
from farebox.store.books import OwnedBooks
from farebox.store.transfers import StoredTransfer
from tests.store.bookkeeping import granted, post


def unsound(store: Store) -> dict[str, object]:
    """What the audit finds of the books, if anything."""
    return {name: found for name, found in store.broken_books(full=True).items() if found.total}


def last(store: Store, account: StoredAccount) -> StoredTransfer:
    return store.transfers(account.id, 1)[0]


def test_each_kind_of_transfer_goes_between_its_two_sides(
    store: Store, account: StoredAccount
) -> None:
    """Both figures of the account move with it, and the statement has it, newest first."""
    assert store.credit(account.id, 50, "invoice 7", "inv-7").available_nanocredits == 1050
    assert store.refund(account.id, 5, "sorry").available_nanocredits == 1055
    debited = store.debit(account.id, 1055, "paid out", "out-1")
    assert (debited.available_nanocredits, debited.credited_nanocredits) == (0, 0)
    statement = store.transfers(account.id)
    operator, own = "operator:credits", f"account:{account.id}"
    assert [
        StoredTransfer(4, "debit", own, operator, 1055, 0, None, "out-1", "paid out", 0),
        StoredTransfer(3, "refund", operator, own, 5, 0, None, None, "sorry", 0),
        StoredTransfer(2, "top_up", operator, own, 50, 0, None, "inv-7", "invoice 7", 0),
        StoredTransfer(1, "top_up", operator, own, 1000, 0, None, None, "first credits", 0),
    ] == [replace(each, created_us=0) for each in statement]
    assert [each.id for each in store.transfers(account.id, 2)] == [4, 3]
    assert unsound(store) == {}


def test_a_debit_stops_at_the_floor(store: Store, account: StoredAccount) -> None:
    """A debit goes down to minus the credit limit and not below; a refused one changes nothing."""
    store.set_account(account.id, {"credit_limit": 10})
    with pytest.raises(OutOfCredit, match=r"0\.00000101 credits that can be debited, 0\.000000001"):
        store.debit(account.id, 1011, "too much")
    assert store.debit(account.id, 1010, "all").available_nanocredits == -10
    assert unsound(store) == {}


def test_what_a_lease_holds_is_not_debited(store: Store, account: StoredAccount) -> None:
    """It may be spent at any moment; the refusal says how much it is."""
    books = OwnedBooks(store, "own_1")
    books.begin(lambda owner: False)
    granted(books, 600)
    with pytest.raises(OutOfCredit, match=r"0\.0000004 credits .* beside 0\.0000006 that are held"):
        store.debit(account.id, 401, "too much")
    assert store.debit(account.id, 400, "all that is free").available_nanocredits == 0
    assert unsound(store) == {}


def test_an_account_cannot_hold_more_than_the_store_can_count(
    store: Store, account: StoredAccount
) -> None:
    """Credits beyond 64 bits are refused with a sentence."""
    with pytest.raises(StoreError, match="is the most that is kept"):
        store.credit(account.id, MAX_NANOCREDITS, "typing error")
    assert store.account("ann") == account


Doing = Callable[[Store, int], StoredAccount]


@pytest.mark.parametrize(
    "again",
    [
        lambda store, account_id: store.credit(account_id, 1, "again", "inv-7"),
        lambda store, account_id: store.debit(account_id, 1, "again", "inv-7"),
        lambda store, account_id: store.refund(account_id, 1, "again", "inv-7"),
    ],
)
def test_an_external_id_is_used_once(store: Store, account: StoredAccount, again: Doing) -> None:
    """Whatever the second is for, and whose: it is named, with what it was, and nothing changes."""
    store.credit(account.id, 50, "invoice 7", "inv-7")
    bob = store.create_account("bob", credits_nanocredits=9)
    sentence = r"external id 'inv-7' already: 2, a top_up of 0\.00000005 credits of account 'ann'"
    with pytest.raises(StoreConflict, match=sentence):
        again(store, bob.id)
    assert store.account("bob") == bob
    assert len(store.transfers(bob.id)) == 1


def test_of_many_that_use_one_external_id_at_once_one_is_done(
    store: Store, account: StoredAccount
) -> None:
    """A payment that is told of twice is credited once."""

    def tell(_: int) -> bool:
        try:
            store.credit(account.id, 7, "paid", "payment-1")
        except StoreConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(tell, range(8))) == [False] * 7 + [True]
    now = store.account("ann")
    assert now is not None
    assert now.available_nanocredits == 1007


def charged_call(store: Store, account: StoredAccount, request_id: str) -> None:
    """A call of the account that was charged 300."""
    books = OwnedBooks(store, "own_1")
    books.begin(lambda owner: False)
    store.create_key(Key("key_1", account.id, b"digest"), "hint")
    books.do([post(request_id, granted(books, 300), 300)])


def test_a_call_is_refunded_once_and_not_beyond_its_charge(
    store: Store, account: StoredAccount
) -> None:
    """Naming the call guards against both; several parts need names of their own."""
    charged_call(store, account, "req_1")
    with pytest.raises(StoreConflict, match=r"'req_1' was charged 0\.0000003 credits"):
        store.refund(account.id, 301, "lost", request_id="req_1")
    refunded = store.refund(account.id, 200, "lost", request_id="req_1")
    assert (refunded.available_nanocredits, refunded.spent_nanocredits) == (900, 300)
    assert last(store, account).external_id == "refund:req_1"
    with pytest.raises(StoreConflict, match="external id 'refund:req_1' already"):
        store.refund(account.id, 100, "lost", request_id="req_1")
    store.refund(account.id, 100, "the rest", "part 2", "req_1")
    assert unsound(store) == {}


def test_only_a_call_of_the_account_is_refunded(store: Store, account: StoredAccount) -> None:
    """Another's, or one that is not there, is a conflict."""
    charged_call(store, account, "req_1")
    bob = store.create_account("bob")
    for account_id, request_id in ((bob.id, "req_1"), (account.id, "req_2")):
        with pytest.raises(StoreConflict, match=f"no call '{request_id}'"):
            store.refund(account_id, 1, "lost", request_id=request_id)
    assert store.account("bob") == bob


@pytest.mark.parametrize(
    "wrong",
    [
        lambda store, account_id: store.credit(account_id, 50, "typo"),
        lambda store, account_id: store.debit(account_id, 50, "typo"),
        lambda store, account_id: store.refund(account_id, 50, "typo"),
    ],
)
def test_a_correction_undoes_what_it_names(
    store: Store, account: StoredAccount, wrong: Doing
) -> None:
    """It goes the other way round, and both stay on the statement."""
    wrong(store, account.id)
    before = last(store, account)
    corrected = store.correct(before.id, "a typing error")
    assert corrected == account
    assert replace(last(store, account), created_us=0) == StoredTransfer(
        3, "correction", before.credit, before.debit, 50, 0, 2, None, "a typing error", 0
    )
    assert store.transfers(account.id)[1] == before
    assert unsound(store) == {}


def test_what_cannot_be_corrected_says_why(store: Store, account: StoredAccount) -> None:
    """Twice, a charge, a correction, nothing at all, and what has been spent already."""
    charged_call(store, account, "req_1")
    charge = next(each for each in store.transfers(account.id) if each.kind == "charge")
    with pytest.raises(StoreConflict, match="is a charge, which cannot be corrected"):
        store.correct(charge.id, "why not")
    with pytest.raises(NotFound, match="no transfer 999"):
        store.correct(999, "why not")
    with pytest.raises(OutOfCredit, match=r"0\.0000003 less than"):
        store.correct(1, "the 1000, of which 300 are spent")
    store.credit(account.id, 50, "typo")
    wrong = last(store, account)
    store.correct(wrong.id, "a typing error")
    with pytest.raises(StoreConflict, match=f"{wrong.id} was corrected already, by {wrong.id + 1}"):
        store.correct(wrong.id, "a typing error")
    with pytest.raises(StoreConflict, match="is a correction"):
        store.correct(wrong.id + 1, "back again")
    assert unsound(store) == {}

"""What an operator does to an account's money: all of it explained, nothing done twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from farebox.admin import accounts, transfers
from farebox.billing.jobs import Grant, Granted, Return
from farebox.core.money import BadAmount
from farebox.errors import BadRequest, NotFound, OutOfCredit
from farebox.store import Store, StoreConflict
from tests.charging import books_of, settle
from tests.settlements import settlement


@pytest.fixture
def store(either: Store) -> Store:
    """A store of each engine with the account "ann", which has 10 credits."""
    accounts.create(either, "ann", credits="10")
    return either


def _ids(store: Store) -> list[int]:
    return [line["id"] for line in transfers.statement(store, "ann", 100)]


def test_credit_and_debit(store: Store) -> None:
    """Both take decimal credits to the last nano-credit, and give the account after it."""
    credited = transfers.credit(store, "ann", "1.000000001", "gift")
    assert credited.as_dict()["balance"] == "11.000000001"
    debited = transfers.debit(store, "ann", "11", "fee")
    assert debited.as_dict()["balance_nanocredits"] == 1
    assert debited == accounts.show(store, "ann")
    with pytest.raises(OutOfCredit, match=r"0\.999999999 less than 1\."):
        transfers.debit(store, "ann", "1", "fee")


def test_a_statement_tells_each_transfer_with_both_sides(store: Store) -> None:
    """Newest first, at most as many as asked for."""
    transfers.debit(store, "ann", "1", "fee", external_id="f-1")
    settle(store, settlement(account_id=1, due_nanocredits=5))
    first, second, *calls = reversed(transfers.statement(store, "ann", 100))
    one = {"calls": 0, "corrects": None}
    assert first == {
        "id": first["id"],
        "created_at": first["created_at"],
        "kind": "top_up",
        "debit": "operator:credits",
        "credit": "account:ann",
        "amount_nanocredits": 10_000_000_000,
        "external_id": None,
        "reason": "first credits",
        **one,
    }
    assert second == {
        "id": second["id"],
        "created_at": second["created_at"],
        "kind": "debit",
        "debit": "account:ann",
        "credit": "operator:credits",
        "amount_nanocredits": 1_000_000_000,
        "external_id": "f-1",
        "reason": "fee",
        **one,
    }
    assert [(line["kind"], line["debit"], line["credit"], line["calls"]) for line in calls] == [
        ("lease_grant", "account:ann", "lease:1", 0),
        ("charge", "lease:1", "operator:revenue", 1),
    ]
    assert [line["id"] for line in transfers.statement(store, "ann", 2)] == _ids(store)[:2]


def test_an_external_id_is_there_once(store: Store) -> None:
    """Of any account and kind: the second is a conflict that names the first, and moves nothing."""
    accounts.create(store, "bob", credits="10")
    transfers.credit(store, "ann", "5", "invoice", "inv-7")
    again: list[Callable[[], Any]] = [
        lambda: transfers.credit(store, "ann", "5", "invoice", "inv-7"),
        lambda: transfers.debit(store, "bob", "1", "fee", external_id="inv-7"),
        lambda: transfers.refund(store, "bob", "1", "sorry", external_id="inv-7"),
    ]
    for each in again:
        with pytest.raises(StoreConflict, match=r"'inv-7' already: \d+, a top_up of 5 credits of"):
            each()
    balances = [view.as_dict()["balance"] for view in accounts.listing(store)]
    assert balances == ["15", "10"]
    assert len(_ids(store)) == 2


def test_a_refund_gives_back_what_a_call_was_charged(store: Store) -> None:
    """At most that, and once; the call keeps its charge, and what came in grows by the refund."""
    settle(store, settlement(request_id="req_abc", account_id=1, due_nanocredits=2_000_000_000))
    for too_much, sentence in (
        (("2.1", "req_abc"), "cannot be refunded for it"),
        (("1", "req_x"), "no call 'req_x'"),
    ):
        with pytest.raises(StoreConflict, match=sentence):
            transfers.refund(store, "ann", too_much[0], "sorry", request_id=too_much[1])
    view = transfers.refund(store, "ann", "1.5", "sorry", request_id="resp_abc")
    assert view.as_dict() | {"name": "", "group": "", "rate": ""} == {
        **dict.fromkeys(("name", "group", "rate"), ""),
        "balance": "9.5",
        "balance_nanocredits": 9_500_000_000,
        "available_nanocredits": 9_500_000_000,
        "held_nanocredits": 0,
        "spent_nanocredits": 2_000_000_000,
        "credited_nanocredits": 11_500_000_000,
    }
    with pytest.raises(StoreConflict, match="already"):
        transfers.refund(store, "ann", "0.1", "sorry", request_id="req_abc")
    assert transfers.refund(store, "ann", "0.5", "for all of it").as_dict()["balance"] == "10"


def test_a_correction_goes_the_other_way_and_names_what_it_corrects(store: Store) -> None:
    """Once; a call's charge is no such thing, and what was spent cannot be taken back."""
    transfers.credit(store, "ann", "90", "typing error")
    (wrong, first) = _ids(store)
    assert transfers.correct(store, wrong, "it was 9").as_dict()["balance"] == "10"
    newest = transfers.statement(store, "ann", 1)[0]
    assert (newest["kind"], newest["debit"], newest["corrects"]) == (
        *("correction", "account:ann", wrong),
    )
    with pytest.raises(StoreConflict, match="corrected already"):
        transfers.correct(store, wrong, "again")
    with pytest.raises(StoreConflict, match="is a correction, which cannot"):
        transfers.correct(store, newest["id"], "no")
    with pytest.raises(NotFound, match="There is no transfer 99"):
        transfers.correct(store, 99, "no")
    transfers.debit(store, "ann", "4", "fee")
    assert accounts.show(store, "ann").as_dict()["balance"] == "6"
    with pytest.raises(OutOfCredit, match="4 less than 10"):
        transfers.correct(store, first, "no")
    assert transfers.correct(store, _ids(store)[0], "no fee").as_dict()["balance"] == "10"


@pytest.mark.parametrize("verb", ["debit", "correct"])
def test_what_a_gateway_has_in_hand_is_given_back_first(store: Store, verb: str) -> None:
    """Once it was asked for; what calls need stays, and then the shortfall is told."""
    books = books_of(store)
    (granted,) = books.do([Grant(1, None, 1, 9_000_000_000, 9_000_000_000, 1)])
    assert isinstance(granted, Granted)
    assert granted.lease_id is not None
    lease_id, asked = granted.lease_id, list[int]()

    def give_back(account_id: int) -> None:
        asked.append(account_id)
        books.do([Return(lease_id, account_id, 4_500_000_000, close=False)])

    def take(recall: transfers.Recall | None) -> accounts.AccountView:
        if verb == "debit":
            return transfers.debit(store, "ann", "10", "fee", recall=recall)
        return transfers.correct(store, _ids(store)[-1], "wrong", recall=recall)

    for recall in (None, give_back):
        with pytest.raises(OutOfCredit, match=r"beside (9|4\.5) that are held"):
            take(recall)
    assert take(give_back).as_dict()["balance"] == "0"
    assert asked == [1, 1]


def test_nobody_is_asked_when_nothing_is_in_hand(store: Store) -> None:
    """A debit that the account cannot pay fails at once."""
    asked: list[int] = []
    with pytest.raises(OutOfCredit):
        transfers.debit(store, "ann", "11", "fee", recall=asked.append)
    assert asked == []


@pytest.mark.parametrize(
    "amount", ["0", "-1", "0.0000000001", "x", "NaN", "1e30", "", "99999999999"]
)
def test_an_amount_must_be_one(store: Store, amount: str) -> None:
    """Zero, less, finer than a nano-credit, no number, too large: refused by each verb."""
    for verb in (transfers.credit, transfers.debit, transfers.refund):
        with pytest.raises((BadRequest, BadAmount)):
            verb(store, "ann", amount, "why")
    assert len(_ids(store)) == 1


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_reason_is_needed(store: Store, reason: str) -> None:
    """Money does not move without saying why."""
    for verb in (transfers.credit, transfers.debit, transfers.refund):
        with pytest.raises(BadRequest, match="A reason of 1 to 500"):
            verb(store, "ann", "1", reason)
    with pytest.raises(BadRequest, match="A reason of 1 to 500"):
        transfers.correct(store, _ids(store)[0], reason)
    assert len(_ids(store)) == 1


@pytest.mark.parametrize("external_id", ["", "x" * 201, "a\nb", "\x1b[31m"])
def test_an_external_id_is_printable_and_short(store: Store, external_id: str) -> None:
    """What would spoil a terminal is refused."""
    for verb in (transfers.debit, transfers.refund):
        with pytest.raises(BadRequest, match=re.escape("An external id has 1 to 200 characters")):
            verb(store, "ann", "1", "why", external_id=external_id)
    with pytest.raises(BadRequest, match="An external id"):
        transfers.credit(store, "ann", "1", "why", external_id)
    assert len(_ids(store)) == 1


def test_an_unknown_account_is_not_found(store: Store) -> None:
    """Each verb says which name it did not find."""
    for verb in (transfers.credit, transfers.debit, transfers.refund):
        with pytest.raises(NotFound, match="no account 'bob'"):
            verb(store, "bob", "1", "x")
    with pytest.raises(NotFound, match="no account 'bob'"):
        transfers.statement(store, "bob", 1)

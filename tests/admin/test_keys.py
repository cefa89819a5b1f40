"""What an operator does with keys: the secret is seen once, the store knows its digest alone."""

import re
from dataclasses import replace
from typing import Any

import pytest

from farebox.admin import accounts, keys
from farebox.admin.errors import Conflict
from farebox.core import clock, ids
from farebox.core.money import BadAmount
from farebox.errors import BadRequest, NotFound
from farebox.store import Store

PEPPER = b"p" * 32


@pytest.fixture
def ann(store: Store) -> Store:
    """A store with the account "ann"."""
    accounts.create(store, "ann")
    return store


def test_a_key_is_shown_once_and_found_by_its_digest(ann: Store) -> None:
    """The secret is in the answer of create and nowhere in the store's file."""
    made = keys.create(ann, PEPPER, "ann", name="laptop", models=["gpt-*,o3", "x"]).as_dict()
    assert made == {
        "id": made["id"],
        "key": made["key"],
        "account": "ann",
        "name": "laptop",
        "hint": ids.key_hint(made["key"]),
        "models": ["gpt-*", "o3", "x"],
        "budget_nanocredits": None,
        "budget_period": None,
        "budget_spent_nanocredits": None,
        "created_at": made["created_at"],
        "expires_at": None,
        "revoked_at": None,
    }
    assert ids.is_key(made["key"])
    assert re.fullmatch(r"key_\w{13}", made["id"])
    found = ann.find_key(ids.key_digest(PEPPER, made["key"]))
    assert found is not None
    assert found[1].id == made["id"]
    assert made["key"].encode() not in ann.path.read_bytes()
    without_secret = {name: value for name, value in made.items() if name != "key"}
    assert [view.as_dict() for view in keys.listing(ann)] == [without_secret]


def test_a_key_is_valid_for_as_long_as_asked(ann: Store) -> None:
    """`30d` counts from now; a time in RFC 3339 is taken as it is."""
    before_us = clock.now_us()
    span = keys.create(ann, PEPPER, "ann", expires="30d").stored.key.expires_us
    assert span is not None
    assert 0 <= span - before_us - 30 * 86_400_000_000 < 10_000_000
    fixed = keys.create(ann, PEPPER, "ann", expires="2999-01-02T03:04:05+01:00")
    assert fixed.as_dict()["expires_at"] == "2999-01-02T02:04:05.000Z"


@pytest.mark.parametrize(
    "expires",
    [
        "",
        "30",
        "d",
        "-1d",
        "0d",
        "1.5d",
        "tomorrow",
        "2020-01-01T00:00:00Z",
        "2999-01-01T00:00:00",
        "999999999w",
    ],
)
def test_an_expiry_that_cannot_be_meant_is_refused(ann: Store, expires: str) -> None:
    """No unit, no zone, in the past, after a century: a sentence, and no key."""
    with pytest.raises(BadRequest, match="--expires"):
        keys.create(ann, PEPPER, "ann", expires=expires)
    assert keys.listing(ann) == []


@pytest.mark.parametrize("models", [[""], [",", " "], ["x" * 201], ["m"] * 101])
def test_models_that_name_nothing_or_too_much_are_refused(ann: Store, models: list[str]) -> None:
    """An empty list of models would allow all of them, so it is not taken for one."""
    with pytest.raises(BadRequest, match="--models"):
        keys.create(ann, PEPPER, "ann", models=models)


@pytest.mark.parametrize("name", ["x" * 65, "a\nb", "\x1b[31m"])
def test_a_name_is_printable_and_short(ann: Store, name: str) -> None:
    """What would spoil a terminal is refused."""
    with pytest.raises(BadRequest, match="name"):
        keys.create(ann, PEPPER, "ann", name=name)


def test_a_key_has_the_budget_that_it_is_given(ann: Store) -> None:
    """Credits a period, which is the total unless another is named; each can be changed alone."""
    key_id = keys.create(ann, PEPPER, "ann", budget="0.000000001").stored.key.id
    steps: list[tuple[dict[str, Any], tuple[int | None, str | None]]] = [
        ({}, (1, "total")),
        ({"per": "month"}, (1, "month")),
        ({"budget": "2.5"}, (2_500_000_000, "month")),
        ({"budget": "3", "per": "day"}, (3_000_000_000, "day")),
        ({"no_budget": True}, (None, None)),
        ({"budget": "4"}, (4_000_000_000, "total")),
    ]
    for changes, expected in steps:
        view = keys.change(ann, key_id, **changes) if changes else keys.show(ann, key_id)
        shown = view.as_dict()
        assert (shown["budget_nanocredits"], shown["budget_period"]) == expected
        assert shown["budget_spent_nanocredits"] == (None if expected[0] is None else 0)
        assert keys.show(ann, key_id) == view


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budget": "0"}, "--budget '0' is not above zero"),
        ({"budget": "-5"}, "--budget '-5' is not above zero"),
        ({"budget": "0.0000000001"}, "--budget '0.0000000001' is finer than 0.000000001 credits"),
        ({"budget": "five"}, "--budget 'five' is not a decimal number"),
        ({"budget": "1e30"}, "--budget '1e30' is out of range"),
        ({"budget": "5", "per": "week"}, "--per 'week' is not one of total, day, month"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(
    ann: Store, changes: dict[str, Any], sentence: str
) -> None:
    """In a sentence; no key is made, and none is changed."""
    with pytest.raises((BadRequest, BadAmount), match=re.escape(sentence)):
        keys.create(ann, PEPPER, "ann", **changes)
    assert keys.listing(ann) == []
    key_id = keys.create(ann, PEPPER, "ann", budget="7").stored.key.id
    with pytest.raises((BadRequest, BadAmount), match=re.escape(sentence)):
        keys.change(ann, key_id, **changes)
    assert keys.show(ann, key_id).as_dict()["budget_nanocredits"] == 7_000_000_000


def test_a_period_needs_a_budget(ann: Store) -> None:
    """And no budget is no budget."""
    with pytest.raises(BadRequest, match="--per needs a --budget"):
        keys.create(ann, PEPPER, "ann", per="day")
    key_id = keys.create(ann, PEPPER, "ann").stored.key.id
    refused: list[tuple[dict[str, Any], str]] = [
        ({"per": "day"}, "has no budget"),
        ({"budget": "1", "no_budget": True}, "--no-budget takes neither"),
        ({}, "Nothing to change"),
    ]
    for changes, sentence in refused:
        with pytest.raises(BadRequest, match=sentence):
            keys.change(ann, key_id, **changes)


def test_a_revoked_key_stays_revoked(ann: Store) -> None:
    """Revoking is immediate, and doing it again changes nothing."""
    key_id = keys.create(ann, PEPPER, "ann").stored.key.id
    revoked = keys.revoke(ann, key_id)
    assert not revoked.stored.key.is_valid(clock.now_us())
    assert keys.revoke(ann, key_id) == revoked


def test_rolling_keeps_the_limits_and_ends_the_old_key(ann: Store) -> None:
    """The successor has another id and secret; the old key works for the overlap and no longer."""
    limits: dict[str, Any] = {"models": ["m"], "expires": "9d", "budget": "1", "per": "day"}
    old = keys.create(ann, PEPPER, "ann", name="ci", **limits).stored.key
    new = keys.roll(ann, PEPPER, old.id, "1h")
    key = new.stored.key
    assert key == replace(old, id=key.id, digest=key.digest)
    assert key.id != old.id
    assert new.secret is not None
    assert key.digest == ids.key_digest(PEPPER, new.secret) != old.digest
    rolled = next(view.stored.key for view in keys.listing(ann) if view.stored.key.id == old.id)
    now_us = clock.now_us()
    assert rolled.is_valid(now_us + 3590 * 1_000_000)
    assert not rolled.is_valid(now_us + 3600 * 1_000_000)


def test_rolling_without_overlap_ends_the_old_key_now(ann: Store) -> None:
    """The default is no overlap."""
    old = keys.create(ann, PEPPER, "ann").stored.key
    keys.roll(ann, PEPPER, old.id)
    with pytest.raises(Conflict, match="revoked or expired"):
        keys.roll(ann, PEPPER, old.id)


def test_a_listing_may_be_of_one_account(ann: Store) -> None:
    """Keys of others are left out, and an unknown account is an error."""
    accounts.create(ann, "bob")
    keys.create(ann, PEPPER, "ann")
    keys.create(ann, PEPPER, "bob")
    assert [view.stored.account for view in keys.listing(ann, "bob")] == ["bob"]
    with pytest.raises(NotFound, match="no account 'zoe'"):
        keys.listing(ann, "zoe")


def test_an_unknown_key_is_not_found(ann: Store) -> None:
    """And a secret given in place of an id is not repeated."""
    secret = ids.new_key()
    for look in (
        lambda: keys.revoke(ann, secret),
        lambda: keys.show(ann, secret),
        lambda: keys.change(ann, secret, budget="1"),
        lambda: keys.roll(ann, PEPPER, secret),
    ):
        with pytest.raises(NotFound, match="farebox keys list") as caught:
            look()
        assert secret not in str(caught.value)
    with pytest.raises(NotFound, match="no account 'bob'"):
        keys.create(ann, PEPPER, "bob")

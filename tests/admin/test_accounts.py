"""What an operator does with accounts: decimal strings in, exact integers out, sentences else."""

import pytest

from farebox.admin import accounts, catalogue
from farebox.core.money import BadAmount
from farebox.errors import BadRequest, NotFound
from farebox.store import Store, StoreConflict

GROUPS = {"groups": [{"id": "default", "rate": "1.0"}, {"id": "team", "rate": "0.75"}]}


@pytest.fixture
def grouped(store: Store) -> Store:
    """A store with a catalogue that has the group "team"."""
    catalogue.apply(store, GROUPS, "file", "f.toml")
    return store


def test_an_account_is_shown_in_the_shape_of_the_contract(store: Store) -> None:
    """Rates are decimal strings, amounts integer nano-credits, balance both."""
    made = accounts.create(store, "ann", credits="10.5", rate="0.8")
    expected = {
        "name": "ann",
        "group": "default",
        "rate": "0.8",
        "balance": "10.5",
        "balance_nanocredits": 10_500_000_000,
        "available_nanocredits": 10_500_000_000,
        "held_nanocredits": 0,
        "spent_nanocredits": 0,
        "credited_nanocredits": 10_500_000_000,
    }
    assert made.as_dict() == expected
    assert accounts.show(store, "ann").as_dict() == expected
    assert [view.as_dict() for view in accounts.listing(store)] == [expected]
    money = {name: expected[name] for name in expected if name not in ("name", "group", "rate")}
    assert accounts.money(store, made.account.id) == money


def test_the_rate_is_the_accounts_own_or_its_groups(grouped: Store) -> None:
    """An account without a rate of its own shows that of its group; "group" gives its own up."""
    assert accounts.create(grouped, "ann", group="team").as_dict()["rate"] == "0.75"
    assert accounts.change(grouped, "ann", rate="1.15").as_dict()["rate"] == "1.15"
    assert accounts.change(grouped, "ann", rate="group").as_dict()["rate"] == "0.75"
    assert accounts.change(grouped, "ann", group="default").as_dict()["rate"] == "1"


def test_a_group_must_be_in_the_catalogue(grouped: Store) -> None:
    """An unknown group is refused with the known ones, at creation and later."""
    with pytest.raises(BadRequest, match=r"no group 'temas'.*Known: default, team\."):
        accounts.create(grouped, "ann", group="temas")
    accounts.create(grouped, "ann")
    with pytest.raises(BadRequest, match="no group 'x'"):
        accounts.change(grouped, "ann", group="x")


def test_without_a_catalogue_there_is_the_default_group(store: Store) -> None:
    """The first account needs no catalogue."""
    assert accounts.create(store, "ann").as_dict()["group"] == "default"
    with pytest.raises(BadRequest, match=r"Known: default\."):
        accounts.create(store, "bob", group="team")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "é", "a\n", "--", "夏"])
def test_a_name_is_plain(store: Store, name: str) -> None:
    """Names that would need quoting somewhere are refused, but for dashes."""
    if name == "--":
        accounts.create(store, name)
    else:
        with pytest.raises(BadRequest, match="cannot be used"):
            accounts.create(store, name)


def test_a_taken_name_is_a_conflict(store: Store) -> None:
    """Creating twice fails the second time."""
    accounts.create(store, "ann")
    with pytest.raises(StoreConflict, match="Choose another name"):
        accounts.create(store, "ann")


@pytest.mark.parametrize(
    "wrong", [{"credits": "-1"}, {"credit_limit": "-1"}, {"rate": "-1"}, {"rate": "0.0000001"}]
)
def test_a_new_account_with_a_wrong_number_is_not_made(store: Store, wrong: dict[str, str]) -> None:
    """A number below zero or too fine is refused before anything is stored."""
    with pytest.raises((BadRequest, BadAmount)):
        accounts.create(store, "ann", **wrong)
    assert accounts.listing(store) == []


def test_an_unknown_account_is_not_found(store: Store) -> None:
    """Each verb says which name it did not find."""
    for look in (
        lambda: accounts.show(store, "bob"),
        lambda: accounts.change(store, "bob", rate="1"),
    ):
        with pytest.raises(NotFound, match="no account 'bob'"):
            look()
    with pytest.raises(NotFound):
        accounts.money(store, 1)


def test_changing_nothing_is_refused(store: Store) -> None:
    """A change without a change is a mistake that is told."""
    accounts.create(store, "ann")
    with pytest.raises(BadRequest, match="Nothing to change"):
        accounts.change(store, "ann")


def test_an_account_can_be_disabled_and_limited(store: Store) -> None:
    """Both are kept and can be taken back."""
    accounts.create(store, "ann", credit_limit="2")
    view = accounts.change(store, "ann", disabled=True, credit_limit="3.5")
    assert (view.account.disabled, view.account.credit_limit_nanocredits) == (True, 3_500_000_000)
    assert not accounts.change(store, "ann", disabled=False).account.disabled

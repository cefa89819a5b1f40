"""Keys by digest, and what a process that has them in memory learns of changes."""

from dataclasses import replace

from farebox.core.account import BUDGET_PERIODS, Account, Key
from farebox.store import Store
from farebox.store.accounts import StoredAccount
from farebox.store.keys import Changes, StoredKey
from tests.store.bookkeeping import HOUR_US, write

KEY = Key(
    *("key_1", 1, b"d" * 32, "laptop", ("gpt-*", "ü")),
    budget_nanocredits=7,
    budget_period="day",
    expires_us=99,
)


def test_a_key_comes_back_as_it_was_stored(store: Store, account: StoredAccount) -> None:
    """All of a key is kept: limits, name, times; with the account's name and the hint to show."""
    made = store.create_key(KEY, "sk-fb-…abcd")
    assert made == StoredKey(KEY, "ann", "sk-fb-…abcd", made.created_us)
    assert store.key("key_1") == made
    assert store.key("key_2") is None


def test_a_key_is_found_by_its_digest(store: Store, account: StoredAccount) -> None:
    """A digest leads to the key and its account, whatever their state; an unknown one to none."""
    store.create_key(KEY, "h")
    assert store.find_key(b"d" * 32) == (Account(1, "ann", "default", None), KEY)
    assert store.find_key(b"e" * 32) is None


def test_keys_are_listed_oldest_first_and_by_account(store: Store, account: StoredAccount) -> None:
    """The list is of all accounts, or of one."""
    bob = store.create_account("bob")
    store.create_key(KEY, "h")
    store.create_key(replace(KEY, id="key_0", digest=b"2", account_id=bob.id), "h")
    every = store.keys()
    assert [stored.key.id for stored in every] == ["key_1", "key_0"]
    assert [stored.account for stored in store.keys(bob.id)] == ["bob"]


def test_a_budget_is_changed_or_taken_away(store: Store, account: StoredAccount) -> None:
    """Other processes learn of it as of every change."""
    store.create_key(KEY, "h")
    changed = replace(KEY, budget_nanocredits=2**62, budget_period="month")
    assert store.set_budget("key_1", 2**62, "month").key == changed
    assert store.changed_since(2).keys == (changed,)
    without = replace(KEY, budget_nanocredits=None, budget_period="total")
    assert store.set_budget("key_1", None, "total").key == without
    assert store.changed_since(3).keys == (without,)


def test_what_is_spent_of_budgets_is_that_of_their_periods(
    store: Store, account: StoredAccount
) -> None:
    """Total, month and day, each from its beginning; keys without a budget have no such sum."""
    rows: list[tuple[str, int, int]] = []
    for period in (*BUDGET_PERIODS, "none"):
        budget = None if period == "none" else 9
        key = replace(
            *(KEY,),
            id=f"key_{period}",
            digest=period.encode(),
            budget_nanocredits=budget,
            budget_period="total" if budget is None else period,
        )
        store.create_key(key, "h")
        rows += [(key.id, 0, 1), (key.id, 10 * HOUR_US, 20), (key.id, 20 * HOUR_US, 300)]
    for key_id, hour_us, charge in rows:
        write(
            store,
            "INSERT INTO usage_hours (account_id, key_id, model, hour_us, calls, charge)"
            f" VALUES (1, '{key_id}', 'm', {hour_us}, 1, {charge})",
        )
    starts_us = {"total": 0, "month": 10 * HOUR_US, "day": 20 * HOUR_US}
    assert store.budgets_spent(starts_us) == {"key_total": 321, "key_month": 320, "key_day": 300}
    assert store.budgets_spent(dict.fromkeys(starts_us, 21 * HOUR_US)) == {}


def test_a_revocation_is_never_put_off(store: Store, account: StoredAccount) -> None:
    """Revoking later than before changes nothing; revoking earlier does."""
    store.create_key(KEY, "h")
    times = [store.revoke_key("key_1", time_us).key.revoked_us for time_us in (50, 70, 30)]
    assert times == [50, 50, 30]


def test_rolling_a_key_makes_its_successor_in_the_same_moment(
    store: Store, account: StoredAccount
) -> None:
    """The old key ends at the time given and the new one is there."""
    store.create_key(KEY, "old")
    successor = replace(KEY, id="key_2", digest=b"n" * 32)
    made = store.roll_key("key_1", 77, successor, "new")
    assert (made.key, made.hint) == (successor, "new")
    old = store.key("key_1")
    assert old is not None
    assert old.key == replace(KEY, revoked_us=77)


def test_changes_are_told_since_a_revision(store: Store, account: StoredAccount) -> None:
    """From 0 everything is told, later only what changed, and nothing when nothing did."""
    ann = Account(1, "ann", "default", None)
    store.create_key(KEY, "h")
    assert store.changed_since(0) == Changes(2, (ann,), (KEY,))
    assert store.changed_since(1) == Changes(2, (), (KEY,))
    assert store.changed_since(2) == Changes(2, (), ())
    store.revoke_key("key_1", 5)
    store.set_account(1, {"disabled": 1})
    assert store.changed_since(2) == Changes(
        4, (replace(ann, disabled=True),), (replace(KEY, revoked_us=5),)
    )

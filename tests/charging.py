"""Calls that are charged in a store as a ledger process would, without one: for tests of whatever
reads, proves, keeps or copies books.
"""

from __future__ import annotations

from typing import Any

from farebox.admin import accounts, catalogue
from farebox.billing.charge import charge
from farebox.billing.entry import entry_of
from farebox.billing.jobs import Grant, Granted, Post, Posted, Return
from farebox.billing.prices import read_price
from farebox.core.account import Key
from farebox.core.ports import Settled, Settlement
from farebox.core.usage import Usage
from farebox.store import Store
from farebox.store.books import OwnedBooks
from tests.settlements import settlement

OWNER = "own_test"
DOCUMENT: dict[str, Any] = {
    "channels": [
        {"id": "main", "vendor": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}
    ],
    "models": [
        {
            "id": name,
            "channels": [{"channel": "main", "model": "up"}],
            "price": {"input": "2", "output": "8"},
        }
        for name in ("m-1", "m-2")
    ],
}
PRICE = read_price({"input": "2", "output": "8"})


def books_of(store: Store, owner: str = OWNER) -> OwnedBooks:
    """The books of an owner that has just begun."""
    books = OwnedBooks(store, owner)
    books.begin(lambda _: False)
    return books


def settle(store: Store, call: Settlement) -> Settled:
    """Charge a call, as far as its account has credit, by a lease that is closed after it."""
    books, account_id, due = books_of(store), call.account_id, call.due_nanocredits
    granted = Granted(None, 0, 0, 0, 0)
    if due:
        (granted,) = books.do([Grant(account_id, None, 1, due, due, 1)])
    assert isinstance(granted, Granted)
    paid = granted.amount
    (posted,) = books.do([Post(entry_of(call), granted.lease_id, paid, due - paid)])
    assert isinstance(posted, Posted)
    if granted.lease_id is not None:
        rest = 0 if posted.inserted else paid
        books.do([Return(granted.lease_id, account_id, rest, close=True)])
    return Settled(posted.charge, posted.absorbed)


def priced(**more: Any) -> Settlement:
    """A call of 10 + 5 tokens at the price of DOCUMENT, so that the audit finds it right."""
    call = settlement(**more)
    due = charge(call.usage, PRICE, call.rate_ppm, call.created_us, service_tier=call.service_tier)
    return settlement(**{"due_nanocredits": due, **more})


def stock(store: Store, names: tuple[str, ...] = ("ann", "bob"), credits: str = "10") -> None:
    """A catalogue, and accounts 1 and 2 with 10 credits and a key each: key_1, key_2."""
    catalogue.apply(store, DOCUMENT, "file", "f.toml")
    for number, name in enumerate(names, start=1):
        accounts.create(store, name, credits=credits)
        store.create_key(Key(f"key_{number}", number, bytes([number]) * 32), "sk-fb-…")


def used(n: int) -> Usage:
    """Tokens of a call that is unlike its neighbours."""
    return Usage(uncached_input=10 + n, cache_read=n % 3, output=5 + n % 7)

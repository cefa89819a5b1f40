"""What an operator does with accounts. Amounts and rates come as decimal strings.

What is done to an account's money once it is there is transfers.py's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farebox.core.money import PPM, parse_credits, parse_multiplier, show_credits, show_ppm
from farebox.errors import BadRequest, NotFound
from farebox.store import Store
from farebox.store.accounts import StoredAccount

_NAME = re.compile(r"[a-zA-Z0-9._@-]{1,64}")
GROUPS_RATE = "group"  # what `rate` says to have none of its own any more


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account and the rate that it pays at: its own or its group's."""

    account: StoredAccount
    rate_ppm: int

    def as_dict(self) -> dict[str, Any]:
        """The account for machines; money is integer nano-credits."""
        return {
            "name": self.account.name,
            "group": self.account.group,
            "rate": show_ppm(self.rate_ppm),
            **self.money(),
        }

    def money(self) -> dict[str, Any]:
        """The money alone. balance = available + held, credited = balance + spent."""
        account = self.account
        return {
            "balance": show_credits(account.balance_nanocredits),
            "balance_nanocredits": account.balance_nanocredits,
            "available_nanocredits": account.available_nanocredits,
            "held_nanocredits": account.held_nanocredits,
            "spent_nanocredits": account.spent_nanocredits,
            "credited_nanocredits": account.credited_nanocredits,
        }


def create(
    store: Store,
    name: str,
    *,
    credits: str = "0",
    group: str = "default",
    rate: str | None = None,
    credit_limit: str = "0",
) -> AccountView:
    """A new account. Raises BadRequest, BadAmount, and StoreConflict when the name is taken."""
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"Account name {name!r} cannot be used: 1 to 64 letters, digits and . _ @ - please."
        )
    rates = _group_rates(store)
    _check_group(group, rates)
    account = store.create_account(
        name,
        group=group,
        rate_ppm=None if rate is None else _rate(rate),
        credit_limit_nanocredits=_not_negative(credit_limit, "credit limit"),
        credits_nanocredits=_not_negative(credits, "credits"),
    )
    return _view(account, rates)


def listing(store: Store) -> list[AccountView]:
    """All accounts by name."""
    rates = _group_rates(store)
    return [_view(account, rates) for account in store.accounts()]


def show(store: Store, name: str) -> AccountView:
    """One account. Raises NotFound."""
    return _view(find(store, name), _group_rates(store))


def money(store: Store, account_id: int) -> dict[str, Any]:
    """The money of the account of that id, as GET /v1/credits shows it. Raises NotFound."""
    account = store.account_by_id(account_id)
    if account is None:
        raise NotFound("There is no such account.")
    return AccountView(account, PPM).money()


def change(
    store: Store,
    name: str,
    *,
    group: str | None = None,
    rate: str | None = None,
    credit_limit: str | None = None,
    disabled: bool | None = None,
) -> AccountView:
    """Change what is given. A rate of "group" gives up the account's own.

    Raises NotFound, BadRequest, BadAmount, and StoreConflict for a credit limit below the debt.
    """
    rates = _group_rates(store)
    changes: dict[str, object] = {}
    if group is not None:
        _check_group(group, rates)
        changes["group"] = group
    if rate is not None:
        changes["rate_ppm"] = None if rate == GROUPS_RATE else _rate(rate)
    if credit_limit is not None:
        changes["credit_limit"] = _not_negative(credit_limit, "credit limit")
    if disabled is not None:
        changes["disabled"] = int(disabled)
    account = find(store, name)
    if not changes:
        raise BadRequest("Nothing to change: name a rate, group, credit limit, or disabled.")
    return _view(store.set_account(account.id, changes), rates)


def find(store: Store, name: str) -> StoredAccount:
    """The account of that name. Raises NotFound."""
    account = store.account(name)
    if account is None:
        raise NotFound(f"There is no account {name!r}. `farebox accounts list` shows all.")
    return account


def view(store: Store, account: StoredAccount) -> AccountView:
    """The account with the rate that it pays at."""
    return _view(account, _group_rates(store))


def _view(account: StoredAccount, rates: Mapping[str, int]) -> AccountView:
    own = account.rate_ppm
    return AccountView(account, rates.get(account.group, PPM) if own is None else own)


def _group_rates(store: Store) -> dict[str, int]:
    """The rate of each group of the catalogue; there is always a group "default"."""
    catalogue = store.load_catalogue()
    groups: list[dict[str, str]] = catalogue.document.get("groups", []) if catalogue else []
    return {"default": PPM} | {group["id"]: parse_multiplier(group["rate"]) for group in groups}


def _check_group(group: str, rates: Mapping[str, int]) -> None:
    if group not in rates:
        known = ", ".join(sorted(rates))
        raise BadRequest(f"There is no group {group!r} in the catalogue. Known: {known}.")


def _rate(text: str) -> int:
    return parse_multiplier(text, "rate")


def _not_negative(text: str, what: str) -> int:
    amount = parse_credits(text, what)
    if amount < 0:
        raise BadRequest(f"{what} {text!r} is below zero.")
    return amount

"""`farebox accounts`: who pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from farebox.cli.common import Common, verb
from farebox.core.money import show_credits

if TYPE_CHECKING:
    from farebox.admin.accounts import AccountView

app = typer.Typer(help="Accounts: who pays, and from what balance.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help='Credits, such as "10" or "0.5".')]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the transfer.")
]
Group = Annotated[
    str | None, typer.Option("--group", metavar="GROUP", help="A group of the catalogue.")
]
CreditLimit = Annotated[
    str | None,
    typer.Option("--credit-limit", metavar="CREDITS", help="How far below zero it may go."),
]


def register(main: typer.Typer) -> None:
    """Add the noun."""
    main.add_typer(app, name="accounts")


@verb(app, "create")
def create(
    common: Common,
    name: Name,
    *,
    credits: Annotated[
        str, typer.Option("--credits", metavar="CREDITS", help="What it begins with.")
    ] = "0",
    group: Group = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="RATE", help="Multiplier on list prices; else the group's."),
    ] = None,
    credit_limit: CreditLimit = None,
) -> None:
    """Create an account."""
    from farebox.admin import accounts

    with common.store() as store:
        created = accounts.create(
            store,
            name,
            credits=credits,
            group=group or "default",
            rate=rate,
            credit_limit=credit_limit or "0",
        )
    _show(common, created)


@verb(app, "list")
def list_all(common: Common) -> None:
    """List all accounts."""
    from farebox.admin import accounts

    with common.store() as store:
        views = accounts.listing(store)
    fields = [_fields(view) for view in views]
    columns = ["name", "group", "rate", "balance", "held", "spent", "credited", "limit", "disabled"]
    _show_all(common, views, columns, [[each[name] for name in columns] for each in fields])


@verb(app, "show")
def show(common: Common, name: Name) -> None:
    """Show an account with its money."""
    from farebox.admin import accounts

    with common.store() as store:
        view = accounts.show(store, name)
    _show(common, view)


@verb(app, "set")
def change(
    common: Common,
    name: Name,
    *,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate", metavar="RATE", help='Multiplier on list prices; "group" for the group\'s.'
        ),
    ] = None,
    group: Group = None,
    credit_limit: CreditLimit = None,
    disabled: Annotated[
        bool | None, typer.Option("--disabled/--enabled", help="Refuse its calls, or not.")
    ] = None,
) -> None:
    """Change an account; what is not named stays."""
    from farebox.admin import accounts

    with common.store() as store:
        view = accounts.change(
            store, name, group=group, rate=rate, credit_limit=credit_limit, disabled=disabled
        )
    _show(common, view)


@verb(app, "credit")
def credit(common: Common, name: Name, amount: Amount, reason: Reason) -> None:
    """Add credits to an account."""
    from farebox.admin import accounts

    with common.store() as store:
        view = accounts.credit(store, name, amount, reason)
    _show(common, view)


@verb(app, "debit")
def debit(common: Common, name: Name, amount: Amount, reason: Reason) -> None:
    """Take credits from an account, not below its credit limit."""
    from farebox.admin import accounts

    with common.store() as store:
        view = accounts.debit(store, name, amount, reason)
    _show(common, view)


def _fields(view: AccountView) -> dict[str, object]:
    """What a person reads of an account, in credits."""
    account = view.account
    return {
        "name": account.name,
        "group": account.group,
        "rate": view.as_dict()["rate"],
        "balance": show_credits(account.balance_nanocredits),
        "available": show_credits(account.available_nanocredits),
        "held": show_credits(account.held_nanocredits),
        "spent": show_credits(account.spent_nanocredits),
        "credited": show_credits(account.credited_nanocredits),
        "limit": show_credits(account.credit_limit_nanocredits),
        "disabled": account.disabled,
    }


def _show(common: Common, view: AccountView) -> None:
    common.show(view.as_dict(), _fields(view))


def _show_all(
    common: Common,
    views: Sequence[AccountView],
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> None:
    common.show_all([view.as_dict() for view in views], columns, rows)

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
ExternalId = Annotated[
    str | None,
    typer.Option(
        "--external-id", metavar="ID", help="A name of your own for it; the same one twice fails."
    ),
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
def credit(
    common: Common,
    name: Name,
    amount: Amount,
    *,
    reason: Reason,
    external_id: ExternalId = None,
) -> None:
    """Add credits to an account."""
    from farebox.admin import transfers

    with common.store() as store:
        view = transfers.credit(store, name, amount, reason, external_id)
    _show(common, view)


@verb(app, "debit")
def debit(
    common: Common,
    name: Name,
    amount: Amount,
    *,
    reason: Reason,
    external_id: ExternalId = None,
) -> None:
    """Take credits from an account, not below its credit limit."""
    from farebox.admin import transfers
    from farebox.cli.recall import recall_of

    with common.store() as store:
        view = transfers.debit(
            *(store, name, amount, reason),
            external_id=external_id,
            recall=recall_of(store, common.load().settings),
        )
    _show(common, view)


@verb(app, "refund")
def refund(
    common: Common,
    name: Name,
    amount: Amount,
    *,
    reason: Reason,
    external_id: ExternalId = None,
    request: Annotated[
        str | None,
        typer.Option("--request", metavar="REQUEST_ID", help="The call that it is for, req_…"),
    ] = None,
) -> None:
    """Give an account credits back that calls were charged."""
    from farebox.admin import transfers

    with common.store() as store:
        view = transfers.refund(
            *(store, name, amount, reason), external_id=external_id, request_id=request
        )
    _show(common, view)


@verb(app, "correct")
def correct(
    common: Common,
    transfer_id: Annotated[
        int,
        typer.Argument(
            metavar="TRANSFER_ID", min=1, max=2**63 - 1, help="As the statement shows it."
        ),
    ],
    *,
    reason: Reason,
) -> None:
    """Undo a credit, debit or refund by a transfer the other way round."""
    from farebox.admin import transfers
    from farebox.cli.recall import recall_of

    with common.store() as store:
        recall = recall_of(store, common.load().settings)
        view = transfers.correct(store, transfer_id, reason, recall=recall)
    _show(common, view)


@verb(app, "statement")
def statement(
    common: Common,
    name: Name,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="How many at most.")
    ] = 50,
) -> None:
    """List an account's last transfers, newest first."""
    from farebox.admin import transfers

    with common.store() as store:
        values = transfers.statement(store, name, limit)
    columns = ("id", "created_at", "kind", "debit", "credit", "amount", "calls")
    texts = ("corrects", "external_id", "reason")
    rows = [
        [
            *(value[name] for name in columns[:-2]),
            show_credits(value["amount_nanocredits"]),
            value["calls"] or None,
            *(value[name] for name in texts),
        ]
        for value in values
    ]
    common.show_all(values, (*columns, *texts), rows)


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

"""`farebox keys`: the API keys of accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from farebox.cli.common import Common, say, verb
from farebox.core import clock
from farebox.core.account import Key
from farebox.core.money import show_credits

if TYPE_CHECKING:
    from farebox.admin.keys import KeyView

app = typer.Typer(help="API keys: made once, shown once, revoked at once.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, key_…")]
Budget = Annotated[
    str | None,
    typer.Option("--budget", metavar="CREDITS", help="What it may be charged in a period."),
]
Per = Annotated[
    str | None,
    typer.Option("--per", metavar="PERIOD", help="total (default), day or month, by UTC."),
]
_COLUMNS = ("id", "account", "name", "hint", "models", "budget", "state")


def register(main: typer.Typer) -> None:
    """Add the noun."""
    main.add_typer(app, name="keys")


@verb(app, "create")
def create(
    common: Common,
    *,
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="Who pays.")],
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="A name to know it by.")] = "",
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models",
            metavar="PATTERN",
            help="Models it may use, such as 'gpt-*'; repeat, or use commas.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="WHEN", help="30d, 12h, or a time in RFC 3339."),
    ] = None,
    budget: Budget = None,
    per: Per = None,
) -> None:
    """Create a key. Its secret is shown now and never again."""
    from farebox.admin import keys

    with common.store_and_pepper() as (store, pepper):
        view = keys.create(
            *(store, pepper, account),
            name=name,
            models=models or (),
            expires=expires,
            budget=budget,
            per=per,
        )
    _show(common, view)
    say("Keep the key now: it is not stored and cannot be shown again.")


@verb(app, "list")
def list_all(
    common: Common,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Only of this account.")
    ] = None,
) -> None:
    """List keys, without their secrets."""
    from farebox.admin import keys

    with common.store() as store:
        views = keys.listing(store, account)
    values = [view.as_dict() for view in views]
    now_us = clock.now_us()
    rows = [
        [*(value[name] for name in _COLUMNS[:-2]), _budget(view), _state(view.stored.key, now_us)]
        for view, value in zip(views, values, strict=True)
    ]
    common.show_all(values, _COLUMNS, rows)


def _state(key: Key, now_us: int) -> str:
    """Whether a key is good, and until when (UTC)."""
    ends = [end_us for end_us in (key.revoked_us, key.expires_us) if end_us is not None]
    if not ends:
        return "valid"
    day = clock.rfc3339(min(ends))[:10]
    if min(ends) > now_us:
        return f"until {day}"
    return f"revoked {day}" if min(ends) == key.revoked_us else f"expired {day}"


def _budget(view: KeyView) -> str | None:
    """What a key may be charged, and what of that it was."""
    budget = view.stored.key.budget_nanocredits
    if budget is None:
        return None
    period = view.stored.key.budget_period
    each = "" if period == "total" else f" a {period}"
    return f"{show_credits(budget)}{each} ({show_credits(view.spent_nanocredits)} spent)"


def _show(common: Common, view: KeyView) -> None:
    value = view.as_dict()
    fields = {name: each for name, each in value.items() if not name.startswith("budget_")}
    common.show(value, {**fields, "budget": _budget(view)})


@verb(app, "show")
def show(common: Common, key_id: KeyId) -> None:
    """Show a key, without its secret."""
    from farebox.admin import keys

    with common.store() as store:
        view = keys.show(store, key_id)
    _show(common, view)


@verb(app, "set")
def change(
    common: Common,
    key_id: KeyId,
    *,
    budget: Budget = None,
    per: Per = None,
    no_budget: Annotated[
        bool, typer.Option("--no-budget", help="It may be charged what its account has.")
    ] = False,
) -> None:
    """Give a key another budget, or none."""
    from farebox.admin import keys

    with common.store() as store:
        view = keys.change(store, key_id, budget=budget, per=per, no_budget=no_budget)
    _show(common, view)


@verb(app, "revoke")
def revoke(common: Common, key_id: KeyId) -> None:
    """Refuse a key from now on."""
    from farebox.admin import keys

    with common.store() as store:
        view = keys.revoke(store, key_id)
    _show(common, view)


@verb(app, "roll")
def roll(
    common: Common,
    key_id: KeyId,
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap", metavar="SPAN", help="How long the old key still works, such as 1h."
        ),
    ] = "0",
) -> None:
    """Replace a key by one with the same limits and another secret."""
    from farebox.admin import keys

    with common.store_and_pepper() as (store, pepper):
        view = keys.roll(store, pepper, key_id, overlap)
    _show(common, view)
    say("Keep the key now: it is not stored and cannot be shown again.")

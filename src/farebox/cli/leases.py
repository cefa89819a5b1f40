"""`farebox leases`: which gateway has whose credit in hand, and what to do if one is gone."""

from __future__ import annotations

from typing import Annotated

import typer

from farebox.cli.common import Common, say, verb
from farebox.core.money import show_credits

app = typer.Typer(help="Leases: credit that gateways have in hand.", no_args_is_help=True)

_COLUMNS = ("id", "account", "owner", "host", "owner_state", "state", "granted", "spent", "unspent")


def register(main: typer.Typer) -> None:
    """Add the noun."""
    main.add_typer(app, name="leases")


@verb(app, "list")
def list_(common: Common) -> None:
    """List the leases that may still be charged."""
    from farebox.admin import leases

    with common.store() as store:
        found = leases.listed(store, common.load().settings.data_dir)
    _show(common, found)


@verb(app, "lost")
def lost(
    common: Common,
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="own_… as the list shows it.")],
) -> None:
    """Give an owner up: what its leases had not spent is booked as lost."""
    from farebox.admin import leases

    with common.store() as store:
        found = leases.lose(store, common.load().settings.data_dir, owner)
    _show(common, found)
    amount = sum(lease["unspent_nanocredits"] for lease in found)
    say(
        f"{show_credits(amount)} credits of {len(found)} leases are booked as lost. Credit the"
        " accounts if you want to make it good: `farebox accounts credit`."
    )


def _show(common: Common, found: list[dict[str, object]]) -> None:
    rows = [[_cell(lease, name) for name in _COLUMNS] for lease in found]
    common.show_all(found, _COLUMNS, rows)


def _cell(lease: dict[str, object], name: str) -> object:
    amount = lease.get(f"{name}_nanocredits")
    return lease[name] if amount is None else show_credits(int(str(amount)))

"""`farebox keys`: the API keys of accounts."""

from __future__ import annotations

from typing import Annotated

import typer

from farebox.cli.common import Common, say, verb

app = typer.Typer(help="API keys: made once, shown once, revoked at once.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, key_…")]
_COLUMNS = ("id", "account", "name", "hint", "models", "created_at", "expires_at", "revoked_at")


def register(main: typer.Typer) -> None:
    """Add the noun."""
    main.add_typer(app, name="keys")


@verb(app, "create")
def create(
    common: Common,
    account: Annotated[str, typer.Option("--account", help="Who pays.")],
    name: Annotated[str, typer.Option("--name", help="A name to know it by.")] = "",
    models: Annotated[
        list[str] | None,
        typer.Option("--models", help="Models it may use, such as 'gpt-*'; repeat, or use commas."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="30d, 12h, or a time in RFC 3339.")
    ] = None,
) -> None:
    """Create a key. Its secret is shown now and never again."""
    from farebox.admin import keys

    with common.store_and_pepper() as (store, pepper):
        view = keys.create(store, pepper, account, name=name, models=models or (), expires=expires)
    common.show(view.as_dict())
    say("Keep the key now: it is not stored and cannot be shown again.")


@verb(app, "list")
def list_all(
    common: Common,
    account: Annotated[str | None, typer.Option("--account", help="Only of this account.")] = None,
) -> None:
    """List keys, without their secrets."""
    from farebox.admin import keys

    with common.store() as store:
        views = keys.listing(store, account)
    common.show_all([view.as_dict() for view in views], _COLUMNS)


@verb(app, "revoke")
def revoke(common: Common, key_id: KeyId) -> None:
    """Refuse a key from now on."""
    from farebox.admin import keys

    with common.store() as store:
        view = keys.revoke(store, key_id)
    common.show(view.as_dict())


@verb(app, "roll")
def roll(
    common: Common,
    key_id: KeyId,
    overlap: Annotated[
        str, typer.Option("--overlap", help="How long the old key still works, such as 1h.")
    ] = "0",
) -> None:
    """Replace a key by one with the same limits and another secret."""
    from farebox.admin import keys

    with common.store_and_pepper() as (store, pepper):
        view = keys.roll(store, pepper, key_id, overlap)
    common.show(view.as_dict())
    say("Keep the key now: it is not stored and cannot be shown again.")

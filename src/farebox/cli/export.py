"""`farebox export`: the catalogue as the file that `apply` reads."""

from __future__ import annotations

import typer

from farebox.cli.common import Common, verb, write_json


def register(main: typer.Typer) -> None:
    """Add the verb."""
    verb(main, "export")(export)


def export(common: Common) -> None:
    """Print the catalogue as TOML (with --json: the same document as JSON)."""
    from farebox.admin import catalogue

    with common.store() as store:
        if common.as_json:
            write_json(catalogue.current(store))
        else:
            typer.echo(catalogue.export(store), nl=False)

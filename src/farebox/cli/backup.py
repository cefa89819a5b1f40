"""`farebox backup` and `farebox restore`: the store as one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farebox.cli.common import Common, say, verb, write_json


def register(main: typer.Typer) -> None:
    """Add the verbs."""
    verb(main, "backup")(backup)
    verb(main, "restore")(restore)


def backup(
    common: Common,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")],
) -> None:
    """Write the whole store into a new file, while the gateway runs."""
    from farebox.admin import backup as admin

    with common.store() as store:
        made = admin.backup(store, common.load().settings, file)
    if common.as_json:
        write_json(made)
    else:
        typer.echo(f"{made['file']}: {made['bytes']} bytes")
    say(
        f"The master secret is not in it. It is {made['secret_file']}: keep a copy of it apart,"
        " since without it no key of this backup is valid."
    )


def restore(
    common: Common,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `farebox backup` wrote.")],
) -> None:
    """Fill an empty store from a backup; its secret must be in place."""
    from farebox.admin import backup as admin

    loaded = common.load()
    for note in loaded.notes:
        say(note)
    restored = admin.restore(loaded.settings, file)
    if common.as_json:
        write_json(restored)
    else:
        typer.echo(f"{restored['database']}: {restored['accounts']} accounts")
    say("`farebox audit --full` shows that it adds up; `farebox serve` serves it.")

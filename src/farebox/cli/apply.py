"""`farebox apply`: make the catalogue what a file says."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farebox.cli.common import BAD_INPUT, Common, say, verb, write_json

if TYPE_CHECKING:
    from farebox.settings import ConfigFile

_STDIN = "standard input"


def register(main: typer.Typer) -> None:
    """Add the verb."""
    verb(main, "apply")(apply)


def apply(
    common: Common,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A TOML file, or - for standard input.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the differences and change nothing.")
    ] = False,
    release: Annotated[
        bool,
        typer.Option("--release", help="The console may edit the catalogue again; needs no FILE."),
    ] = False,
) -> None:
    """Make channels, models, prices and groups exactly what FILE says."""
    if file is not None:
        _apply_file(common, file, dry_run=dry_run, release=release)
    elif release:
        _release(common, dry_run=dry_run)
    else:
        say("Name the FILE to apply, or - to read standard input. See `farebox apply --help`.")
        raise typer.Exit(BAD_INPUT)


def _apply_file(common: Common, name: str, *, dry_run: bool, release: bool) -> None:
    from farebox.admin import catalogue, catalogue_file
    from farebox.settings import ConfigError, check_server, config_path

    file = _read(name)
    if name != "-" and config_path(common.config, os.environ) is None:
        # What the file says of the store is meant for this verb as it is for `serve --config`.
        common = replace(common, config=Path(name))
    check_server(file)
    if file.document is None:
        raise ConfigError(
            f"{file.name} says nothing of channels, models or groups, so nothing was changed. "
            "To offer nothing at all, write `models = []`."
        )
    with common.store() as store:
        applied = catalogue.apply(
            store,
            catalogue_file.anchored(file.document, file.folder),
            "console" if release else "file",
            "" if release else file.name,
            dry_run=dry_run,
        )
    if common.as_json:
        return write_json(applied.as_dict())
    for change in applied.changes:
        typer.echo(change.line)
    if dry_run:
        say("This was a dry run: nothing was changed." if applied.changes else "No difference.")
    elif applied.changes:
        say(f"Version {applied.version} is in force; a running server follows within 2 seconds.")
    else:
        say(f"No difference; version {applied.version} stays in force.")
    return None


def _read(name: str) -> ConfigFile:
    from farebox.settings import parse_config, read_config

    if name == "-":
        return parse_config(sys.stdin.buffer.read(), _STDIN, Path.cwd())
    return read_config(Path.cwd() / Path(name).expanduser())


def _release(common: Common, *, dry_run: bool) -> None:
    from farebox.admin import catalogue

    with common.store() as store:
        stored = store.load_catalogue() if dry_run else catalogue.release(store)
    if stored is None:
        say("There is no catalogue yet, so no file manages it.")
    elif common.as_json:
        shown = {"version": stored.version, "source": stored.source, "origin": stored.origin}
        write_json({"changes": [], "dry_run": dry_run, **shown})
    elif dry_run:
        managed = (
            f"managed by {stored.origin}" if stored.source == "file" else "not managed by a file"
        )
        say(f"This was a dry run: the catalogue is {managed}.")
    else:
        say("No file manages the catalogue now: the console may edit it.")

"""`farebox doctor`: what is wrong with this installation."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import TYPE_CHECKING

import typer

from farebox.cli.common import FAILED, Common, say, verb, write_json, write_rows

if TYPE_CHECKING:
    from farebox.admin.doctor import Margin

_SIGNS = {"ok": "ok", "warning": "!", "problem": "PROBLEM"}


def register(main: typer.Typer) -> None:
    """Add the verb."""
    verb(main, "doctor")(doctor)


def doctor(common: Common) -> None:
    """Look for what is wrong: store, secret, channels, prices. Exit code 1 if anything is."""
    from farebox.admin.doctor import examine
    from farebox.counting.vocabularies import complaints
    from farebox.local import model

    with common.store() as store:
        settings = common.load().settings
        diagnosis = examine(store, settings, os.environ, model.missing(), complaints())
    if common.as_json:
        write_json(diagnosis.as_dict())
    else:
        rows = [[_SIGNS[each.level], each.subject, each.text] for each in diagnosis.findings]
        write_rows(("", "what", "finding"), rows)
        if diagnosis.margins:
            typer.echo()
            write_rows(("margin at list price", "by class"), list(map(_row, diagnosis.margins)))
    if not diagnosis.healthy:
        say("Something is wrong, see PROBLEM above.")
        raise typer.Exit(FAILED)


def _row(margin: Margin) -> list[str]:
    shares = (f"{name} {Decimal(ppm) / 10_000:+.1f} %" for name, ppm in margin.by_class)
    return [margin.model, ", ".join(shares) or "no cost"]

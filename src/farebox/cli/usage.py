"""`farebox usage`: what was used, summed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from farebox.cli.common import Common, say, verb, write_json, write_rows
from farebox.core.money import show_credits
from farebox.core.usage import CLASSES

_ALWAYS = ("uncached_input", "output")  # others only where used


def register(main: typer.Typer) -> None:
    """Add the verb."""
    verb(main, "usage")(usage)


def usage(
    common: Common,
    by: Annotated[str, typer.Option("--by", metavar="WHAT", help="model, key or day.")] = "model",
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="WHEN", help="7d, 12h, or a time in RFC 3339; whole hours."
        ),
    ] = "7d",
) -> None:
    """Show calls, tokens and charges since a time."""
    from farebox.admin import usage as admin

    with common.store() as store:
        report = admin.usage(store, by, since)
    if common.as_json:
        return write_json(report)
    total = report["total"]
    classes = [name for name in CLASSES if name in _ALWAYS or total["tokens"][name]]
    rows = [_row(row[by], row, classes) for row in report["rows"]]
    write_rows((by, "calls", *classes, "charge"), [*rows, _row("total", total, classes)])
    say(f"{report['since']} to {report['until']}; charges in credits")
    return None


def _row(of: object, sums: dict[str, Any], classes: list[str]) -> list[object]:
    tokens = [sums["tokens"][name] for name in classes]
    return [of, sums["calls"], *tokens, show_credits(sums["charge_nanocredits"])]

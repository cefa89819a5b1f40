"""`farebox usage`: what was used, summed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from farebox.cli.common import Common, say, verb, write_json, write_rows
from farebox.core.money import show_credits
from farebox.core.usage import CLASSES


def register(main: typer.Typer) -> None:
    """Add the verb."""
    verb(main, "usage")(usage)


def usage(
    common: Common,
    by: Annotated[str, typer.Option("--by", help="model, key or day.")] = "model",
    since: Annotated[
        str, typer.Option("--since", help="7d, 12h, or a time in RFC 3339; whole hours.")
    ] = "7d",
) -> None:
    """Show calls, tokens and charges since a time."""
    from farebox.admin import usage as admin

    with common.store() as store:
        report = admin.usage(store, by, since)
    if common.as_json:
        return write_json(report)
    rows = [_row(row[by], row) for row in report["rows"]]
    write_rows((by, "calls", *CLASSES, "charge"), [*rows, _row("total", report["total"])])
    say(f"{report['since']} to {report['until']}; charges in credits")
    return None


def _row(of: object, sums: dict[str, Any]) -> list[object]:
    tokens = [sums["tokens"][name] for name in CLASSES]
    return [of, sums["calls"], *tokens, show_credits(sums["charge_nanocredits"])]

"""`farebox usage`: what was used, summed; or how well tokens are counted beforehand."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import typer

from farebox.cli.common import Common, say, verb, write_json, write_rows
from farebox.core.money import show_credits
from farebox.core.usage import CLASSES

_ALWAYS = ("uncached_input", "output")  # others only where used
_NOTHING_MEASURED = (
    "Nothing was measured. While clients count tokens (POST /v1/messages/count_tokens or"
    " /v1/responses/input_tokens), some of the calls made are counted too and held against what"
    " their vendors report."
)


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
    calibration: Annotated[
        bool,
        typer.Option(
            "--calibration", help="How counted tokens compare with reported ones; whole days."
        ),
    ] = False,
) -> None:
    """Show calls, tokens and charges since a time."""
    if calibration:
        return _calibration(common, since)
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


def _calibration(common: Common, since: str) -> None:
    from farebox.admin import calibration as admin

    with common.store() as store:
        report = admin.calibration(store, since)
    if common.as_json:
        return write_json(report)
    if not report["rows"]:
        return say(_NOTHING_MEASURED)
    head = ("model", "vocabulary", "count", "calls", "counted", "reported", "factor")
    write_rows((*head, "mean off by", "most off by"), list(map(_calibration_row, report["rows"])))
    say(
        f"{report['since']} to {report['until']}; the factor is reported ÷ counted. What answers"
        " were off by includes it where they were estimates."
    )
    return None


def _calibration_row(row: dict[str, Any]) -> list[object]:
    return [
        row["model"],
        row["vocabulary"],
        "exact" if row["exact"] else "estimated",
        row["calls"],
        row["counted"],
        row["reported"],
        "" if row["factor"] is None else f"{Decimal(row['factor']):.3f}",
        f"{Decimal(row['mean_deviation']) * 100:.2f} %",
        f"{Decimal(row['largest_deviation']) * 100:.2f} %",
    ]

"""`farebox usage`: what was used, summed; what was not delivered; how well tokens are counted."""

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
    undelivered: Annotated[
        bool,
        typer.Option(
            "--undelivered", help="Calls that were charged and whose end the client did not get."
        ),
    ] = False,
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
    if undelivered:
        return _undelivered(common, since)
    from farebox.admin import usage as admin

    with common.store() as store:
        report = admin.usage(store, by, since)
    if common.as_json:
        return write_json(report)
    total = report["total"]
    classes = [name for name in CLASSES if name in _ALWAYS or total["tokens"][name]]
    sums = ["charge", "absorbed"] if total["absorbed_nanocredits"] else ["charge"]
    rows = [(row[by], row) for row in report["rows"]]
    write_rows(
        (by, "calls", *classes, *sums),
        [_row(of, row, classes, sums) for of, row in (*rows, ("total", total))],
    )
    say(f"{report['since']} to {report['until']}; charges in credits")
    return None


def _row(of: object, row: dict[str, Any], classes: list[str], sums: list[str]) -> list[object]:
    tokens = [row["tokens"][name] for name in classes]
    return [of, row["calls"], *tokens, *(show_credits(row[f"{name}_nanocredits"]) for name in sums)]


def _undelivered(common: Common, since: str) -> None:
    from farebox.admin import usage as admin

    with common.store() as store:
        report = admin.undelivered(store, since)
    if common.as_json:
        return write_json(report)
    columns = ("request_id", "account", "key_id", "model", "created_at")
    write_rows(
        (*columns, "charge"),
        [
            [*(row[name] for name in columns), show_credits(row["charge_nanocredits"])]
            for row in report["rows"]
        ],
    )
    total = report["total"]
    say(
        f"{report['since']} to {report['until']}: {total['calls']} calls,"
        f" {show_credits(total['charge_nanocredits'])} credits."
    )
    return None


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

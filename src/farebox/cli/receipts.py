"""`farebox receipts`: what one call cost, and why."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import typer

from farebox.cli.common import Common, verb, write_json, write_rows
from farebox.core.money import show_credits

app = typer.Typer(help="Receipts: what a call cost, line by line.", no_args_is_help=True)

_LINE_COLUMNS = ("class", "tokens", "price_per_million", "multiplier", "credits")
_ATTEMPT_COLUMNS = ("n", "channel", "status", "error", "ms", "ttft_ms")


def register(main: typer.Typer) -> None:
    """Add the noun."""
    main.add_typer(app, name="receipts")


@verb(app, "show")
def show(
    common: Common,
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="An answer's x-request-id, resp_… or msg_…")
    ],
) -> None:
    """Show the receipt of a call."""
    from farebox.admin import receipts

    with common.store() as store:
        receipt = receipts.show(store, request_id)
    if common.as_json:
        write_json(receipt)
    else:
        _show(common, receipt)


def _show(common: Common, receipt: dict[str, Any]) -> None:
    plain = ("request_id", "account", "key_id", "model", "channel", "dialect", "stream", "outcome")
    sums = ("hold_nanocredits", "charge_nanocredits", "absorbed_nanocredits")
    fields = {name: receipt[name] for name in (*plain, "created_at", "price_version", "rate")}
    fields |= {name.partition("_")[0]: f"{show_credits(receipt[name])} credits" for name in sums}
    common.show(receipt, fields | {"flags": receipt["flags"]})
    rounding = ("rounding", "", "", "", _credits(receipt["rounding"]))
    write_rows(_LINE_COLUMNS, [*map(_line, receipt["lines"]), rounding])
    attempts = [[attempt[name] for name in _ATTEMPT_COLUMNS] for attempt in receipt["attempts"]]
    write_rows(("attempt", *_ATTEMPT_COLUMNS[1:]), attempts)


def _line(line: dict[str, Any]) -> list[object]:
    price = show_credits(line["price_nanocredits_per_million"])
    return [line["class"], line["tokens"], price, line["multiplier"], _credits(line["amount"])]


def _credits(exact_nanocredits: str) -> str:
    """Exact, after the rate: `amount` and `rounding` have up to twelve places of their own."""
    return format(Decimal(exact_nanocredits).scaleb(-9).normalize(), "f")

"""`farebox receipts`: what one call cost, and why, as a customer may be shown it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import typer

from farebox.cli.common import Common, verb, write_json, write_rows
from farebox.core.money import show_credits

app = typer.Typer(help="Receipts: what a call cost, line by line.", no_args_is_help=True)

_LINE_COLUMNS = ("class", "tokens", "price_per_million", "multiplier", "credits")
_ATTEMPT_COLUMNS = ("n", "channel", "status", "error", "ms", "ttft_ms")
_OUTCOMES = {
    "complete": "complete",
    "client_gone": "client_gone: the client hung up before the end",
    "upstream_failed": "upstream_failed: the vendor broke off, or could not be had",
    "refused": "refused",
    "undelivered": "undelivered: charged, but the end did not reach the client",
}
_FLAGS = {
    "estimated": "the vendor reported no usage; tokens are what was received, and an estimate of"
    " what was sent",
    "bad_usage": "the vendor reported usage that cannot be true, and it was not used",
    "write_overlap": "the vendor counted tokens as read from and written to the cache; they count"
    " once, as read",
    "cached_exceeds_prompt": "the vendor reported more cached tokens than input; all input counts"
    " as read from the cache",
    "unpriced_tier": "the vendor ran the call in a tier that has no price; the list price counts",
    "not_covered": "the stream was ended because no more of its answer could be held for",
    "not_reckoned": "the gateway failed to work out what the call costs, so it costs nothing",
}


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

    keep_days = common.load().settings.usage_keep_days
    with common.store() as store:
        receipt = receipts.show(store, request_id, keep_days=keep_days)
    if common.as_json:
        write_json(receipt)
    else:
        _show(common, receipt)


def _show(common: Common, receipt: dict[str, Any]) -> None:
    common.show(receipt, _head(receipt))
    typer.echo()
    if receipt["lines"]:
        total = receipt["charge_nanocredits"] + receipt["absorbed_nanocredits"]
        write_rows(
            _LINE_COLUMNS,
            [
                *map(_line, receipt["lines"]),
                ("rounding", "", "", "", _credits(receipt["rounding"])),
                ("total", "", "", "", show_credits(total)),
            ],
        )
        typer.echo(f"Credits are those of the price × multiplier × rate {receipt['rate']}.\n")
    common.show(receipt, _sums(receipt))
    if receipt["attempts"]:
        typer.echo()
        attempts = [[attempt[name] for name in _ATTEMPT_COLUMNS] for attempt in receipt["attempts"]]
        write_rows(("attempt", *_ATTEMPT_COLUMNS[1:]), attempts)


def _head(receipt: dict[str, Any]) -> dict[str, object]:
    plain = ("request_id", "account", "key_id", "model", "channel", "dialect", "stream")
    fields = {name: receipt[name] for name in plain}
    fields["outcome"] = _OUTCOMES.get(receipt["outcome"], receipt["outcome"])
    fields["admitted"] = receipt["created_at"]
    fields["settled"] = receipt["settled_at"]
    fields["price version"] = receipt["price_version"]
    fields["rate"] = receipt["rate"]
    if receipt["service_tier"]:
        fields["service tier"] = receipt["service_tier"]
    for flag in receipt["flags"]:
        fields[f"flag {flag}"] = _FLAGS.get(flag, "")
    return fields


def _sums(receipt: dict[str, Any]) -> dict[str, object]:
    lease = f", from lease {receipt['lease_id']}" if receipt["lease_id"] is not None else ""
    sums: dict[str, object] = {
        "held": f"{show_credits(receipt['hold_nanocredits'])} credits while the call ran",
        "charge": f"{show_credits(receipt['charge_nanocredits'])} credits{lease}",
    }
    if receipt["absorbed_nanocredits"]:
        absorbed = show_credits(receipt["absorbed_nanocredits"])
        sums["absorbed"] = f"{absorbed} credits that the account did not have; nobody asks for them"
    return sums


def _line(line: dict[str, Any]) -> list[object]:
    price = show_credits(line["price_nanocredits_per_million"])
    return [line["class"], line["tokens"], price, line["multiplier"], _credits(line["amount"])]


def _credits(exact_nanocredits: str) -> str:
    """Exact, after the rate: `amount` and `rounding` have up to twelve places of their own."""
    return format(Decimal(exact_nanocredits).scaleb(-9).normalize(), "f")

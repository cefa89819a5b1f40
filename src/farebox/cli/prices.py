"""`farebox prices`: what models are sold for, since when, and from when on for how much else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from farebox.cli.common import Common, say, verb

app = typer.Typer(
    help="Prices: what models are sold for, now, before and from a day on.", no_args_is_help=True
)

_CLASSES = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "audio_output",
    "image_input",
)
_Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model's id or an alias.")]
_STATES = {"in_force": "in force", "coming": "to come"}


def _option(help: str) -> Any:
    return typer.Option(metavar="CREDITS", help=f"{help}, per million tokens.")


def register(main: typer.Typer) -> None:
    """Add the noun."""
    main.add_typer(app, name="prices")


@verb(app, "list")
def list_all(
    common: Common,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Only of this model.")
    ] = None,
) -> None:
    """List the prices in force, in credits per million tokens."""
    from farebox.admin import prices

    with common.store() as store:
        values = [view.as_dict() for view in prices.listing(store, model)]
    rows = [
        [value["model"], *_cells(value), value["version"], _terms(value["price"]), _next(value)]
        for value in values
    ]
    common.show_all(values, ("model", *_CLASSES, "from", "version", "terms", "to come"), rows)


@verb(app, "history")
def history(common: Common, model: _Model) -> None:
    """Show every change of a model's price, oldest first, and those to come."""
    from farebox.admin import prices

    with common.store() as store:
        values = [change.as_dict() for change in prices.history(store, model)]
    rows = [
        [
            value["version"],
            value["changed_at"],
            value["origin"] or value["source"],
            _STATES.get(value["state"], value["state"]),
            *_cells(value),
            _terms(value["price"]),
        ]
        for value in values
    ]
    columns = ("version", "changed at", "by", "state", *_CLASSES, "from", "terms")
    common.show_all(values, columns, rows)


@verb(app, "set")
def set_price(  # noqa: PLR0913 (a price has this many classes)
    common: Common,
    model: _Model,
    *,
    input: Annotated[str, _option("Input that had to be read")],
    output: Annotated[str, _option("Output")],
    cache_read: Annotated[str | None, _option("Input from the vendor's cache")] = None,
    cache_write: Annotated[str | None, _option("Input put there")] = None,
    cache_write_1h: Annotated[str | None, _option("The same for an hour")] = None,
    audio_input: Annotated[str | None, _option("Audio in")] = None,
    audio_output: Annotated[str | None, _option("Audio out")] = None,
    image_input: Annotated[str | None, _option("Images; else they count as text")] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="DAY", help="First day (UTC) that it counts; else now."),
    ] = None,
) -> None:
    """Give a model another price, from now on or from a day on."""
    from farebox.admin import prices

    given = (
        *(input, output, cache_read, cache_write, cache_write_1h),
        *(audio_input, audio_output, image_input),
    )
    classes = {name: text for name, text in zip(_CLASSES, given, strict=True) if text is not None}
    with common.store() as store:
        new = prices.set_price(store, model, classes, from_)
    value = new.view.as_dict()
    common.show(value, _fields(value))
    if new.kept:
        say(f"Kept of the price before it: {', '.join(new.kept)}.")
    if new.replaces:
        say(f"It replaces another price that was to begin on {from_}.")
    if new.was_source == "environment":
        say("The catalogue is no longer made of the keys in the environment.")
    say(f"Version {value['version']} is in force; a running server follows within 2 seconds.")


def _fields(value: Mapping[str, Any]) -> dict[str, object]:
    """What a person reads of a model's prices, one below the other."""
    classes = dict(zip(_CLASSES, _cells(value), strict=False))
    return {
        "model": value["model"],
        **classes,
        "from": value["from"],
        "version": value["version"],
        "terms": _terms(value["price"]),
        "to come": _next(value),
    }


def _cells(value: Mapping[str, Any]) -> list[object]:
    """A price's classes, and the day on which it began."""
    price: dict[str, object] = value["price"] or {}
    return [*(price.get(name) for name in _CLASSES), value["from"]]


def _next(value: Mapping[str, Any]) -> str:
    return "; ".join(
        f"from {each['from']} input {each['price']['input']}, output {each['price']['output']}"
        for each in value["next"]
    )


def _terms(price: Mapping[str, Any] | None) -> str | None:
    """What a price may be multiplied by, and what stands beside it."""
    if price is None:
        return "not sold"
    terms: list[str] = []
    if long := price.get("long_context"):
        terms.append(
            f"above {long['threshold']:,} tokens input × {long['input_multiplier']}, "
            f"output × {long['output_multiplier']}"
        )
    terms += [f"tier {name} × {factor}" for name, factor in price.get("tiers", {}).items()]
    terms += [
        f"{window['days']} {window['utc']} UTC × {window['multiplier']}"
        for window in price.get("windows", ())
    ]
    terms += [f"{tool} {amount} a call" for tool, amount in price.get("tools", {}).items()]
    return "; ".join(terms) or None

"""`farebox audit`: whether the books add up, and where they don't."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from farebox.cli.common import FAILED, Common, say, verb, write_json, write_rows
from farebox.core.money import show_credits

_AMOUNT = "_nanocredits"


def register(main: typer.Typer) -> None:
    """Add the verb."""
    verb(main, "audit")(audit)


def audit(
    common: Common,
    full: Annotated[
        bool,
        typer.Option("--full", help="All calls that are kept, not only hours that are not sealed."),
    ] = False,
) -> None:
    """Prove that the books add up; exit code 1 and the rows that don't."""
    from farebox.admin import audit as admin

    with common.store() as store:
        report = admin.audit(store, full=full)
    if common.as_json:
        write_json(report)
    else:
        _show(report)
    if not report["ok"]:
        raise typer.Exit(FAILED)


def _show(report: dict[str, Any]) -> None:
    invariants = report["invariants"]
    write_rows(
        ("id", "what must hold", "result"),
        [[each["id"], each["says"], _result(each)] for each in invariants],
    )
    for each in invariants:
        for number, row in enumerate(each["rows"]):
            typer.echo(f"\n{each['id']}, {number + 1}: {_sentence(row)}")
        if each["more"]:
            typer.echo(f"\n{each['id']}: and {each['more']} more")
    for note in (note for each in invariants for note in each["notes"]):
        say(_draining(note))
    say(
        f"{report['calls']} calls of {report['hours']} hours were priced again,"
        f" {report['sealed']} hours sealed, in {report['seconds']:g} s."
    )
    if not report["ok"]:
        say("The books do not add up. What each finding means, and what to do: docs/billing.md.")


def _result(invariant: dict[str, Any]) -> str:
    if invariant["ok"]:
        return "holds"
    return f"BROKEN, {len(invariant['rows']) + invariant['more']} found"


def _sentence(row: dict[str, Any]) -> str:
    """A finding in one line, amounts in credits."""
    return ", ".join(_field(name, value) for name, value in row.items())


def _field(name: str, value: object) -> str:
    if name.endswith(_AMOUNT):
        shown = "none" if value is None else f"{show_credits(int(str(value)))} credits"
        return f"{name.removesuffix(_AMOUNT).replace('_', ' ')} {shown}"
    return f"{name.replace('_', ' ')} {'none' if value is None else value}"


def _draining(note: dict[str, Any]) -> str:
    if "lease_id" not in note:
        return f"Note: {note['more']} more leases are draining."
    return (
        f"Note: lease {note['lease_id']} on account {note['account']} is draining:"
        f" {show_credits(note['unspent_nanocredits'])} credits wait for {note['owner']}."
    )

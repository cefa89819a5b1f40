"""The command `farebox`: its nouns and verbs, and the last stand against tracebacks."""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated

import typer

from farebox import __version__
from farebox.cli import (
    accounts,
    apply,
    audit,
    backup,
    doctor,
    export,
    keys,
    leases,
    prices,
    receipts,
    serve,
    usage,
)
from farebox.cli.common import BAD_INPUT, FAILED, say

_NEGATIVE = re.compile(r"No such option: -[0-9.]")  # a number that looks like one

app = typer.Typer(
    name="farebox",
    help="A gateway to language models that charges prepaid credits per token, exactly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: no frames, and no types behind what takes no value
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"farebox {__version__}")
        raise typer.Exit


@app.callback()
def _farebox(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


_NOUNS = (
    *(serve, apply, export, prices, accounts, keys, leases),
    *(receipts, usage, audit, backup, doctor),
)
for noun in _NOUNS:
    noun.register(app)


def main() -> None:
    """Run the command line; every failure is a sentence and an exit code."""
    try:
        # A verb returns nothing; an exit code is what typer.Exit was raised with.
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python must not complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:  # noqa: BLE001 (no failure may end in a traceback)
        sys.exit(_failed(error))
    sys.exit(code if isinstance(code, int) else 0)


def _failed(error: Exception) -> int:
    """Say what went wrong: wrong usage by its own sentence, a defect without its traceback."""
    if hasattr(error, "format_message"):  # what typer raises for wrong usage, whatever its module
        return _wrong_usage(error)
    if os.environ.get("FAREBOX_DEBUG") == "1":
        raise error
    text = " ".join(str(error).split()) or "no more is known"
    say(f"Something went wrong: {type(error).__name__}: {text}. FAREBOX_DEBUG=1 shows where.")
    return FAILED


def _wrong_usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    message = str(error.format_message()).strip()  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        say(message)  # the help, for want of any argument
    else:
        message += "" if message[-1:] in ".?!" else "."
        if _NEGATIVE.search(message):
            message += " No amount here is below zero."
        say(f"{message} See `{context.command_path} --help`." if context else message)
    return int(getattr(error, "exit_code", BAD_INPUT))

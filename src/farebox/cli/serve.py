"""`farebox serve`: prepare, run the supervisor, and tell how to call what is served."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farebox.cli.common import Common, program, say, verb, write_json
from farebox.core import collector

if TYPE_CHECKING:
    from farebox.admin.first_run import Prepared
    from farebox.core.settings import Settings
    from farebox.store import Store


def register(main: typer.Typer) -> None:
    """Add the verb."""
    verb(main, "serve")(serve)


@collector.put_off()
def serve(
    common: Common,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="ADDRESS", help="Where to listen; default 127.0.0.1."),
    ] = None,
    port: Annotated[
        str | None, typer.Option("--port", metavar="PORT", help="Where to listen; default 8790.")
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option("--workers", metavar="N", help="Worker processes; auto: one for each core."),
    ] = None,
    no_local: Annotated[
        bool, typer.Option("--no-local", help="Do not run the embedded model.")
    ] = False,
) -> None:
    """Run the gateway. With --config FILE: apply FILE first. SIGTERM and Ctrl-C end it when calls
    in flight have ended; SIGHUP reads the settings again and replaces its processes one by one.
    """
    from farebox.admin.catalogue_file import anchored, check
    from farebox.admin.first_run import is_fresh
    from farebox.claims import Refused, claim

    flags = {"host": host, "port": port, "workers": workers, "local": False if no_local else None}
    loaded = common.load(**flags)
    settings, document = loaded.settings, loaded.document
    for note in loaded.notes:
        say(note)
    if document is not None and settings.config is not None:
        # Checked before anything is made, so that a wrong file leaves no trace.
        document = check(anchored(document, settings.config.parent), str(settings.config))
    fresh = not _given(common) and is_fresh(settings.data_dir)
    try:
        claims = claim(settings)
    except Refused as refused:
        say(refused.message)
        raise typer.Exit(refused.exit_code) from None
    with claims:
        raise typer.Exit(_run(common, claims, document, flags, fresh=fresh))


def _given(common: Common) -> bool:
    """Whether a configuration or a store was named: then no account is made by itself."""
    variables = (os.environ.get(name, "") for name in ("FAREBOX_CONFIG", "FAREBOX_DATABASE"))
    return bool(common.config or common.database or any(text.strip() for text in variables))


def _run(
    common: Common,
    claims: Any,
    document: dict[str, Any] | None,
    flags: Mapping[str, object],
    *,
    fresh: bool,
) -> int:
    from farebox import supervisor
    from farebox.admin import secret
    from farebox.admin.first_run import prepare
    from farebox.chores import Chores
    from farebox.local import model
    from farebox.reload import Given
    from farebox.store import open_store

    settings = claims.settings
    store = open_store(settings.database, settings.data_dir)
    try:
        pepper = secret.key_pepper(secret.unlock(settings, store))
        prepared = prepare(store, settings, os.environ, document, model.missing())
        for line in prepared.found:
            say(f"Found {line}.")
        for note in prepared.notes:
            say(note)
        if prepared.example is None:
            say(
                "There is nothing to serve yet: no model can be called. Start with a vendor's key "
                "in the environment, such as OPENAI_API_KEY, or run `farebox apply FILE`."
            )
        announcement = _Announcement(common, store, pepper, prepared, fresh)
        metrics = supervisor.metrics_folder(settings)
        with Chores(store, settings, metrics, supervisor.say_on_stderr) as chores:

            def announce(served: Settings) -> None:
                announcement(served)
                collector.begin()
                chores.start()

            given = Given(common.config, {**common.overrides, **flags}, chores.follow)
            local = prepared.run_local
            return supervisor.run(claims, store, local=local, announce=announce, given=given)
    finally:
        store.close()


@dataclass(frozen=True, slots=True)
class _Announcement:
    """What is shown once the gateway serves. Nothing is made for a start that fails."""

    common: Common
    store: Store
    pepper: bytes
    prepared: Prepared
    fresh: bool

    def __call__(self, settings: Settings) -> None:
        from farebox.admin.first_run import DEMO_ACCOUNT, DEMO_CREDITS, make_demo

        key = None
        if self.fresh:
            key = make_demo(self.store, self.pepper, with_key=self._may_show_secret())
        if self.common.as_json:
            write_json(self._as_dict(settings, key))
            return
        typer.echo(f"Farebox is ready.\n\nBase URL  {settings.base_url}")
        if key:
            typer.echo(
                f"API key   {key}\n          (account {DEMO_ACCOUNT} with {DEMO_CREDITS} credits; "
                "it is not shown again)"
            )
        typer.echo(f"Prices    {settings.origin}/pricing\nData      {settings.data_dir}\n")
        if key and self.prepared.example:
            typer.echo(f"Try it:\n\n{curl(settings, self.prepared.example, key)}\n")
        elif not key:
            typer.echo(self._how_to_get_a_key())

    def _may_show_secret(self) -> bool:
        """With vendors behind it, a key that was printed into some log would spend real money."""
        return self.common.as_json or self.prepared.only_local or sys.stdout.isatty()

    def _as_dict(self, settings: Settings, key: str | None) -> dict[str, Any]:
        example = self.prepared.example
        return {
            "base_url": settings.base_url,
            "pricing_url": f"{settings.origin}/pricing",
            "key": key,
            "model": example,
            "curl": curl(settings, example, key) if key and example else None,
            "channels": list(self.prepared.catalogue.channels),
            "notes": list(self.prepared.notes),
        }

    def _how_to_get_a_key(self) -> str:
        from farebox.admin.first_run import DEMO_ACCOUNT, DEMO_CREDITS

        accounts = self.store.accounts()
        same = "".join(
            f" {flag} {shlex.quote(str(Path(value).absolute() if flag != '--database' else value))}"
            for flag, value in (
                ("--config", self.common.config),
                ("--database", self.common.database),
                ("--data-dir", self.common.data_dir),
            )
            if value is not None
        )
        if not accounts:
            return (
                "There is no account yet. These make one with a key:\n\n"
                f"{program()} accounts create ada --credits 10{same}\n"
                f"{program()} keys create --account ada{same}\n"
            )
        why = ""
        if self.fresh:
            why = (
                f"The account {DEMO_ACCOUNT} has {DEMO_CREDITS} credits. No key was made for it, "
                "since this is no terminal and vendors would be paid for its calls.\n"
            )
        create = f"{program()} keys create --account {accounts[0].name}{same}"
        return f"{why}To make an API key:\n\n{create}\n"


def curl(settings: Settings, model: str, key: str) -> str:
    """One line for a shell that calls a model."""
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello in one sentence."}]}
    return (
        f"curl {settings.base_url}/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
    )

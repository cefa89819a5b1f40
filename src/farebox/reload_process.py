"""What a reload finds on the disk: the settings, read by the code that is there now.

Run as `python -m farebox.reload_process` by the supervisor, whose own code is that of its start.
The first line of its input is what reload.question makes, its answer is one line. It changes
nothing until a second line comes; then it does with the catalogue what a start would do, and
answers again. What is done with the answers is reload.py's business.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from farebox import __version__
from farebox.admin.catalogue_file import BadCatalogue, anchored, check
from farebox.admin.first_run import prepare
from farebox.core.bus import PROTOCOL, plain_settings, read_settings
from farebox.core.settings import Settings
from farebox.local import model
from farebox.settings import ConfigError, load
from farebox.settings_rules import NEED_RESTART, PLACES
from farebox.store.errors import StoreError
from farebox.store.store import has_present_schema, open_store


@dataclass(frozen=True, slots=True)
class Found:
    """Settings as the workers are to have them, and the catalogue tables of the file, if any."""

    settings: Settings
    document: dict[str, Any] | None
    notes: tuple[str, ...]


class Refused(Exception):
    """A sentence on why there can be no reload."""


def find(config: str | None, overrides: Mapping[str, object], running: Mapping[str, Any]) -> Found:
    """Read what counts now. Raises ConfigError, BadCatalogue, StoreError, Refused."""
    loaded = load(Path(config) if config is not None else None, overrides)
    settings, document = loaded.settings, loaded.document
    if document is not None and settings.config is not None:
        document = check(anchored(document, settings.config.parent), str(settings.config))
    start = read_settings({name: running[name] for name in NEED_RESTART})
    kept = {name: getattr(start, name) for name in NEED_RESTART}
    changed = [
        "[{}] {}".format(*PLACES[name])
        for name, value in kept.items()
        # Port 0 was any free one, and it still is the one that was got.
        if getattr(settings, name) != value and (name, getattr(settings, name)) != ("port", 0)
    ]
    notes = list(loaded.notes)
    if changed:
        notes.append(
            f"{', '.join(changed)} cannot change while the gateway runs, and "
            f"{'stays' if len(changed) == 1 else 'stay'} as before. Stop it and start it for that."
        )
    settings = replace(settings, **kept)
    if not has_present_schema(settings.database, settings.data_dir):
        raise Refused(
            f"Farebox {__version__}, which is installed now, has another schema of the store. Stop "
            "the gateway and start it again: the start brings the store up to date."
        )
    return Found(settings, document, tuple(notes))


def apply(found: Found) -> list[str]:
    """Make the catalogue what a start would make it; what is amiss, a sentence each."""
    store = open_store(found.settings.database, found.settings.data_dir)
    try:
        prepared = prepare(store, found.settings, os.environ, found.document, model.missing())
    finally:
        store.close()
    return list(prepared.notes)


def _answer(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> None:
    """One reload's process, from its question to its end."""
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    about: dict[str, object] = {"protocol": PROTOCOL, "version": __version__}
    try:
        found = find(asked["config"], asked["overrides"], asked["running"])
        _answer(**about, problems=[], settings=plain_settings(found.settings), notes=found.notes)
        if sys.stdin.readline():
            _answer(problems=[], notes=apply(found))
    except (ConfigError, BadCatalogue, StoreError, Refused) as error:
        _answer(**about, problems=str(error).splitlines())


if __name__ == "__main__":
    main()

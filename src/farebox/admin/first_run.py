"""What a start finds or makes before it serves: the catalogue in force, on a first run an account.

Settings, locks and sockets, and telling people of it, are the command line's.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farebox.admin import accounts, keys
from farebox.admin.catalogue import apply, resolve, snapshot
from farebox.admin.environment import derive, is_own_address
from farebox.core import clock
from farebox.core.bus import LocalEndpoint
from farebox.core.settings import Settings
from farebox.routing.catalogue import Catalogue
from farebox.routing.select import is_sold
from farebox.store import Store, StoreConflict

DEMO_ACCOUNT = "demo"
DEMO_CREDITS = "5"
_LOCK = "lock"  # left by a start that ended for want of a port
# Only to see what else is closed: the real one is not known before the model runs.
_SOME_ENDPOINT = LocalEndpoint("http://127.0.0.1:0/v1", "")


@dataclass(frozen=True, slots=True)
class Prepared:
    """The catalogue that will be served, and sentences on where it is from and what is amiss."""

    catalogue: Catalogue
    run_local: bool  # the embedded model is wanted and installed
    only_local: bool  # there is no channel but that of the embedded model
    example: str | None  # a model that can be called, the local one if it runs; None: none can
    found: tuple[str, ...]  # channels of the environment
    notes: tuple[str, ...]  # what was ignored, closed or is missing


def is_fresh(data_dir: Path) -> bool:
    """Whether this start makes the data folder: it is missing, or nothing was ever kept in it."""
    try:
        return all(entry.name == _LOCK for entry in data_dir.iterdir())
    except FileNotFoundError:
        return True
    except OSError:
        return False  # whoever uses it next says what is wrong with it


def prepare(
    store: Store,
    settings: Settings,
    environ: Mapping[str, str],
    document: Mapping[str, Any] | None,
    local_missing: str | None,
) -> Prepared:
    """Bring the catalogue up to date and look at it as the serving process will.

    `document`: the catalogue tables of the file that was given; without, vendor keys make the
    catalogue, unless a file or a person did. `local_missing`: why the embedded model cannot run.
    Raises BadCatalogue before anything changes.
    """
    found: tuple[str, ...] = ()
    notes: list[str] = []
    local = settings.local and local_missing is None
    stored = store.load_catalogue()
    if document is not None:
        apply(store, document, "file", str(settings.config or ""))
    elif stored is None or stored.source == "environment":
        derived = derive(environ, settings, local=local)
        apply(store, derived.document, "environment", "")
        found = derived.found
        notes += derived.ignored
    stored = store.load_catalogue()
    assert stored is not None
    catalogue = snapshot(stored.document, stored.version, stored.created_us)
    embedded = {channel.id for channel in catalogue.channels.values() if not channel.base_url}
    if settings.local and local_missing and (embedded or stored.source == "environment"):
        notes.append(local_missing)
    catalogue, closed = resolve(catalogue, environ, _SOME_ENDPOINT if local else None)
    notes += closed
    notes += circles(catalogue, settings)
    example = _callable(catalogue, embedded) or _callable(catalogue, catalogue.channels)
    return Prepared(
        catalogue,
        run_local=bool(embedded) and local,
        only_local=embedded == set(catalogue.channels),
        example=example,
        found=found,
        notes=tuple(notes),
    )


def _callable(catalogue: Catalogue, channels: Container[str]) -> str | None:
    """The first model that is sold through one of these channels, which must be open."""
    now_us = clock.now_us()
    for model in catalogue.models.values():
        for route in model.routes:
            is_open = not catalogue.channels[route.channel].closed
            if is_sold(model, now_us) and route.channel in channels and is_open:
                return model.id
    return None


def circles(catalogue: Catalogue, settings: Settings) -> list[str]:
    """A sentence on each channel that leads to this very gateway."""
    return [
        f"Channel {channel.id} leads back to this gateway ({channel.base_url}): calls to it are "
        "refused as a loop. Correct its base_url."
        for channel in catalogue.channels.values()
        if not channel.closed and channel.base_url and is_own_address(channel.base_url, settings)
    ]


def make_demo(store: Store, pepper: bytes, *, with_key: bool) -> str | None:
    """The account of a first run and its key's secret; None without a key, or if it exists."""
    try:
        accounts.create(store, DEMO_ACCOUNT, credits=DEMO_CREDITS)
    except StoreConflict:
        return None
    return keys.create(store, pepper, DEMO_ACCOUNT, name="first run").secret if with_key else None

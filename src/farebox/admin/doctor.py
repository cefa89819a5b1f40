"""What is wrong with an installation, and what is only worth knowing. It changes nothing."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from farebox.admin.catalogue import resolve, snapshot
from farebox.admin.environment import derive
from farebox.admin.first_run import circles
from farebox.admin.secret import SecretError, fingerprint, load_secret
from farebox.core import clock
from farebox.core.bus import LocalEndpoint
from farebox.core.money import PPM, show_credits, show_ppm
from farebox.core.price import Price
from farebox.core.settings import Settings
from farebox.routing.catalogue import Catalogue, Model
from farebox.store import Store
from farebox.store.schema import SCHEMA_VERSION

Level = Literal["ok", "warning", "problem"]
_COMPARED = ("input", "output", "cache_read", "cache_write")
_SHAPES = ("tiers", "windows", "long_context")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. Only a problem makes `doctor` fail."""

    level: Level
    subject: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """For machines."""
        return {"level": self.level, "subject": self.subject, "text": self.text}


@dataclass(frozen=True, slots=True)
class Margin:
    """What a model sells for above its cost, by class, in parts per million of the cost.

    At list price, without rates. A class that costs nothing has none.
    """

    model: str
    by_class: tuple[tuple[str, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """For machines; 0.25 is a quarter of the cost."""
        shown = {name: show_ppm(ppm) for name, ppm in self.by_class}
        return {"model": self.model, "margin": shown}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything found."""

    findings: tuple[Finding, ...]
    margins: tuple[Margin, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no problem."""
        return all(finding.level != "problem" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "ok": self.healthy,
            "findings": [finding.as_dict() for finding in self.findings],
            "margins": [margin.as_dict() for margin in self.margins],
        }


def examine(
    store: Store,
    settings: Settings,
    environ: Mapping[str, str],
    local_missing: str | None,
    uncountable: Iterable[str],
) -> Diagnosis:
    """Look at folder, store, secret, catalogue, channels and prices. `uncountable`: what is wrong
    with the vocabularies that tokens are counted with, a sentence each.
    """
    findings = [
        _data_folder(settings),
        Finding("ok", "store", f"{store.shown}, schema {SCHEMA_VERSION}"),
        _secret(settings, store),
        _local(settings, local_missing),
        _vocabularies(uncountable),
    ]
    stored = store.load_catalogue()
    if stored is None:
        findings.append(
            Finding("warning", "catalogue", "There is none yet: serve or apply makes it.")
        )
        return Diagnosis(tuple(findings), ())
    managed = {
        "file": f"managed by {stored.origin}",
        "environment": "made of the environment's keys",
    }
    about = managed.get(stored.source, "edited in the console")
    findings.append(Finding("ok", "catalogue", f"version {stored.version}, {about}"))
    if stored.source == "environment":
        ignored = derive(environ, settings, local=False).ignored
        findings += [Finding("warning", "environment", text) for text in ignored]
    catalogue = snapshot(stored.document, stored.version, stored.created_us)
    # Its real address is known to the serving process only.
    endpoint = None if local_missing else LocalEndpoint("http://127.0.0.1:0/v1", "")
    catalogue, _ = resolve(catalogue, environ, endpoint if settings.local else None)
    findings += _channels(catalogue, settings)
    now_us = clock.now_us()
    findings += _models(catalogue, now_us)
    return Diagnosis(tuple(findings), tuple(_margins(catalogue, now_us)))


def _data_folder(settings: Settings) -> Finding:
    if not settings.data_dir.exists():  # with PostgreSQL only serve makes it
        return Finding("ok", "data folder", f"{settings.data_dir}, which serve makes")
    mode = stat.S_IMODE(settings.data_dir.stat().st_mode)
    if mode & 0o077:
        text = (
            f"{settings.data_dir} is open to other users (mode {mode:04o}). Run: chmod 700 on it."
        )
        return Finding("warning", "data folder", text)
    return Finding("ok", "data folder", str(settings.data_dir))


def _secret(settings: Settings, store: Store) -> Finding:
    known = store.secret_fingerprint
    if known is None:
        return Finding("ok", "secret", "There is none yet: the first key or start makes it.")
    try:
        shown = fingerprint(load_secret(settings, create=False))
    except SecretError as error:
        return Finding("problem", "secret", str(error))
    if shown != known:
        text = (
            "The master secret is not the one that this store was made with. Point "
            "FAREBOX_SECRET_FILE or [server] secret_file to the one that is."
        )
        return Finding("problem", "secret", text)
    return Finding("ok", "secret", "belongs to this store")


def _local(settings: Settings, local_missing: str | None) -> Finding:
    if not settings.local:
        return Finding("ok", "local model", "turned off")
    if local_missing:
        return Finding("warning", "local model", local_missing)
    return Finding("ok", "local model", "installed")


def _vocabularies(uncountable: Iterable[str]) -> Finding:
    text = " ".join(uncountable)
    if text:
        return Finding("warning", "vocabularies", f"{text} Until then tokens are estimated.")
    return Finding("ok", "vocabularies", "here, with the right hashes")


def _channels(catalogue: Catalogue, settings: Settings) -> Iterator[Finding]:
    if not catalogue.channels:
        yield Finding("warning", "channels", "There are none, so no model can be called.")
    for channel in catalogue.channels.values():
        subject = f"channel {channel.id}"
        if channel.closed:
            yield Finding("problem", subject, f"closed: {channel.closed}")
        else:
            yield Finding("ok", subject, f"{channel.vendor}, open")
    for text in circles(catalogue, settings):
        yield Finding("problem", "channels", text)


def _models(catalogue: Catalogue, now_us: int) -> Iterator[Finding]:
    for model in catalogue.models.values():
        for text in _complaints(model, catalogue, now_us):
            yield Finding("warning", f"model {model.id}", text)


def _complaints(model: Model, catalogue: Catalogue, now_us: int) -> Iterator[str]:
    if not model.prices:
        yield "has no price, so it is not sold"
    if all(catalogue.channels[route.channel].closed for route in model.routes):
        yield "has no open channel"
    told: set[str] = set()
    for starts_us in _changes(model, now_us):
        price, cost = model.price_at(starts_us), model.cost_at(starts_us)
        if price is not None and cost is not None:
            when = f" from {clock.rfc3339(starts_us)[:10]}" if starts_us > now_us else ""
            found = [text for text in _losses(price, cost) if text not in told]
            told.update(found)
            yield from (f"{text}{when}" for text in found)


def _changes(model: Model, now_us: int) -> list[int]:
    """Now, and when a price or a cost to come begins."""
    starts = {each.starts_us for each in (*model.prices, *model.costs)}
    return [now_us, *sorted(start for start in starts if start > now_us)]


def _losses(price: Price, cost: Price) -> Iterator[str]:
    below = [
        f"{name} {show_credits(sold)} < {show_credits(cost)}"
        for name, sold, cost in _pairs(price, cost)
        if sold < cost
    ]
    if below:
        yield f"sells below cost: {', '.join(below)}"
    for name in _SHAPES:
        if getattr(cost, name) and getattr(cost, name) != getattr(price, name):
            yield f"costs more at times ({name}), which its price does not follow"


def _pairs(price: Price, cost: Price) -> Iterator[tuple[str, int, int]]:
    for name in _COMPARED:
        yield name, getattr(price, name), getattr(cost, name)


def _margins(catalogue: Catalogue, now_us: int) -> Iterator[Margin]:
    for model in catalogue.models.values():
        price, cost = model.price_at(now_us), model.cost_at(now_us)
        if price and cost:
            by_class = [
                (name, sold * PPM // bought - PPM)
                for name, sold, bought in _pairs(price, cost)
                if bought
            ]
            yield Margin(model.id, tuple(by_class))

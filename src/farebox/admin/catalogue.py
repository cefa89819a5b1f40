"""The catalogue's verbs: snapshot, resolve, apply, release, export.

What an operator may write is catalogue_file.py's; what differs between two documents,
catalogue_diff.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from farebox.admin import catalogue_file, catalogue_prices
from farebox.admin.catalogue_diff import Change, difference
from farebox.admin.catalogue_file import BillingTable, ChannelTable, GroupTable, ModelTable
from farebox.admin.catalogue_text import as_toml
from farebox.billing.prices import read_prices
from farebox.core.bus import LocalEndpoint
from farebox.core.channel import Channel, ChannelOptions
from farebox.core.money import parse_multiplier
from farebox.routing.catalogue import Catalogue, Group, Model, Route
from farebox.vendors.registry import VendorUnknown, find

_MAX_SECRET_BYTES = 16 * 1024  # a credential is one line; some are signed tokens


class Stored(Protocol):
    """A version of the catalogue as the store keeps it."""

    @property
    def version(self) -> int: ...
    @property
    def created_us(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def origin(self) -> str: ...
    @property
    def document(self) -> Mapping[str, Any]: ...


class CatalogueStore(Protocol):
    """What is wanted of the store."""

    def load_catalogue(self, version: int | None = None) -> Stored | None:
        """That version, or the newest; None if there is none."""
        ...

    def save_catalogue(self, document: dict[str, Any], source: str, origin: str) -> Stored:
        """A new version, unless nothing changed."""
        ...


def snapshot(document: Mapping[str, Any], version: int, created_us: int) -> Catalogue:
    """The catalogue of a checked document; its api keys are still references."""
    tables = catalogue_file.read(document)
    vendors = {table.id: table.vendor for table in tables.channels}
    return Catalogue.of(
        version,
        [_channel(table) for table in tables.channels],
        [_model(table, tables.billing, vendors) for table in tables.models],
        [_group(table) for table in tables.groups],
        created_us,
    )


def _channel(table: ChannelTable) -> Channel:
    channel = Channel(
        id=table.id,
        vendor=table.vendor,
        base_url=table.base_url.rstrip("/"),
        api_key=table.api_key,
        weight=table.weight,
        priority=table.priority,
        dedicated_account=table.dedicated_account,
        first_byte_timeout_s=table.first_byte_timeout_s,
        options=ChannelOptions(
            drop=tuple(table.drop),
            rename=tuple(table.rename.items()),
            max_tokens_field=table.max_tokens_field,
            json_schema=table.json_schema,
            developer_role=table.developer_role,
            cache_control=table.cache_control,
            reasoning_effort=table.reasoning_effort,
        ),
    )
    try:
        vendor = find(table.vendor)
    except VendorUnknown:
        # A vendor of a third party that is not installed in this process.
        return replace(channel, closed=f"vendor {table.vendor} is not installed")
    return replace(
        channel,
        base_url=channel.base_url or vendor.base_url.rstrip("/"),
        speaks=tuple(table.speaks or vendor.speaks),
    )


def _model(table: ModelTable, billing: BillingTable, vendors: Mapping[str, str]) -> Model:
    price = catalogue_prices.sold(table.price, table.cost, billing.cache_prices)
    return Model(
        id=table.id,
        routes=tuple(Route(route.channel, route.model) for route in table.channels),
        prices=() if price is None else read_prices(price),
        aliases=tuple(table.aliases),
        context=table.context,
        max_output=table.max_output,
        costs=() if table.cost is None else read_prices(table.cost),
        owned_by=next((vendors[route.channel] for route in table.channels), "farebox"),
    )


def _group(table: GroupTable) -> Group:
    models = ("*",) if table.models is None else tuple(table.models)
    return Group(table.id, parse_multiplier(table.rate), models)


def resolve(
    catalogue: Catalogue, environ: Mapping[str, str], local: LocalEndpoint | None
) -> tuple[Catalogue, tuple[str, ...]]:
    """The catalogue with secrets and the local model's address in place; notes on closed channels.

    For the serving process only. A channel that cannot be resolved is closed, with a reason that
    names the reference and never a value.
    """
    channels = [_resolved(channel, environ, local) for channel in catalogue.channels.values()]
    notes = tuple(
        f"Channel {channel.id} is closed: {channel.closed}."
        for channel in channels
        if channel.closed
    )
    resolved = Catalogue.of(
        catalogue.version,
        channels,
        catalogue.models.values(),
        catalogue.groups.values(),
        catalogue.created_us,
    )
    return resolved, notes


def _resolved(channel: Channel, environ: Mapping[str, str], local: LocalEndpoint | None) -> Channel:
    if channel.closed:
        return replace(channel, api_key="")
    if not channel.base_url:  # only the embedded model's vendor knows no address
        if local is None:
            return replace(channel, api_key="", closed="the local model is not running")
        return replace(channel, base_url=local.base_url, api_key=local.api_key)
    secret, reason = read_secret(channel.api_key, environ)
    return replace(channel, api_key=secret, closed=reason)


def read_secret(reference: str, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """What an `env:NAME` or `file:PATH` stands for, or "" and why it cannot be had."""
    kind, _, name = reference.partition(":")
    if not reference:
        return "", None
    if kind == "env":
        secret, reason = environ.get(name, ""), f"environment variable {name} is not set"
    else:
        secret, reason = _read_file(name)
    secret = secret.strip()
    if not secret:
        return "", reason
    # It becomes a header's value: anything else would break the request or say two things.
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        return "", f"{reference} holds more than one word of printable ASCII"
    return secret, None


def _read_file(name: str) -> tuple[str, str]:
    try:
        with Path(name).expanduser().open("rb") as stream:
            data = stream.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        return "", f"file {name} cannot be read ({error.strerror or type(error).__name__})"
    if len(data) > _MAX_SECRET_BYTES:
        return "", f"file {name} is too large for a secret"
    return data.decode("utf-8", "replace"), f"file {name} is empty"


@dataclass(frozen=True, slots=True)
class Applied:
    """What an `apply` changed, or would change. `version` is the one in force afterwards."""

    changes: tuple[Change, ...]
    dry_run: bool
    version: int
    source: str
    origin: str

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "changes": [change.as_dict() for change in self.changes],
            "dry_run": self.dry_run,
            "version": self.version,
            "source": self.source,
            "origin": self.origin,
        }


def apply(
    store: CatalogueStore,
    document: Mapping[str, Any],
    source: str,
    origin: str,
    *,
    dry_run: bool = False,
) -> Applied:
    """Make the catalogue what the document says. Raises BadCatalogue before anything changes."""
    checked = catalogue_file.check(document, origin)
    stored = store.load_catalogue()
    changes = difference(stored.document if stored else dict[str, Any](), checked)
    same = stored is not None and not changes and (stored.source, stored.origin) == (source, origin)
    if not dry_run and not same:
        stored = store.save_catalogue(checked, source, origin)
    return Applied(changes, dry_run, stored.version if stored else 0, source, origin)


def release(store: CatalogueStore) -> Stored | None:
    """Give the catalogue to the console: no file manages it any more. None if there is none."""
    stored = store.load_catalogue()
    if stored is None or stored.source == "console":
        return stored
    return store.save_catalogue(dict(stored.document), "console", "")


def current(store: CatalogueStore) -> Mapping[str, Any]:
    """The document in force; an empty one if none was ever applied."""
    stored = store.load_catalogue()
    return stored.document if stored else catalogue_file.check({})


def export(store: CatalogueStore) -> str:
    """The document in force as the TOML that `apply` reads."""
    return as_toml(current(store))

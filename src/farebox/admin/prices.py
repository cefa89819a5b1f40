"""What an operator does with prices: see those in force, see how they came about, set a new one.

A price is never edited: a new one makes a new version of the catalogue, and older versions stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from farebox.admin import catalogue
from farebox.admin.catalogue import CatalogueStore, Stored
from farebox.admin.catalogue_prices import PriceTable, Written, table_at, tables
from farebox.admin.errors import Conflict
from farebox.billing.prices import price_object, read_price, show_day, starts_us
from farebox.core import clock
from farebox.core.money import parse_price
from farebox.core.price import Price, in_force
from farebox.errors import BadRequest, NotFound
from farebox.routing.catalogue import Catalogue, Model
from farebox.routing.select import near

# What multiplies a price or stands beside it; `set` keeps it.
SHAPES = ("long_context", "tiers", "windows", "tools")


@dataclass(frozen=True, slots=True)
class PriceView:
    """A model's prices at one moment: the one that counts, and those to come."""

    model: str
    version: int  # of the catalogue
    price: Price | None  # None: the model is not sold now
    coming: tuple[Price, ...]

    def as_dict(self) -> dict[str, Any]:
        """For machines: decimal credits per million tokens; days are of UTC."""
        return {
            "model": self.model,
            "version": self.version,
            **_dated(self.price),
            "next": [_dated(price) for price in self.coming],
        }


def _dated(price: Price | None) -> dict[str, Any]:
    if price is None:
        return {"from": None, "price": None}
    return {"from": show_day(price.starts_us), "price": price_object(price)}


def listing(store: CatalogueStore, name: str | None = None) -> list[PriceView]:
    """The prices of all models, or of one by its id or an alias, now. Raises NotFound."""
    now_us = clock.now_us()
    stored = store.load_catalogue()
    if stored is None:
        if name is not None:
            raise _unknown(name, None)
        return []
    snapshot = _snapshot(stored)
    models = snapshot.models.values() if name is None else [_find(snapshot, name)]
    return [_view(model, stored.version, now_us) for model in models]


def _view(model: Model, version: int, now_us: int) -> PriceView:
    coming = tuple(price for price in model.prices if price.starts_us > now_us)
    return PriceView(model.id, version, model.price_at(now_us), coming)


def _snapshot(stored: Stored) -> Catalogue:
    return catalogue.snapshot(stored.document, stored.version, stored.created_us)


def _find(snapshot: Catalogue, name: str) -> Model:
    model = snapshot.find(name)
    if model is None:
        raise _unknown(name, snapshot)
    return model


def _unknown(name: str, snapshot: Catalogue | None) -> NotFound:
    names = near(name, snapshot.names()) if snapshot else []
    hint = f" Did you mean {' or '.join(map(repr, names))}?" if names else ""
    return NotFound(
        f"There is no model {name!r} in the catalogue.{hint} `farebox prices list` shows all."
    )


@dataclass(frozen=True, slots=True)
class PriceChange:
    """One price that a version of the catalogue brought, or took away.

    `state`: in_force, coming, past; withdrawn: from this version on the price does not count.
    """

    version: int
    created_us: int
    source: str  # environment, file or console
    origin: str  # the file, if any
    price: Price
    state: str

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "version": self.version,
            "changed_at": clock.rfc3339(self.created_us),
            "source": self.source,
            "origin": self.origin,
            "state": self.state,
            **_dated(self.price),
        }


def history(store: CatalogueStore, name: str) -> list[PriceChange]:
    """Every change of a model's price, oldest first. A price that an older version had already is
    none, nor is one that a version names for a time before its own. Raises NotFound for a model
    that no version has.
    """
    newest = store.load_catalogue()
    if newest is None:
        raise _unknown(name, None)
    found = _snapshot(newest).find(name)
    model_id = found.id if found else _former_id(store, newest, name)
    now_us, changes, last = clock.now_us(), list[PriceChange](), tuple[Price, ...]()
    for stored in _versions(store, newest):
        prices = _prices(stored, model_id)
        changes += _changes(stored, last, prices)
        last = prices
    live, settled = {*_effective(last, now_us)}, list[PriceChange]()
    for change in reversed(changes):
        state = change.state
        if state == "set":
            state = "past"
            if change.price in live:  # an older version that had it too has been past since
                live.remove(change.price)
                state = "coming" if change.price.starts_us > now_us else "in_force"
        settled.append(replace(change, state=state))
    return settled[::-1]


def _former_id(store: CatalogueStore, newest: Stored, name: str) -> str:
    """The id of a model that only older versions have."""
    for version in range(newest.version - 1, 0, -1):
        stored = store.load_catalogue(version)
        found = _snapshot(stored).find(name) if stored else None
        if found:
            return found.id
    raise _unknown(name, _snapshot(newest))


def _versions(store: CatalogueStore, newest: Stored) -> Iterator[Stored]:
    for version in range(1, newest.version):
        stored = store.load_catalogue(version)
        if stored is not None:
            yield stored
    yield newest


def _prices(stored: Stored, model_id: str) -> tuple[Price, ...]:
    model = _snapshot(stored).models.get(model_id)
    return model.prices if model else ()


def _effective(prices: tuple[Price, ...], at_us: int) -> tuple[Price, ...]:
    """Those that count at that time or later."""
    now = in_force(prices, at_us)
    return tuple(price for price in prices if price is now or price.starts_us > at_us)


def _changes(
    stored: Stored, old: tuple[Price, ...], new: tuple[Price, ...]
) -> Iterator[PriceChange]:
    at_us = stored.created_us
    before, after = _effective(old, at_us), _effective(new, at_us)
    begins = {price.starts_us for price in after if price.starts_us > at_us}
    is_sold = in_force(new, at_us) is not None
    for price in before:
        replaced = price.starts_us in begins if price.starts_us > at_us else is_sold
        if price not in after and not replaced:
            yield _change(stored, price, "withdrawn")
    for price in after:
        if price not in before:
            yield _change(stored, price, "set")


def _change(stored: Stored, price: Price, state: str) -> PriceChange:
    return PriceChange(
        stored.version, stored.created_us, stored.source, stored.origin, price, state
    )


@dataclass(frozen=True, slots=True)
class NewPrice:
    """What `set` did. `kept`: what of the price before it counts for the new one too."""

    view: PriceView
    kept: tuple[str, ...]
    replaces: bool  # another price that was to begin on that day
    was_source: str  # who managed the catalogue until then


def set_price(
    store: CatalogueStore,
    name: str,
    classes: Mapping[str, str],
    from_day: str | None = None,
) -> NewPrice:
    """A new price of a model from a day on (UTC), or from now on. `classes`: decimal credits per
    million tokens; those that are not named follow the rule of the house.

    The catalogue then belongs to the console. Raises NotFound, BadAmount, BadRequest for a day that
    is over, and Conflict while a file manages the catalogue.
    """
    now_us = clock.now_us()
    stored = store.load_catalogue()
    if stored is None:
        raise _unknown(name, None)
    model = _find(_snapshot(stored), name)
    if stored.source == "file":
        raise Conflict(
            f"The catalogue is managed by {stored.origin}. Change the price there, or give the "
            "catalogue up with `farebox apply --release`."
        )
    for key, text in classes.items():
        parse_price(text, f"--{key.replace('_', '-')}")
    day = None if from_day is None else _day(from_day, now_us)
    begins_us = now_us if day is None else starts_us({"from": day})
    table = next(each for each in stored.document["models"] if each["id"] == model.id)
    written = tables(table.get("price"))
    before = table_at(written, begins_us) or {}
    kept = {key: before[key] for key in SHAPES if key in before}
    new: PriceTable = {**classes, **({"from": day} if day else {}), **kept}
    read_price(new)
    # What has begun is replaced by what counts from now on; older versions keep it.
    others = [
        each
        for each in written
        if (starts_us(each) > now_us if day is None else starts_us(each) != begins_us)
    ]
    is_replaced = day is not None and len(others) < len(written)
    changed: dict[str, Written] = {**table, "price": [new, *others]}
    models = [changed if each is table else each for each in stored.document["models"]]
    catalogue.apply(store, {**stored.document, "models": models}, "console", "")
    return NewPrice(listing(store, model.id)[0], tuple(kept), is_replaced, stored.source)


def _day(text: str, now_us: int) -> str:
    try:
        day = date.fromisoformat(text).isoformat()
    except ValueError:
        raise BadRequest(f"--from {text!r} is not a day such as 2027-01-01.") from None
    today = clock.rfc3339(now_us)[:10]
    if day < today:
        raise BadRequest(
            f"--from {day} is over: it is {today} (UTC). What calls have been charged cannot be "
            "changed; without --from the price counts from now on."
        )
    return day

"""Which model a name means to a caller, and which channels may serve it, in order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from farebox.errors import ModelNotAllowed, NotFound
from farebox.routing.catalogue import Candidate, Catalogue, Group, Model, Offer, matches

_NEAR_DISTANCE = 3
_NEAR_NAMES = 3
_TELLING_CHARS = 3  # of the beginning of a name
_NEVER_US = 1 << 62
_KEPT_OFFERS = 10_000  # of a catalogue: a name may be written in many cases


def offered(catalogue: Catalogue, group: Group, globs: tuple[str, ...], at_us: int) -> list[Model]:
    """The models that are sold now and that this group and this key may use."""
    return [
        model
        for model in catalogue.models.values()
        if is_sold(model, at_us)
        and matches(model, group.models)
        and (not globs or matches(model, globs))
    ]


def is_sold(model: Model, at_us: int) -> bool:
    """Whether the model has a price that is in force: nothing is ever served for free by
    mistake.
    """
    return model.price_at(at_us) is not None


def choose_model(
    catalogue: Catalogue, group: Group, globs: tuple[str, ...], name: str, at_us: int
) -> Model:
    """The model of that id or alias. Raises NotFound with near names, ModelNotAllowed."""
    model = catalogue.find(name)
    if model is None or not is_sold(model, at_us) or not matches(model, group.models):
        may_use = offered(catalogue, group, globs, at_us)
        names = [each for model in may_use for each in (model.id, *model.aliases)]
        raise NotFound(
            f"The model {name!r} does not exist or is not offered to you.{_suggest(name, names)}"
            " GET /v1/models lists what is.",
            code="model_not_found",
            param="model",
        )
    if globs and not matches(model, globs):
        raise ModelNotAllowed(
            f"This key may not use the model {name!r}, only {', '.join(globs)}."
            " Use another key, or have this one's models changed.",
            param="model",
        )
    return model


def find_offer(  # noqa: PLR0917 (who asks, for what, and when)
    catalogue: Catalogue,
    group: Group,
    globs: tuple[str, ...],
    name: str,
    wires: tuple[str, ...],
    at_us: int,
) -> Offer:
    """What is offered under that name. Raises NotFound with near names, ModelNotAllowed. It is the
    same for every such call while the price counts, so it is found once.
    """
    asked = (group.id, globs, name, wires)
    offer = catalogue.offers.get(asked)
    if offer is not None and offer.starts_us <= at_us < offer.until_us:
        return offer
    model = choose_model(catalogue, group, globs, name, at_us)
    price = model.price_at(at_us)
    assert price is not None  # choose_model gives no model without a price
    until_us = next((each.starts_us for each in model.prices if each.starts_us > at_us), _NEVER_US)
    channels = tuple(candidates(catalogue, model, wires))
    wires_spoken = frozenset(each.wire for each in channels)
    offer = Offer(model, price, price.starts_us, until_us, channels, wires_spoken)
    if len(catalogue.offers) >= _KEPT_OFFERS:
        catalogue.offers.clear()
    catalogue.offers[asked] = offer
    return offer


def candidates(catalogue: Catalogue, model: Model, wires: Sequence[str]) -> list[Candidate]:
    """The open channels that serve a model in one of these dialects, best first: lowest priority,
    then those that need no translation, then as the model lists them.
    """
    found: list[Candidate] = []
    for route in model.routes:
        channel = catalogue.channels.get(route.channel)
        if channel is not None and channel.closed is None:
            wire = next((wire for wire in wires if wire in channel.speaks), None)
            if wire is not None:
                found.append(Candidate(channel, route.model, wire))
    if len(found) > 1:
        found.sort(key=lambda each: (each.channel.priority, wires.index(each.wire)))
    return found


def _suggest(name: str, names: Iterable[str]) -> str:
    found = near(name, names)
    return f" Did you mean {' or '.join(repr(each) for each in found)}?" if found else ""


def near(name: str, names: Iterable[str]) -> list[str]:
    """At most three of the names, nearest first: those within an edit distance of three that have
    more in common with it than not, and those that begin with it. Case is ignored.
    """
    wanted = name.casefold()
    scored: list[tuple[int, str]] = []
    for each in names:
        known = each.casefold()
        distance = _distance(wanted, known)
        if distance <= _NEAR_DISTANCE and distance * 2 < max(len(wanted), len(known)):
            scored.append((distance, each))
        elif len(wanted) >= _TELLING_CHARS and known.startswith(wanted):
            scored.append((_NEAR_DISTANCE + 1, each))
    return [each for _, each in sorted(scored)[:_NEAR_NAMES]]


def _distance(one: str, other: str) -> int:
    """Levenshtein's distance, or more than enough where the lengths tell."""
    if abs(len(one) - len(other)) > _NEAR_DISTANCE:
        return _NEAR_DISTANCE + 1
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (left != right))
    return row[-1]

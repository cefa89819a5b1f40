"""The catalogue: an immutable, versioned snapshot of channels, models, prices and groups.

Looking things up is here; reading and checking what an operator wrote is admin's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import msgspec

from farebox.core.channel import Channel
from farebox.core.price import Price, in_force


@dataclass(frozen=True, slots=True)
class Route:
    """A channel that serves a model, and the model's name there."""

    channel: str
    model: str


@dataclass(frozen=True, slots=True)
class Model:
    """A public model id with its prices and the channels that serve it.

    Each price counts until the next begins; both lists are in the order of their starts.
    """

    id: str
    routes: tuple[Route, ...]
    prices: tuple[Price, ...]  # without one a model is not sold
    aliases: tuple[str, ...] = ()
    context: int | None = None  # tokens, input and output together
    max_output: int | None = None  # tokens
    costs: tuple[Price, ...] = ()  # what the vendor takes; for margins only
    owned_by: str = "farebox"

    def price_at(self, at_us: int) -> Price | None:
        """The price that is in force at that time; None: the model is not sold then."""
        return in_force(self.prices, at_us)

    def cost_at(self, at_us: int) -> Price | None:
        """What the vendor takes at that time, if it is known."""
        return in_force(self.costs, at_us)


@dataclass(frozen=True, slots=True)
class Group:
    """A rate, and the models that accounts of the group may use, as globs over public ids."""

    id: str
    rate_ppm: int
    models: tuple[str, ...] = ("*",)


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A channel that can serve a call, the model's name there, and the dialect to speak to it."""

    channel: Channel
    model: str
    wire: str


class Offer(msgspec.Struct, frozen=True, gc=False):
    """What a name means to a caller: the model, its price and how long that counts, the channels
    that can serve it, best first, and the dialects to speak to them.
    """

    model: Model
    price: Price
    starts_us: int
    until_us: int  # not at that time any more
    channels: tuple[Candidate, ...]
    wires: frozenset[str]


def matches(model: Model, globs: Sequence[str]) -> bool:
    """Whether a glob matches the model's id or one of its aliases; case is ignored."""
    if "*" in globs:  # as most groups have
        return True
    names = [name.casefold() for name in (model.id, *model.aliases)]
    return any(fnmatchcase(name, glob.casefold()) for glob in globs for name in names)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One version of everything that is offered. Calls in flight keep the one they were admitted
    under.
    """

    version: int
    channels: Mapping[str, Channel]
    models: Mapping[str, Model]
    groups: Mapping[str, Group]
    created_us: int = 0
    _names: Mapping[str, Model] = field(default_factory=dict[str, Model], repr=False)
    # What select.py has found out of it; gone with it.
    offers: dict[object, Offer] = field(
        default_factory=dict[object, Offer], repr=False, compare=False
    )

    @staticmethod
    def of(
        version: int,
        channels: Iterable[Channel],
        models: Iterable[Model],
        groups: Iterable[Group],
        created_us: int = 0,
    ) -> Catalogue:
        """A snapshot of these; ids win over aliases, and an earlier alias over a later one."""
        by_id = {model.id: model for model in models}
        names: dict[str, Model] = {}
        for model in by_id.values():
            names[model.id.casefold()] = model
        for model in by_id.values():
            for alias in model.aliases:
                names.setdefault(alias.casefold(), model)
        return Catalogue(
            version,
            {channel.id: channel for channel in channels},
            by_id,
            {group.id: group for group in groups},
            created_us,
            names,
        )

    def find(self, name: str) -> Model | None:
        """The model of that id or alias, case ignored."""
        return self._names.get(name.casefold())

    def names(self) -> Iterable[str]:
        """Every id and alias as the operator wrote it."""
        for model in self.models.values():
            yield model.id
            yield from model.aliases

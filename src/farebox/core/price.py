"""The price of one model as integers. Reading and checking a price table is billing/prices.py's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LongContext:
    """Above `threshold` input tokens the whole call is dearer. Multipliers in parts per million."""

    threshold: int
    input_multiplier_ppm: int
    output_multiplier_ppm: int


@dataclass(frozen=True, slots=True)
class Window:
    """A span of UTC time on some weekdays with a multiplier. Minutes since midnight, end
    excluded.
    """

    days: frozenset[int]  # 0 = Monday
    start_minute: int
    end_minute: int
    multiplier_ppm: int


@dataclass(frozen=True, slots=True)
class Price:
    """List price: nano-credits per million tokens, by class; what may change it; tools per call."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    audio_input: int
    audio_output: int
    image_input: int | None = None  # None: images are counted as text
    starts_us: int = 0  # not in force before this time
    long_context: LongContext | None = None
    tiers: tuple[tuple[str, int], ...] = ()  # service tier -> multiplier in parts per million
    windows: tuple[Window, ...] = ()
    tools: tuple[tuple[str, int], ...] = ()  # hosted tool -> nano-credits per call
    # Made of the above, once, since every call asks for them:
    is_flat: bool = field(init=False, repr=False, compare=False)  # nothing multiplies it
    tier_ppm: Mapping[str | None, int] = field(init=False, repr=False, compare=False)
    tool_prices: Mapping[str, int] = field(init=False, repr=False, compare=False)
    images: int = field(init=False, repr=False, compare=False)  # what they cost, text or not
    dearest_input: int = field(init=False, repr=False, compare=False)  # but for an hour's writes

    def __post_init__(self) -> None:
        """Make what is made of the rest."""
        images = self.input if self.image_input is None else self.image_input
        made = {
            "is_flat": not (self.tiers or self.windows or self.long_context),
            "tier_ppm": dict(self.tiers),
            "tool_prices": dict(self.tools),
            "images": images,
            "dearest_input": max(
                self.input, self.cache_read, self.cache_write, self.audio_input, images
            ),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)


def in_force(prices: Iterable[Price], at_us: int) -> Price | None:
    """Of prices in the order of their starts, the one that counts at that time: the last that has
    begun. None before the first.
    """
    found = None
    for price in prices:
        if price.starts_us > at_us:
            break
        found = price
    return found

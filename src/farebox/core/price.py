"""The price of one model as integers. Reading and checking a price table is billing/prices.py's."""

from collections.abc import Iterable
from dataclasses import dataclass


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

"""What a call costs: usage × price × rate as exact lines, and one rounding at the very end.

    charge = ceil( rate_ppm · Σ_c tokens_c · price_c / 10^12 )      in Python int

Prices are nano-credits per million tokens, the rate is parts per million, so that an exact amount
is an integer in units of 10^-12 nano-credits. The one function that rounds is `charge`; a `Bill`
says of which lines its sum consists.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from farebox.core.money import PPM, show_exact, show_ppm
from farebox.core.price import Price
from farebox.core.usage import Usage

EXACT = 10**12  # exact units in one nano-credit
ROUNDING_UP = EXACT - 1  # what is added to an exact amount before it is cut to nano-credits
_DAY_US = 86_400_000_000
_MINUTE_US = 60_000_000
_INPUT = ("cache_read", "cache_write", "cache_write_1h", "audio_input", "image_input")
_OUTPUT = ("output", "audio_output")
ORDINARY_TIERS = frozenset((None, "default", "auto", "standard"))


@dataclass(frozen=True, slots=True)
class Line:
    """One class of a receipt: tokens (or calls of a hosted tool) × price × multiplier × rate."""

    name: str
    tokens: int
    price_nanocredits_per_million: int
    multiplier_ppm: int
    exact: int  # in 10^-12 nano-credits

    def as_dict(self) -> dict[str, object]:
        """The line as receipts show it; `amount` is the exact decimal in nano-credits after the
        rate.
        """
        return {
            "class": self.name,
            "tokens": self.tokens,
            "price_nanocredits_per_million": self.price_nanocredits_per_million,
            "multiplier": show_ppm(self.multiplier_ppm),
            "amount": show_exact(self.exact),
        }


@dataclass(frozen=True, slots=True)
class Bill:
    """Lines, what rounding up added, and the whole nano-credits due: Σ lines + rounding = due."""

    lines: tuple[Line, ...]
    rounding_exact: int
    due_nanocredits: int

    @property
    def rounding(self) -> str:
        """The rounding as a decimal string of nano-credits, at least 0 and below 1."""
        return show_exact(self.rounding_exact)


def charge(  # noqa: PLR0917 (every call is charged for, and names would cost a third of it)
    usage: Usage,
    price: Price,
    rate_ppm: int,
    at_us: int,
    service_tier: str | None = None,
    tool_calls: tuple[tuple[str, int], ...] = (),
) -> int:
    """The whole nano-credits due for a call admitted at `at_us` (microseconds, UTC) that ran in
    `service_tier`.

    A tier without a price runs at the list price. A hosted tool without one costs nothing;
    admission has refused it before. Images count as text unless the model has a price for them.
    """
    # Most calls have tokens of two classes; the rest is not multiplied to come to nothing.
    on_input = usage.uncached_input * price.input
    if usage.cache_read:
        on_input += usage.cache_read * price.cache_read
    if usage.cache_write:
        on_input += usage.cache_write * price.cache_write
    if usage.cache_write_1h:
        on_input += usage.cache_write_1h * price.cache_write_1h
    if usage.audio_input:
        on_input += usage.audio_input * price.audio_input
    if usage.image_input:
        on_input += usage.image_input * price.images
    on_output = usage.output * price.output
    if usage.audio_output:
        on_output += usage.audio_output * price.audio_output
    if price.is_flat:
        exact = on_input + on_output
    else:
        input_ppm, output_ppm = multipliers(price, usage.input_total, service_tier, at_us)
        # Exact: reading the price table has checked that price × multiplier is whole.
        exact = (on_input * input_ppm + on_output * output_ppm) // PPM
    if tool_calls:
        prices = price.tool_prices
        exact += PPM * sum([count * prices.get(name, 0) for name, count in tool_calls])
    return (rate_ppm * exact + ROUNDING_UP) // EXACT


def bill(
    usage: Usage,
    price: Price,
    rate_ppm: int,
    at_us: int,
    *,
    service_tier: str | None = None,
    tool_calls: tuple[tuple[str, int], ...] = (),
) -> Bill:
    """The bill of the same call: its charge, and the lines that explain it."""
    due = charge(usage, price, rate_ppm, at_us, service_tier=service_tier, tool_calls=tool_calls)
    usage = fold_images(usage, price)
    on_input, on_output = multipliers(price, usage.input_total, service_tier, at_us)
    lines = [
        _line("uncached_input", usage.uncached_input, price.input, on_input, rate_ppm),
        *(
            _line(name, getattr(usage, name), getattr(price, name) or 0, on_input, rate_ppm)
            for name in _INPUT
        ),
        *(
            _line(name, getattr(usage, name), getattr(price, name), on_output, rate_ppm)
            for name in _OUTPUT
        ),
        *(
            _line(name, count, price.tool_prices.get(name, 0) * PPM, PPM, rate_ppm)
            for name, count in tool_calls
        ),
    ]
    lines = [line for line in lines if line.tokens]
    rounding = due * EXACT - sum(line.exact for line in lines)
    assert 0 <= rounding < EXACT, "the lines are not what the call costs"
    return Bill(tuple(lines), rounding, due)


def fold_images(usage: Usage, price: Price) -> Usage:
    """Images count as text unless the model has a price for them."""
    if price.image_input is not None or not usage.image_input:
        return usage
    return replace(usage, uncached_input=usage.uncached_input + usage.image_input, image_input=0)


def multipliers(
    price: Price, input_tokens: int, service_tier: str | None, at_us: int
) -> tuple[int, int]:
    """What input and output prices are multiplied by, in parts per million.

    Long context is the whole call above the threshold (not at it); a window is found by UTC
    weekday and minute, the first that fits.
    """
    factor = price.tier_ppm.get(service_tier, PPM) * window_ppm(price, at_us) // PPM
    long = price.long_context
    if long is None or input_tokens <= long.threshold:
        return factor, factor
    return factor * long.input_multiplier_ppm // PPM, factor * long.output_multiplier_ppm // PPM


def window_ppm(price: Price, at_us: int) -> int:
    """What the time of the week multiplies by, in parts per million."""
    for window in price.windows:
        if _falls_into(at_us, window.days, window.start_minute, window.end_minute):
            return window.multiplier_ppm
    return PPM


def is_priced_tier(price: Price, service_tier: str | None) -> bool:
    """Whether a call may ask for this tier: the ordinary ones always, others if they have a
    price.
    """
    return service_tier in ORDINARY_TIERS or service_tier in price.tier_ppm


def _falls_into(at_us: int, days: frozenset[int], start_minute: int, end_minute: int) -> bool:
    weekday = (at_us // _DAY_US + 3) % 7  # the epoch was a Thursday
    return weekday in days and start_minute <= at_us % _DAY_US // _MINUTE_US < end_minute


def _line(name: str, tokens: int, price: int, multiplier_ppm: int, rate_ppm: int) -> Line:
    # Exact: reading the price table has checked that price × multiplier is whole.
    exact = rate_ppm * tokens * (price * multiplier_ppm // PPM)
    return Line(name, tokens, price, multiplier_ppm, exact)

"""Credits, prices and rates as integers: parsing and showing them. What a call costs is billing's.

1 credit = 10^9 nano-credits. A price is integer nano-credits per million tokens, a rate is integer
parts per million. Decimal strings come in and go out; between, everything is int.
"""

from decimal import Decimal, InvalidOperation
from fractions import Fraction

NANO = 1_000_000_000
PPM = 1_000_000
MAX_NANOCREDITS = 2**63 - 1  # amounts are signed 64-bit in the store


class BadAmount(ValueError):
    """A text that is not an amount, a price or a rate in the unit asked for."""


def _decimal(text: str, what: str) -> Decimal:
    # Only text is taken: a float has lost digits before it gets here.
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] (TOML may hold any type)
        raise BadAmount(f'{what} must be a decimal string such as "0.25", not {text!r}.')
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise BadAmount(f'{what} {text!r} is not a decimal number such as "0.25".') from None
    if not value.is_finite():
        raise BadAmount(f"{what} {text!r} is not a finite number.")
    return value


def _scaled(text: str, scale: int, what: str, smallest: str) -> int:
    value = _decimal(text, what)
    # Exponents are bounded before scaling: Decimal("1e999999") must not build a huge integer.
    if value != 0 and not -30 < value.adjusted() < 19:
        raise BadAmount(f"{what} {text!r} is out of range.")
    # A Decimal product would be rounded to 28 digits; a Fraction keeps them all.
    scaled = Fraction(value) * scale if value else Fraction(0)
    if scaled.denominator != 1:
        raise BadAmount(f"{what} {text!r} is finer than {smallest}, the smallest unit kept.")
    if abs(scaled) > MAX_NANOCREDITS:
        raise BadAmount(f"{what} {text!r} is out of range.")
    return scaled.numerator


def parse_credits(text: str, what: str = "amount") -> int:
    """Decimal credits, such as "10" or "0.000000001", as nano-credits. Raises BadAmount."""
    return _scaled(text, NANO, what, "0.000000001 credits")


def parse_price(text: str, what: str = "price") -> int:
    """Decimal credits per million tokens as nano-credits per million. Raises BadAmount, also below
    0.
    """
    price = _scaled(text, NANO, what, "0.000000001 credits per million tokens")
    if price < 0:
        raise BadAmount(f"{what} {text!r} is below zero.")
    return price


def parse_multiplier(text: str, what: str = "multiplier") -> int:
    """A decimal factor, such as a rate of "0.8", as parts per million. Raises BadAmount, also
    below 0.
    """
    ppm = _scaled(text, PPM, what, "0.000001")
    if ppm < 0:
        raise BadAmount(f"{what} {text!r} is below zero.")
    if ppm > 1_000_000 * PPM:
        raise BadAmount(f"{what} {text!r} is out of range.")
    return ppm


def _shown(value: int, digits: int) -> str:
    sign = "-" if value < 0 else ""
    whole, part = divmod(abs(value), 10**digits)
    fraction = f"{part:0{digits}d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def show_credits(nanocredits: int) -> str:
    """Nano-credits (or nano-credits per million tokens) as a plain decimal string of credits."""
    return _shown(nanocredits, 9)


def show_ppm(ppm: int) -> str:
    """Parts per million as a plain decimal string: 1_150_000 is "1.15"."""
    return _shown(ppm, 6)


def show_exact(numerator: int) -> str:
    """An exact amount in units of 10^-12 nano-credits as a decimal string of nano-credits."""
    return _shown(numerator, 12)

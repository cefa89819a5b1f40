"""Reading and checking price tables, and showing a price. What a call costs is charge.py's.

The rule of the house: a model that names no cache prices reads at input × 0.1, writes at input ×
1.25 and keeps for an hour at input × 2. Whatever a call may be multiplied by (tier, window, long
context), its price stays a whole number of nano-credits per million tokens: a table that breaks
that is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from itertools import product
from typing import cast

from farebox.core.money import (
    PPM,
    BadAmount,
    parse_credits,
    parse_multiplier,
    parse_price,
    show_credits,
    show_ppm,
)
from farebox.core.price import LongContext, Price, Window

_PRICES = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "audio_output",
    "image_input",
)
_SHARES = {"cache_read": (1, 10), "cache_write": (5, 4), "cache_write_1h": (2, 1)}  # of the input's
_KEYS = frozenset((*_PRICES, "from", "long_context", "tiers", "windows", "tools"))
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_US = 86_400_000_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


def read_price(table: Mapping[str, object], what: str = "price") -> Price:
    """A Price of a table as an operator writes it. Raises BadAmount with the path of what is
    wrong.
    """
    _refuse_unknown(table, _KEYS, what)
    for key in ("input", "output"):
        if key not in table:
            raise BadAmount(f"{what}.{key} is missing.")
    named = {
        key: parse_price(cast(str, table[key]), f"{what}.{key}") for key in _PRICES if key in table
    }
    p_in = named["input"]
    for key, (numerator, denominator) in _SHARES.items():
        if key not in named:
            named[key] = _share(p_in, numerator, denominator, f"{what}.{key}")
    price = Price(
        input=p_in,
        output=named["output"],
        cache_read=named["cache_read"],
        cache_write=named["cache_write"],
        cache_write_1h=named["cache_write_1h"],
        audio_input=named.get("audio_input", p_in),
        audio_output=named.get("audio_output", named["output"]),
        image_input=named.get("image_input"),
        starts_us=starts_us(table, what),
        long_context=_long_context(table.get("long_context"), f"{what}.long_context"),
        tiers=_tiers(table.get("tiers"), f"{what}.tiers"),
        windows=_windows(table.get("windows"), f"{what}.windows"),
        tools=_tools(table.get("tools"), f"{what}.tools"),
    )
    _check_integral(price, what)
    return price


def read_prices(value: object, what: str = "price") -> tuple[Price, ...]:
    """The prices of a table, or of a list of tables that each begin on another day, in the order of
    their days. Raises BadAmount with the path of what is wrong.
    """
    if not isinstance(value, list):
        return (read_price(_table(value, what), what),)
    if not value:
        raise BadAmount(f"{what} is an empty list; leave it out, or write a table into it.")
    begun: dict[int, tuple[str, Price]] = {}
    for n, item in enumerate(cast("list[object]", value)):
        path = f"{what}[{n}]"
        price = read_price(_table(item, path), path)
        first, _ = begun.setdefault(price.starts_us, (path, price))
        if first != path:
            raise BadAmount(
                f"{path}.from is the day on which {first} begins too; each price needs a day of its"
                " own."
            )
    return tuple(price for _, (_, price) in sorted(begun.items()))


def starts_us(table: Mapping[str, object], what: str = "price") -> int:
    """When the price of a table begins; 0: it always was. Raises BadAmount."""
    return _start(table.get("from"), f"{what}.from")


def show_day(start_us: int) -> str | None:
    """The day on which a price begins, such as "2026-11-01"; None if it always was."""
    return date.fromordinal(start_us // _DAY_US + _EPOCH_ORDINAL).isoformat() if start_us else None


def price_object(price: Price) -> dict[str, object]:
    """The price as everybody is shown it: decimal credits per million tokens, list price."""
    shown: dict[str, object] = {
        "input": show_credits(price.input),
        "output": show_credits(price.output),
        "cache_read": show_credits(price.cache_read),
        "cache_write": show_credits(price.cache_write),
        "cache_write_1h": show_credits(price.cache_write_1h),
        "audio_input": show_credits(price.audio_input),
        "audio_output": show_credits(price.audio_output),
    }
    if price.image_input is not None:
        shown["image_input"] = show_credits(price.image_input)
    if price.long_context is not None:
        shown["long_context"] = {
            "threshold": price.long_context.threshold,
            "input_multiplier": show_ppm(price.long_context.input_multiplier_ppm),
            "output_multiplier": show_ppm(price.long_context.output_multiplier_ppm),
        }
    if price.tiers:
        shown["tiers"] = {name: show_ppm(ppm) for name, ppm in price.tiers}
    if price.windows:
        shown["windows"] = [_window_object(window) for window in price.windows]
    if price.tools:
        shown["tools"] = {name: show_credits(amount) for name, amount in price.tools}
    return shown


def _window_object(window: Window) -> dict[str, str]:
    return {
        "days": ",".join(_DAYS[day] for day in sorted(window.days)),
        "utc": f"{_clock(window.start_minute)}-{_clock(window.end_minute)}",
        "multiplier": show_ppm(window.multiplier_ppm),
    }


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _refuse_unknown(table: Mapping[str, object], known: frozenset[str], what: str) -> None:
    for key in table:
        if key not in known:
            raise BadAmount(
                f"{what}.{key} is not known here; known are {', '.join(sorted(known))}."
            )


def _table(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise BadAmount(f"{what} must be a table, not {value!r}.")
    return cast("Mapping[str, object]", value)


def _share(price: int, numerator: int, denominator: int, what: str) -> int:
    share, rest = divmod(price * numerator, denominator)
    if rest:
        raise BadAmount(
            f"{what} would be input × {numerator / denominator:g}, finer than the smallest unit"
            " kept; name it yourself."
        )
    return share


def _start(value: object, what: str) -> int:
    if value is None:
        return 0
    try:
        # TOML has days of its own; one with a time in it (a datetime) is refused, not cut.
        day = value if type(value) is date else date.fromisoformat(cast(str, value))
    except (TypeError, ValueError):
        raise BadAmount(f'{what} must be a day such as "2026-11-01", not {value!r}.') from None
    return (day.toordinal() - _EPOCH_ORDINAL) * _DAY_US


def _long_context(value: object, what: str) -> LongContext | None:
    if value is None:
        return None
    table = _table(value, what)
    _refuse_unknown(table, _LONG_KEYS, what)
    threshold = table.get("threshold")
    if not isinstance(threshold, int) or isinstance(threshold, bool) or threshold < 1:
        raise BadAmount(f"{what}.threshold must be a number of tokens, not {threshold!r}.")
    return LongContext(
        threshold,
        parse_multiplier(cast(str, table.get("input_multiplier", "1")), f"{what}.input_multiplier"),
        parse_multiplier(
            cast(str, table.get("output_multiplier", "1")), f"{what}.output_multiplier"
        ),
    )


_LONG_KEYS = frozenset(("threshold", "input_multiplier", "output_multiplier"))
_WINDOW_KEYS = frozenset(("days", "utc", "multiplier"))


def _tiers(value: object, what: str) -> tuple[tuple[str, int], ...]:
    if value is None:
        return ()
    return tuple(
        (name, parse_multiplier(cast(str, factor), f"{what}.{name}"))
        for name, factor in _table(value, what).items()
    )


def _tools(value: object, what: str) -> tuple[tuple[str, int], ...]:
    if value is None:
        return ()
    tools: list[tuple[str, int]] = []
    for name, text in _table(value, what).items():
        amount = parse_credits(cast(str, text), f"{what}.{name}")
        if amount < 0:
            raise BadAmount(f"{what}.{name} {text!r} is below zero.")
        tools.append((name, amount))
    return tuple(tools)


def _windows(value: object, what: str) -> tuple[Window, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadAmount(f"{what} must be a list of tables, not {value!r}.")
    windows: list[Window] = []
    for n, item in enumerate(cast("list[object]", value)):
        table = _table(item, f"{what}[{n}]")
        _refuse_unknown(table, _WINDOW_KEYS, f"{what}[{n}]")
        start, end = _span(table.get("utc"), f"{what}[{n}].utc")
        if "multiplier" not in table:
            raise BadAmount(f"{what}[{n}].multiplier is missing.")
        windows.append(
            Window(
                _days(table.get("days", "mon-sun"), f"{what}[{n}].days"),
                start,
                end,
                parse_multiplier(cast(str, table["multiplier"]), f"{what}[{n}].multiplier"),
            )
        )
    return tuple(windows)


def _days(value: object, what: str) -> frozenset[int]:
    days: set[int] = set()
    try:
        for part in cast(str, value).replace(" ", "").split(","):
            first, dash, last = part.partition("-")
            start, end = _DAYS.index(first), _DAYS.index(last if dash else first)
            days.update(
                range(start, end + 1) if start <= end else (*range(start, 7), *range(end + 1))
            )
    except (AttributeError, ValueError):
        raise BadAmount(
            f'{what} must be days such as "mon-fri" or "sat,sun", not {value!r}.'
        ) from None
    return frozenset(days)


def _span(value: object, what: str) -> tuple[int, int]:
    try:
        start, end = (_minute(part) for part in cast(str, value).split("-"))
    except (AttributeError, ValueError):
        raise BadAmount(f'{what} must be a span such as "01:00-04:00", not {value!r}.') from None
    if start >= end:
        raise BadAmount(f"{what} {value!r} ends before it starts; split it at midnight.")
    return start, end


def _minute(text: str) -> int:
    hours, minutes = text.strip().split(":")
    minute = int(hours) * 60 + int(minutes)
    if not (0 <= int(hours) <= 24 and 0 <= int(minutes) < 60 and 0 <= minute <= 1440):
        raise ValueError(text)
    return minute


def _check_integral(price: Price, what: str) -> None:
    """Every price that a call can meet is whole: class × tier × window × long context."""
    tiers = [PPM, *(ppm for _, ppm in price.tiers)]
    windows = [PPM, *(window.multiplier_ppm for window in price.windows)]
    long = price.long_context
    for side, factor in (
        ("input", long.input_multiplier_ppm if long else PPM),
        ("output", long.output_multiplier_ppm if long else PPM),
    ):
        classes = _INPUT_CLASSES if side == "input" else ("output", "audio_output")
        for tier, window, context in product(tiers, windows, {PPM, factor}):
            multiplier, rest = divmod(tier * window * context, PPM * PPM)
            for name in classes:
                amount = getattr(price, name)
                if rest or (amount is not None and amount * multiplier % PPM):
                    raise BadAmount(
                        f"{what}.{name} times its multipliers is finer than"
                        " 0.000000001 credits per million tokens, the smallest unit kept."
                    )


_INPUT_CLASSES = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "image_input",
)

"""The prices of a model as an operator writes them: one table, or a list of tables with days.

What stands in one table is billing/prices.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from farebox.billing.prices import read_prices, show_day, starts_us
from farebox.core.money import BadAmount

PriceTable = dict[str, Any]
Written = PriceTable | list[PriceTable] | None
PRICES = ("price", "cost")  # the keys of a model under which they stand
_CACHE_CLASSES = ("cache_read", "cache_write")


def tables(written: Written) -> list[PriceTable]:
    """The tables, however many there are."""
    if written is None:
        return []
    return written if isinstance(written, list) else [written]


def in_order(written: Written) -> Written:
    """What was read without an error, as it is kept: by day, and a list only if it must be one."""
    ordered = sorted(tables(written), key=starts_us)
    if not ordered:
        return None
    return ordered if len(ordered) > 1 else ordered[0]


def by_day(written: Written) -> dict[str, PriceTable]:
    """The tables by the day on which they begin, without it; the one that has none under ""."""
    return {
        show_day(starts_us(table)) or "": {key: table[key] for key in table if key != "from"}
        for table in tables(written)
    }


def sold(price: Written, cost: Written, cache_prices: Literal["rule", "vendor"]) -> Written:
    """What a model is sold for: its price, with the cache prices of its cost where `[billing]
    cache_prices` says so. A cost that changes then changes the price on the same day.
    """
    if price is None or cost is None or cache_prices != "vendor":
        return price
    merged = _merged(tables(price), tables(cost))
    # Of those in a row that are the same the first counts.
    found = [next(same)[1] for _, same in groupby(merged, itemgetter(0))]
    return found if len(found) > 1 else found[0]


def _merged(
    prices: Sequence[PriceTable], costs: Sequence[PriceTable]
) -> Iterator[tuple[tuple[int, PriceTable], PriceTable]]:
    """A table for each day on which a price or a cost begins, behind what makes it another."""
    beginning: dict[int, PriceTable] = {starts_us(table): table for table in (*costs, *prices)}
    for begins_us, table in sorted(beginning.items(), key=itemgetter(0)):
        price = table_at(prices, begins_us)
        if price is None:
            continue
        cost = table_at(costs, begins_us) or {}
        own = {key: price[key] for key in price if key != "from"}
        mixed = {**{key: cost[key] for key in _CACHE_CLASSES if key in cost}, **own}
        day = {"from": table["from"]} if "from" in table else {}
        yield (starts_us(price), mixed), {**mixed, **day}


def table_at(written: Sequence[PriceTable], at_us: int) -> PriceTable | None:
    """The table that is in force at that time."""
    begun = [table for table in written if starts_us(table) <= at_us]
    return max(begun, key=starts_us, default=None)


def check(
    path: str,
    price: Written,
    cost: Written,
    cache_prices: Literal["rule", "vendor"],
    problems: list[str],
) -> None:
    """Both of a model, and what they make together."""
    before = len(problems)
    for key, written in (("price", price), ("cost", cost)):
        if written is not None:
            _check(f"{path}.{key}", written, problems)
    if len(problems) == before and (mixed := sold(price, cost, cache_prices)) is not price:
        _check(f"{path}.price (with the cache prices of cost)", mixed, problems)


def _check(path: str, written: Written, problems: list[str]) -> None:
    try:
        read_prices(written, path)
    except BadAmount as error:
        problems.append(str(error))

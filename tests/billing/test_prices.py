"""Price tables: what is read, what is refused and in which words, and how a price is shown."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given

from farebox.billing.prices import price_object, read_price
from farebox.core.money import BadAmount, parse_price
from farebox.core.price import LongContext, Price, Window
from tests.billing.values import at, prices

PLAIN = {"input": "2.5", "output": "10"}
FULL: dict[str, Any] = {
    "input": "4",
    "output": "20",
    "cache_read": "0.4",
    "cache_write": "5",
    "cache_write_1h": "8",
    "audio_input": "32",
    "audio_output": "64",
    "image_input": "5",
    "from": "2026-11-01",
    "long_context": {"threshold": 272_000, "input_multiplier": "2", "output_multiplier": "1.5"},
    "tiers": {"flex": "0.5", "priority": "2.5"},
    "windows": [{"days": "mon-fri", "utc": "01:00-04:00", "multiplier": "2"}],
    "tools": {"web_search": "0.01"},
}


def test_a_full_table_is_read_into_whole_numbers() -> None:
    """Nano-credits per million tokens, parts per million, minutes, nano-credits a call."""
    assert read_price(FULL) == Price(
        input=4_000_000_000,
        output=20_000_000_000,
        cache_read=400_000_000,
        cache_write=5_000_000_000,
        cache_write_1h=8_000_000_000,
        audio_input=32_000_000_000,
        audio_output=64_000_000_000,
        image_input=5_000_000_000,
        starts_us=at("2026-11-01T00:00:00"),
        long_context=LongContext(272_000, 2_000_000, 1_500_000),
        tiers=(("flex", 500_000), ("priority", 2_500_000)),
        windows=(Window(frozenset(range(5)), 60, 240, 2_000_000),),
        tools=(("web_search", 10_000_000),),
    )


def test_what_a_table_leaves_out_follows_the_rule_of_the_house() -> None:
    """Reads at a tenth, writes at five quarters, an hour at twice the input; audio as text."""
    assert read_price(PLAIN) == Price(
        input=2_500_000_000,
        output=10_000_000_000,
        cache_read=250_000_000,
        cache_write=3_125_000_000,
        cache_write_1h=5_000_000_000,
        audio_input=2_500_000_000,
        audio_output=10_000_000_000,
    )


def test_named_cache_prices_need_no_rule() -> None:
    """An input that has no tenth and no quarter is fine where the table names both."""
    price = read_price(
        {"input": "0.000000001", "output": "1", "cache_read": "0", "cache_write": "0.000000002"}
    )
    assert (price.input, price.cache_read, price.cache_write) == (1, 0, 2)


def _refused(key: str, value: object, sentence: str) -> Any:
    return pytest.param({**PLAIN, key: value}, sentence, id=f"{key}={value!r}"[:60])


_FINER = (
    "price.{} times its multipliers is finer than 0.000000001 credits per million tokens, the"
    " smallest unit kept."
)
_KNOWN = (
    "audio_input, audio_output, cache_read, cache_write, cache_write_1h, from, image_input, input,"
    " long_context, output, tiers, tools, windows"
)


def _window(**changed: object) -> list[dict[str, object]]:
    return [{"utc": "01:00-04:00", "multiplier": "2", **changed}]


def _bad_days(days: object) -> Any:
    sentence = f'price.windows[0].days must be days such as "mon-fri" or "sat,sun", not {days!r}.'
    return _refused("windows", _window(days=days), sentence)


def _bad_span(span: object) -> Any:
    sentence = f'price.windows[0].utc must be a span such as "01:00-04:00", not {span!r}.'
    return _refused("windows", _window(utc=span), sentence)


REFUSED = [
    pytest.param({"output": "1"}, "price.input is missing.", id="no input"),
    pytest.param({"input": "1"}, "price.output is missing.", id="no output"),
    _refused("inputs", "1", f"price.inputs is not known here; known are {_KNOWN}."),
    _refused("input", 2.5, 'price.input must be a decimal string such as "0.25", not 2.5.'),
    _refused("output", 3, 'price.output must be a decimal string such as "0.25", not 3.'),
    _refused("cache_read", "-0.1", "price.cache_read '-0.1' is below zero."),
    _refused("image_input", "much", "price.image_input 'much' is not a decimal number such as"),
    _refused("audio_input", "1e12", "price.audio_input '1e12' is out of range."),
    _refused(
        "output",
        "0.0000000001",
        "price.output '0.0000000001' is finer than 0.000000001 credits per million tokens, the"
        " smallest unit kept.",
    ),
    # Multipliers
    _refused(
        "input",
        "0.000000001",
        "price.cache_read would be input × 0.1, finer than the smallest unit kept; name it"
        " yourself.",
    ),
    _refused(
        "input",
        "0.00000001",
        "price.cache_write would be input × 1.25, finer than the smallest unit kept; name it"
        " yourself.",
    ),
    pytest.param(
        {**PLAIN, "output": "0.000000001", "tiers": {"flex": "0.5"}},
        _FINER.format("output"),
        id="a tier",
    ),
    pytest.param(
        {
            **PLAIN,
            "cache_read": "0.000000005",
            "long_context": {"threshold": 9, "input_multiplier": "1.5"},
        },
        _FINER.format("cache_read"),
        id="long context",
    ),
    pytest.param(
        {**PLAIN, "tiers": {"a": "1.001"}, "windows": _window(multiplier="1.0001")},
        _FINER.format("input"),
        id="tier and window",
    ),
    pytest.param(
        {
            **PLAIN,
            "output": "0.000000004",
            "tiers": {"flex": "0.5"},
            "windows": _window(multiplier="0.5"),
            "long_context": {"threshold": 9, "output_multiplier": "1.5"},
        },
        _FINER.format("output"),
        id="tier, window and long context",
    ),
    # Tables within
    _refused("tiers", ["flex"], "price.tiers must be a table, not ['flex']."),
    _refused(
        "tiers",
        {"flex": 0.5},
        'price.tiers.flex must be a decimal string such as "0.25", not 0.5.',
    ),
    _refused("tiers", {"flex": "-1"}, "price.tiers.flex '-1' is below zero."),
    _refused("tools", {"web_search": "-1"}, "price.tools.web_search '-1' is below zero."),
    _refused("tools", "web_search", "price.tools must be a table, not 'web_search'."),
    _refused("long_context", "big", "price.long_context must be a table, not 'big'."),
    _refused(
        "long_context",
        {"treshold": 1},
        "price.long_context.treshold is not known here; known are input_multiplier,"
        " output_multiplier, threshold.",
    ),
    *(
        _refused(
            "long_context",
            {} if threshold is None else {"threshold": threshold},
            f"price.long_context.threshold must be a number of tokens, not {threshold!r}.",
        )
        for threshold in (None, 0, -1, True, "272000", 1.5)
    ),
    _refused(
        "long_context",
        {"threshold": 1, "output_multiplier": 2},
        'price.long_context.output_multiplier must be a decimal string such as "0.25", not 2.',
    ),
    # Windows
    _refused(
        "windows", {"utc": "01:00-04:00"}, "price.windows must be a list of tables, not {'utc"
    ),
    _refused("windows", ["night"], "price.windows[0] must be a table, not 'night'."),
    _refused(
        "windows",
        _window(hours=3),
        "price.windows[0].hours is not known here; known are days, multiplier, utc.",
    ),
    _refused(
        "windows",
        [*_window(), {"utc": "05:00-06:00"}],
        "price.windows[1].multiplier is missing.",
    ),
    *(_bad_days(days) for days in ("", "monday", "mon-", "mon-xyz", "mon,,tue", 5, None)),
    *(
        _bad_span(span)
        for span in (None, 1, "", "01:00", "01:00-02:00-03:00", "1-2", "01:60-02:00", "00:00-24:01")
    ),
    _refused(
        "windows",
        _window(utc="22:00-02:00"),
        "price.windows[0].utc '22:00-02:00' ends before it starts; split it at midnight.",
    ),
    _refused(
        "windows",
        _window(utc="02:00-02:00"),
        "price.windows[0].utc '02:00-02:00' ends before it starts; split it at midnight.",
    ),
    # From
    *(
        _refused("from", day, f'price.from must be a day such as "2026-11-01", not {day!r}.')
        for day in ("yesterday", "2026-02-30", 20261101, "", datetime(2026, 11, 1, 12, tzinfo=UTC))
    ),
]


@pytest.mark.parametrize(("table", "sentence"), REFUSED)
def test_what_is_wrong_is_named_by_its_path(table: dict[str, object], sentence: str) -> None:
    """A price table is refused as a whole, with a sentence that begins with what is wrong."""
    with pytest.raises(BadAmount) as caught:
        read_price(table)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("days", "numbers"),
    [
        ("mon", {0}),
        ("mon-fri", {0, 1, 2, 3, 4}),
        ("sat,sun", {5, 6}),
        ("sat-mon", {5, 6, 0}),
        ("sun-sat", {0, 1, 2, 3, 4, 5, 6}),
        ("fri-fri, tue - wed", {4, 1, 2}),
    ],
)
def test_days_may_run_over_the_weekend(days: str, numbers: set[int]) -> None:
    """A list of days and of ranges, which wrap around at Sunday."""
    price = read_price({**PLAIN, "windows": _window(days=days)})
    assert price.windows[0].days == numbers


def test_a_window_without_days_is_for_all_of_them_and_may_end_at_midnight() -> None:
    """24:00 is the end of a day."""
    price = read_price({**PLAIN, "windows": _window(utc="22:00-24:00")})
    assert price.windows == (Window(frozenset(range(7)), 1320, 1440, 2_000_000),)


@pytest.mark.parametrize("day", ["2026-11-01", date(2026, 11, 1)])
def test_a_day_is_a_text_or_a_day_of_toml(day: object) -> None:
    """It begins at midnight UTC."""
    assert read_price({**PLAIN, "from": day}).starts_us == at("2026-11-01T00:00:00")


def test_a_price_is_shown_as_decimal_strings() -> None:
    """Credits per million tokens; what does not change the price is left out."""
    assert price_object(read_price(PLAIN)) == {
        "input": "2.5",
        "output": "10",
        "cache_read": "0.25",
        "cache_write": "3.125",
        "cache_write_1h": "5",
        "audio_input": "2.5",
        "audio_output": "10",
    }
    started = {key: value for key, value in FULL.items() if key != "from"}
    days = {"days": "mon,tue,wed,thu,fri", "utc": "01:00-04:00", "multiplier": "2"}
    assert price_object(read_price(FULL)) == {**started, "windows": [days]}


@given(prices())
def test_a_price_shown_is_read_back_as_itself(price: Price) -> None:
    """The object that everybody is shown is a table that an operator could have written."""
    assert read_price(price_object(price)) == price


def test_amounts_that_multiply_to_whole_numbers_are_fine() -> None:
    """Fine prices are refused for what a call could meet, not for being fine."""
    table = {
        **PLAIN,
        "output": "0.000000008",
        "tiers": {"flex": "0.5"},
        "windows": _window(multiplier="0.5"),
        "long_context": {"threshold": 9, "output_multiplier": "1.5"},
    }
    assert read_price(table).output == parse_price("0.000000008")

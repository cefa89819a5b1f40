"""What a call costs: worked cases to the nano-credit, and what must hold for every call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.billing.charge import (
    EXACT,
    Bill,
    bill,
    charge,
    fold_images,
    is_priced_tier,
    multipliers,
)
from farebox.billing.prices import read_price
from farebox.core.money import parse_multiplier
from farebox.core.price import Price
from farebox.core.usage import CLASSES, Usage
from farebox.dialects.usage import read_usage
from tests.billing.values import PPM, at, dear, moments, prices, rates, tokens, usages

NOON = at("2026-11-23T12:00:00")
GPT_56 = {
    "input": "4",
    "output": "20",
    "long_context": {
        "threshold": 272_000,
        "input_multiplier": "2",
        "output_multiplier": "1.5",
    },
}
PRICES: dict[str, dict[str, Any]] = {
    "gpt-4o": {"input": "2.5", "output": "10"},
    "gpt-5.6": GPT_56,
    "deepseek": {"input": "0.28", "output": "0.42"},
    "mimo": {"input": "0.14", "output": "0.28"},
    "glm": {"input": "0.6", "output": "2.2", "cache_read": "0.11"},
    "sonnet": {"input": "3", "output": "15"},
}


@dataclass(frozen=True)
class Case:
    """One answer's usage as its vendor reports it, its classes, and the charge."""

    price: str
    rate: str
    reported: dict[str, Any]
    usage: Usage
    charge_nanocredits: int


def _chat(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    total = prompt + completion
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        **more,
    }


def _details(**counts: int) -> dict[str, Any]:
    return {"prompt_tokens_details": counts}


READ_AND_WRITTEN = Case(
    "gpt-5.6",
    "1",
    {
        "input_tokens": 2600,
        "input_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 400},
        "output_tokens": 300,
        "output_tokens_details": {"reasoning_tokens": 120},
        "total_tokens": 2900,
    },
    Usage(200, cache_read=2000, cache_write=400, output=300),
    9_600_000,
)
CASES = {
    "plain": Case("gpt-4o", "1", _chat(9, 12), Usage(9, output=12), 142_500),
    "responses, read and written": READ_AND_WRITTEN,
    "cached": Case(
        "gpt-4o",
        "1",
        _chat(2006, 300, **_details(cached_tokens=1920)),
        Usage(86, cache_read=1920, output=300),
        3_695_000,
    ),
    "first turn, written at rate 1.2": Case(
        "gpt-5.6",
        "1.2",
        _chat(18_014, 58, **_details(cached_tokens=0, cache_write_tokens=18_011)),
        Usage(3, cache_write=18_011, output=58),
        109_472_400,
    ),
    "second turn, read at rate 1.2": Case(
        "gpt-5.6",
        "1.2",
        _chat(18_014, 58, **_details(cached_tokens=18_011)),
        Usage(3, cache_read=18_011, output=58),
        10_051_680,
    ),
    "deepseek says the hits twice": Case(
        "deepseek",
        "0.8",
        _chat(
            1000,
            50,
            prompt_cache_hit_tokens=896,
            prompt_cache_miss_tokens=104,
            **_details(cached_tokens=896),
        ),
        Usage(104, cache_read=896, output=50),
        60_167,
    ),
    "reasoning is inside the output": Case(
        "gpt-4o",
        "1",
        _chat(100, 1186, completion_tokens_details={"reasoning_tokens": 1024}),
        Usage(100, output=1186),
        12_110_000,
    ),
    "anthropic excludes the cache": Case(
        "sonnet",
        "1",
        {
            "input_tokens": 2048,
            "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 248,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 148,
                "ephemeral_1h_input_tokens": 100,
            },
            "output_tokens": 503,
        },
        Usage(2048, cache_read=1800, cache_write=148, cache_write_1h=100, output=503),
        15_384_000,
    ),
    "one token read is rounded up once": Case(
        "mimo", "1.15", _chat(1, 0, **_details(cached_tokens=1)), Usage(cache_read=1), 17
    ),
    "at the threshold, not above it": Case(
        "gpt-5.6",
        "1",
        {"input_tokens": 272_000, "output_tokens": 1000, "total_tokens": 273_000},
        Usage(272_000, output=1000),
        1_108_000_000,
    ),
    "one token above the threshold": Case(
        "gpt-5.6",
        "1",
        {"input_tokens": 272_001, "output_tokens": 1000, "total_tokens": 273_001},
        Usage(272_001, output=1000),
        2_206_008_000,
    ),
    "a cache price of its own": Case(
        "glm",
        "1",
        _chat(1200, 300, **_details(cached_tokens=800)),
        Usage(400, cache_read=800, output=300),
        988_000,
    ),
    "a rate of zero": Case("gpt-4o", "0", _chat(9, 12), Usage(9, output=12), 0),
}


def _bill_of(case: Case) -> Bill:
    reading = read_usage(case.reported)
    assert reading.usage is not None
    return bill(
        reading.usage, read_price(PRICES[case.price]), parse_multiplier(case.rate), at_us=NOON
    )


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_worked_cases_cost_what_was_worked_out_by_hand(case: Case) -> None:
    """From the usage as reported to the nano-credit."""
    assert read_usage(case.reported).usage == case.usage
    assert _bill_of(case).due_nanocredits == case.charge_nanocredits


def test_the_usual_wrong_answers_are_not_given() -> None:
    """Writes on top of the prompt, reads at full price, reasoning on top of the output."""
    written_on_top, cache_ignored, reasoning_added = 11_200_000, 16_400_000, 12_000_000
    assert _bill_of(READ_AND_WRITTEN).due_nanocredits not in (
        written_on_top,
        cache_ignored,
        reasoning_added,
    )


def test_a_bill_has_a_line_for_each_class_and_one_rounding() -> None:
    """Amounts are exact decimals after the rate; the rounding is what was added to the sum."""
    case = CASES["one token read is rounded up once"]
    due = _bill_of(case)
    assert [line.as_dict() for line in due.lines] == [
        {
            "class": "cache_read",
            "tokens": 1,
            "price_nanocredits_per_million": 14_000_000,
            "multiplier": "1",
            "amount": "16.1",
        }
    ]
    assert (due.rounding, due.due_nanocredits) == ("0.9", 17)


def _exact(usage: Usage, price: Price, rate_ppm: int, tier: str | None, at_us: int) -> Fraction:
    """The same by fractions and calendar, written a second time."""
    factor = Fraction(dict(price.tiers).get(tier or "", PPM), PPM)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
    minute = moment.hour * 60 + moment.minute
    for window in price.windows:
        if moment.weekday() in window.days and window.start_minute <= minute < window.end_minute:
            factor *= Fraction(window.multiplier_ppm, PPM)
            break
    total = Fraction(0)
    for name in CLASSES:
        listed = None if name == "uncached_input" else getattr(price, name)
        each = Fraction(price.input if listed is None else listed, PPM) * factor
        long = price.long_context
        if long is not None and usage.input_total > long.threshold:
            is_output = name in ("output", "audio_output")
            ppm = long.output_multiplier_ppm if is_output else long.input_multiplier_ppm
            each *= Fraction(ppm, PPM)
        total += getattr(usage, name) * each
    return total * Fraction(rate_ppm, PPM)


tiers = st.sampled_from([None, "default", "flex", "priority", "unheard-of"])


@given(usages, prices(), rates, tiers, moments)
def test_a_charge_is_the_exact_value_rounded_up_once(usage, price, rate_ppm, tier, at_us) -> None:
    """It deviates by less than one nano-credit, and never downwards."""
    due = bill(usage, price, rate_ppm, at_us, service_tier=tier).due_nanocredits
    assert 0 <= due - _exact(usage, price, rate_ppm, tier, at_us) < 1


calls = st.dictionaries(st.sampled_from(["web_search", "code_interpreter"]), st.integers(0, 50))


@given(usages, prices(), rates, st.tuples(tiers, moments), calls)
def test_lines_and_rounding_add_up_to_what_is_due(
    usage, price, rate_ppm, circumstances, tool_calls
) -> None:
    """Exactly, by the decimals that a receipt shows; the rounding is at least 0 and below 1."""
    tier, at_us = circumstances
    counts = tuple(tool_calls.items())
    due = bill(usage, price, rate_ppm, at_us, service_tier=tier, tool_calls=counts)
    shown = [str(line.as_dict()["amount"]) for line in due.lines]
    assert all(len(amount.partition(".")[2]) <= 12 for amount in (*shown, due.rounding))
    assert sum(map(Fraction, (*shown, due.rounding))) == due.due_nanocredits
    assert 0 <= Fraction(due.rounding) < 1
    assert all(line.tokens for line in due.lines)


@given(usages, prices(), rates, st.tuples(tiers, moments), calls)
def test_the_sum_alone_is_what_the_lines_add_up_to(
    usage, price, rate_ppm, circumstances, tool_calls
) -> None:
    """A call is settled by its charge alone; its receipt, made later, comes to the same."""
    tier, at_us = circumstances
    more = {"service_tier": tier, "tool_calls": tuple(tool_calls.items())}
    explained = bill(usage, price, rate_ppm, at_us, **more)
    exact = sum(line.exact for line in explained.lines)
    assert charge(usage, price, rate_ppm, at_us, **more) == -(-exact // EXACT)
    assert (explained.due_nanocredits, explained.rounding_exact) == (
        -(-exact // EXACT),
        -exact % EXACT,
    )


@given(usages, prices(long_multipliers=dear), rates, st.sampled_from(CLASSES), tokens)
def test_more_tokens_never_cost_less(usage, price, rate_ppm, name, more) -> None:
    """The charge is monotone in every class, also over a threshold that makes it dearer."""
    larger = replace(usage, **{name: getattr(usage, name) + more})
    assert (
        bill(larger, price, rate_ppm, NOON).due_nanocredits
        >= bill(usage, price, rate_ppm, NOON).due_nanocredits
    )


@given(usages, prices(), rates, tokens)
def test_a_read_that_becomes_uncached_input_never_costs_less(usage, price, rate_ppm, moved) -> None:
    """As long as reads are not dearer than input."""
    assume(price.cache_read <= price.input)
    moved = min(moved, usage.cache_read)
    uncached = replace(
        usage, cache_read=usage.cache_read - moved, uncached_input=usage.uncached_input + moved
    )
    assert (
        bill(uncached, price, rate_ppm, NOON).due_nanocredits
        >= bill(usage, price, rate_ppm, NOON).due_nanocredits
    )


PEAK = read_price(
    {
        "input": "1",
        "output": "1",
        "windows": [
            {"days": "mon-fri", "utc": "01:00-04:00", "multiplier": "2"},
            {"days": "sat-mon", "utc": "03:00-24:00", "multiplier": "3"},
        ],
    }
)


@pytest.mark.parametrize(
    ("moment", "times"),
    [
        ("2026-11-23T00:59:59.999999", 1),  # a Monday
        ("2026-11-23T01:00:00", 2),
        ("2026-11-23T03:30:00", 2),  # in both spans: the first counts
        ("2026-11-23T03:59:59.999999", 2),
        ("2026-11-23T04:00:00", 3),
        ("2026-11-23T23:59:59.999999", 3),
        ("2026-11-24T00:00:00", 1),
        ("2026-11-27T03:59:00", 2),  # Friday
        ("2026-11-28T02:00:00", 1),  # Saturday
        ("2026-11-29T03:00:00", 3),  # Sunday
        ("2024-02-29T01:30:00", 2),  # a Thursday
        ("1970-01-01T01:30:00", 2),  # too
    ],
)
def test_windows_are_found_by_utc_weekday_and_minute(moment: str, times: int) -> None:
    """The start belongs to a window, the end does not; days may run over the weekend."""
    assert multipliers(PEAK, 1, None, at(moment)) == (times * PPM, times * PPM)
    assert bill(Usage(10, output=10), PEAK, PPM, at(moment)).due_nanocredits == times * 20_000


def test_tier_window_and_long_context_multiply() -> None:
    """Priority × peak × long context, on a receipt's line as one multiplier."""
    price = read_price(
        {
            **GPT_56,
            "tiers": {"priority": "2.5", "flex": "0.5"},
            "windows": [{"utc": "11:00-13:00", "multiplier": "2"}],
        }
    )
    due = bill(Usage(300_000, output=10), price, PPM, NOON, service_tier="priority")
    assert [(line.name, line.multiplier_ppm) for line in due.lines] == [
        ("uncached_input", 10_000_000),
        ("output", 7_500_000),
    ]
    assert due.due_nanocredits == 300_000 * 40_000 + 10 * 150_000
    assert bill(Usage(1), price, PPM, NOON, service_tier="flex").due_nanocredits == 4_000


def test_a_tier_has_a_price_or_is_an_ordinary_one() -> None:
    """Only those may be asked for; one that the vendor chose unasked runs at the list price."""
    price = read_price({"input": "1", "output": "1", "tiers": {"flex": "0.5"}})
    asked = {tier: is_priced_tier(price, tier) for tier in (None, "default", "auto", "flex", "x")}
    assert asked == {None: True, "default": True, "auto": True, "flex": True, "x": False}
    assert bill(Usage(2), price, PPM, NOON, service_tier="x").due_nanocredits == 2_000


def test_hosted_tools_are_charged_by_the_call_at_the_rate() -> None:
    """Neither tier nor window touches them."""
    price = read_price(
        {"input": "1", "output": "1", "tiers": {"flex": "0.5"}, "tools": {"web_search": "0.01"}}
    )
    counts = (("web_search", 3), ("unpriced", 2))
    due = bill(Usage(), price, 1_200_000, NOON, service_tier="flex", tool_calls=counts)
    assert [(line.name, line.tokens, line.multiplier_ppm) for line in due.lines] == [
        ("web_search", 3, PPM),
        ("unpriced", 2, PPM),
    ]
    assert due.due_nanocredits == 36_000_000


def test_images_are_text_unless_they_have_a_price() -> None:
    """Without one they fall under uncached input, with one they are a class."""
    usage = Usage(10, image_input=5)
    plain = read_price({"input": "1", "output": "1"})
    priced = read_price({"input": "1", "output": "1", "image_input": "8"})
    assert fold_images(usage, plain) == Usage(15)
    assert fold_images(usage, priced) == usage
    assert bill(usage, plain, PPM, NOON).due_nanocredits == 15_000
    assert bill(usage, priced, PPM, NOON).due_nanocredits == 50_000
    assert [line.name for line in bill(usage, plain, PPM, NOON).lines] == ["uncached_input"]

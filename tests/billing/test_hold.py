"""Holds: what is reserved always covers what a call may cost, and pays for a known output cap."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.billing.charge import ORDINARY_TIERS, bill, is_priced_tier
from farebox.billing.hold import Bound, InputEstimate, bound
from farebox.billing.prices import read_price
from farebox.core.call import Call
from farebox.core.price import Price
from farebox.core.usage import Usage
from tests.billing.values import MAX_TOKENS, PPM, at, moments, prices, rates

NOON = at("2026-11-23T12:00:00")
PRICE = read_price({"input": "4", "output": "20"})
CALL = Call("req_1", "chat", "m", {}, text_bytes=1000)
exact = st.integers(0, 10**24)


@given(exact, exact.filter(bool), st.integers(0, 2**31))
def test_a_hold_pays_for_the_tokens_that_it_was_made_for(fixed, per_token, wanted) -> None:
    """`affordable_tokens` undoes `nanocredits`, up to what rounding up leaves over."""
    limits = Bound(fixed, per_token)
    held = limits.nanocredits(wanted)
    affordable = limits.affordable_tokens(held)
    assert affordable is not None
    assert affordable >= wanted
    assert limits.nanocredits(affordable) == held


@given(exact, exact.filter(bool), st.integers(0, 2**63 - 1))
def test_what_a_hold_affords_is_the_most_that_it_pays(fixed, per_token, held) -> None:
    """One token more would cost more than is held; 0 where even the input is not paid."""
    limits = Bound(fixed, per_token)
    affordable = limits.affordable_tokens(held)
    assert affordable is not None
    assert affordable == 0 or limits.nanocredits(affordable) <= held
    assert limits.nanocredits(affordable + 1) > held


def test_output_that_costs_nothing_has_no_limit() -> None:
    """A free model, or a rate of 0."""
    assert bound(CALL, PRICE, 0, 100, NOON).affordable_tokens(0) is None


def test_a_hold_is_input_at_its_dearest_and_output_of_all_choices() -> None:
    """rate × (input × dearest input price + choices × cap × output price), rounded up."""
    limits = bound(replace(CALL, choices=3), PRICE, 1_200_000, 1000, NOON)
    assert limits.nanocredits(0) == 1000 * 5_000 * 12 // 10  # a write costs 1.25 of the input
    assert limits.nanocredits(50) == 1000 * 6_000 + 3 * 50 * 24_000


_INPUT_CLASSES = ("uncached_input", "cache_read", "cache_write", "audio_input", "image_input")


@st.composite
def answered_calls(draw: st.DrawFn) -> tuple[Call, Price, int, Usage, str | None]:
    """A call, its price, its cap, and a usage within estimate and cap in a tier it may run in."""
    price = draw(prices())
    asked = draw(st.sampled_from([*ORDINARY_TIERS, *(name for name, _ in price.tiers)]))
    priced = [name for name, _ in price.tiers]
    tier = draw(st.sampled_from([None, "default", "standard", asked]))
    if asked == "auto" and priced:
        tier = draw(st.sampled_from([tier, *priced]))
    call = Call(
        "req_1",
        "chat",
        "m",
        {},
        choices=draw(st.integers(1, 128)),
        service_tier=asked,
        hosted_tools=tuple(draw(st.sets(st.sampled_from([name for name, _ in price.tools]))))
        if price.tools
        else (),
        audio_output=draw(st.booleans()),
    )
    cap = draw(st.integers(0, 200_000))
    # The corners are where a hold could be too small: all of it in one class, at a threshold.
    threshold = price.long_context.threshold if price.long_context else 0
    most = draw(st.sampled_from([threshold, threshold + 1]) | st.integers(0, MAX_TOKENS))
    first, second = draw(st.permutations(_INPUT_CLASSES))[:2]
    some = draw(st.sampled_from([0, most]) | st.integers(0, most))
    output = draw(st.just(cap * call.choices) | st.integers(0, cap * call.choices))
    spoken = draw(st.sampled_from([0, output])) if call.audio_output else 0
    usage = replace(
        Usage(output=output - spoken, audio_output=spoken), **{first: some, second: most - some}
    )
    return call, price, cap, usage, tier


@settings(max_examples=400)
@given(answered_calls(), st.integers(0, 100_000), rates, moments)
def test_what_is_held_covers_whatever_the_call_may_cost(answered, spare, rate_ppm, at_us) -> None:
    """Any usage within the estimate and the cap, in any tier, window and context it may reach."""
    call, price, cap, usage, tier = answered
    assume(is_priced_tier(price, call.service_tier))
    held = bound(call, price, rate_ppm, usage.input_total + spare, at_us).nanocredits(cap)
    counts = tuple((name, 1) for name in call.hosted_tools)
    due = bill(usage, price, rate_ppm, at_us, service_tier=tier, tool_calls=counts)
    assert due.due_nanocredits <= held


TIERED = {"input": "4", "output": "20", "cache_write": "4"}


@pytest.mark.parametrize(
    ("table", "call", "held_nanocredits"),
    [
        pytest.param({"cache_read": "9"}, CALL, 1000 * 9_000, id="reads dearer than input"),
        pytest.param({"audio_input": "40"}, CALL, 1000 * 40_000, id="audio"),
        pytest.param({"image_input": "50"}, CALL, 1000 * 50_000, id="images"),
        pytest.param(
            {"tiers": {"flex": "0.5"}},
            replace(CALL, service_tier="flex"),
            1000 * 4_000,
            id="a cheap tier may be answered by the ordinary one",
        ),
        pytest.param(
            {"tiers": {"priority": "2"}},
            replace(CALL, service_tier="priority"),
            1000 * 8_000,
            id="the tier asked for",
        ),
        pytest.param(
            {"tiers": {"priority": "2"}}, CALL, 1000 * 4_000, id="a tier nobody asked for"
        ),
        pytest.param(
            {"tiers": {"flex": "0.5", "priority": "2"}},
            replace(CALL, service_tier="auto"),
            1000 * 8_000,
            id="auto may be any tier",
        ),
        pytest.param({"tiers": {"default": "3"}}, CALL, 1000 * 12_000, id="an ordinary tier"),
        pytest.param(
            {"long_context": {"threshold": 999, "input_multiplier": "2"}},
            CALL,
            1000 * 8_000,
            id="above the threshold",
        ),
        pytest.param(
            {"long_context": {"threshold": 1000, "input_multiplier": "2"}},
            CALL,
            1000 * 4_000,
            id="at the threshold",
        ),
        pytest.param(
            {"long_context": {"threshold": 999, "input_multiplier": "0.5"}},
            CALL,
            1000 * 4_000,
            id="cheaper above the threshold, and perhaps below it",
        ),
        pytest.param(
            {"windows": [{"utc": "11:00-13:00", "multiplier": "2"}]},
            CALL,
            1000 * 8_000,
            id="the window of its admission",
        ),
        pytest.param(
            {"tools": {"web_search": "0.01"}},
            replace(CALL, hosted_tools=("web_search",)),
            1000 * 4_000 + 10_000_000,
            id="a hosted tool, once",
        ),
    ],
)
def test_the_dearest_that_a_call_may_reach_is_held(
    table: dict[str, object], call: Call, held_nanocredits: int
) -> None:
    """A thousand input tokens at each thing that may change their price."""
    limits = bound(call, read_price({**TIERED, **table}), PPM, 1000, NOON)
    assert limits.nanocredits(0) == held_nanocredits


def test_spoken_output_is_held_only_for_who_asks_for_it() -> None:
    """Audio costs more than text by far."""
    price = read_price({**TIERED, "audio_output": "80"})
    assert bound(CALL, price, PPM, 0, NOON).nanocredits(1) == 20_000
    spoken = replace(CALL, audio_output=True)
    assert bound(spoken, price, PPM, 0, NOON).nanocredits(1) == 80_000


def _tokens(estimate: InputEstimate, call: Call = CALL, now_us: int = NOON) -> int:
    return estimate.tokens(call, 1, "key_1", "m", now_us)


def test_an_unknown_key_is_held_at_one_token_a_byte() -> None:
    """Byte-level BPE never makes more of a byte; and what to expect is a quarter of that."""
    estimate = InputEstimate()
    assert _tokens(estimate) == 1000
    assert _tokens(estimate, replace(CALL, text_bytes=0)) == 0
    assert estimate.likely_tokens(CALL, "key_1", "m") == 250


def test_what_a_table_counts_comes_on_top() -> None:
    """Images are no bytes; and to be expected is a tenth of what they may be at most."""
    call = replace(CALL, table_tokens=10_000)
    estimate = InputEstimate()
    assert _tokens(estimate, call) == 11_000
    assert estimate.likely_tokens(call, "key_1", "m") == 1_250


def test_the_ratio_is_learnt_by_key_and_model() -> None:
    """The first report counts whole, later ones a quarter; a fourth is held on top."""
    estimate = InputEstimate()
    estimate.learn(CALL, "key_1", "m", 400)
    assert _tokens(estimate) == 500
    assert estimate.likely_tokens(CALL, "key_1", "m") == 400
    estimate.learn(CALL, "key_1", "m", 800)
    assert _tokens(estimate) == 625
    assert estimate.likely_tokens(CALL, "key_1", "m") == 500
    assert estimate.tokens(CALL, 1, "key_2", "m", NOON) == 1000
    assert estimate.tokens(CALL, 1, "key_1", "other", NOON) == 1000


@pytest.mark.parametrize(
    ("reported", "held"),
    [(63, 250), (200, 250), (240, 300), (800, 1000), (1000, 1000), (9**9, 1000)],
)
def test_an_estimate_stays_within_a_quarter_and_one(reported: int, held: int) -> None:
    """However sparse or dense the last prompt was."""
    estimate = InputEstimate()
    estimate.learn(CALL, "key_1", "m", reported)
    assert _tokens(estimate) == held


@pytest.mark.parametrize(
    ("call", "reported"),
    [
        (replace(CALL, text_bytes=0), 10),
        (replace(CALL, table_tokens=5), 900),
        (CALL, 0),
        (replace(CALL, text_bytes=500_000), 800),
    ],
)
def test_nothing_is_learnt_where_bytes_say_nothing(call: Call, reported: int) -> None:
    """No bytes, images among them, no tokens, or a file whose bytes are no text."""
    estimate = InputEstimate()
    estimate.learn(CALL, "key_1", "m", 400)
    estimate.learn(call, "key_1", "m", reported)
    assert _tokens(estimate) == 500


def test_a_key_forgotten_is_held_in_full_again() -> None:
    """Only so many pairs are remembered; the one learnt longest ago goes first."""
    estimate = InputEstimate()
    estimate.learn(CALL, "key_1", "m", 400)
    for n in range(100_000):
        estimate.learn(CALL, f"key_{n + 2}", "m", 400)
    assert _tokens(estimate) == 1000
    assert estimate.tokens(CALL, 1, "key_2", "m", NOON) == 500


def test_an_account_that_was_absorbed_is_not_trusted_for_a_day() -> None:
    """Whatever was learnt; other accounts are not concerned."""
    estimate = InputEstimate()
    estimate.learn(CALL, "key_1", "m", 400)
    estimate.distrust(1, NOON)
    day_us = 86_400_000_000
    assert _tokens(estimate) == _tokens(estimate, now_us=NOON + day_us - 1) == 1000
    assert estimate.tokens(CALL, 2, "key_1", "m", NOON) == 500
    assert _tokens(estimate, now_us=NOON + day_us) == 500


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)), max_size=30))
def test_an_estimate_never_exceeds_the_bytes(reports: list[tuple[int, int]]) -> None:
    """And never falls below a quarter of them, rounded up."""
    estimate = InputEstimate()
    for text_bytes, reported in reports:
        estimate.learn(replace(CALL, text_bytes=text_bytes), "key_1", "m", reported)
    assert 250 <= _tokens(estimate) <= 1000
    assert estimate.likely_tokens(CALL, "key_1", "m") <= 1000

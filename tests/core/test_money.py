"""Amounts, prices and multipliers as integers: nothing is rounded, nothing overflows."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.money import (
    MAX_NANOCREDITS,
    BadAmount,
    parse_credits,
    parse_multiplier,
    parse_price,
    show_credits,
    show_exact,
    show_ppm,
)

amounts = st.integers(-MAX_NANOCREDITS, MAX_NANOCREDITS)


@pytest.mark.parametrize(
    ("text", "nanocredits"),
    [
        ("10", 10_000_000_000),
        ("0.000000001", 1),
        ("-0.25", -250_000_000),
        (" 1.5 ", 1_500_000_000),
        ("+3", 3_000_000_000),
        ("1e-9", 1),
        ("1E3", 1_000_000_000_000),
        ("0", 0),
        ("-0.0", 0),
        ("0e999999999", 0),
        ("9223372036.854775807", MAX_NANOCREDITS),
        ("-9223372036.854775807", -MAX_NANOCREDITS),
        ("1.0000000000000000000000000000000000000", 1_000_000_000),
    ],
)
def test_credits_are_read_as_nanocredits(text: str, nanocredits: int) -> None:
    """1 credit is 10^9 nano-credits, up to what 63 bits hold."""
    assert parse_credits(text) == nanocredits


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ten", "amount 'ten' is not a decimal number such as \"0.25\"."),
        ("", "amount '' is not a decimal number such as \"0.25\"."),
        ("1,5", "amount '1,5' is not a decimal number such as \"0.25\"."),
        ("NaN", "amount 'NaN' is not a finite number."),
        ("-Infinity", "amount '-Infinity' is not a finite number."),
        (0.25, 'amount must be a decimal string such as "0.25", not 0.25.'),
        (1, 'amount must be a decimal string such as "0.25", not 1.'),
        (True, 'amount must be a decimal string such as "0.25", not True.'),
        (None, 'amount must be a decimal string such as "0.25", not None.'),
        (
            "0.0000000001",
            "amount '0.0000000001' is finer than 0.000000001 credits, the smallest unit kept.",
        ),
        ("9223372036.854775808", "amount '9223372036.854775808' is out of range."),
        ("1e999999", "amount '1e999999' is out of range."),
        ("1e-999999", "amount '1e-999999' is out of range."),
    ],
)
def test_what_is_no_amount_is_refused_with_a_sentence(text: object, sentence: str) -> None:
    """A float has lost digits before it gets here; a huge exponent builds no huge number."""
    with pytest.raises(BadAmount) as caught:
        parse_credits(text)  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == sentence


@pytest.mark.parametrize("zeros", [9, 20, 27, 28, 29, 60, 200])
def test_no_digit_is_rounded_away(zeros: int) -> None:
    """A last digit beyond the smallest unit is refused however far behind it stands."""
    with pytest.raises(BadAmount, match="finer than"):
        parse_credits("1." + "0" * zeros + "1")


def test_prices_are_never_negative() -> None:
    """Credits per million tokens, as nano-credits per million."""
    assert parse_price("2.5", "price.input") == 2_500_000_000
    assert parse_price("0") == 0
    with pytest.raises(BadAmount) as caught:
        parse_price("-0.1", "price.input")
    assert str(caught.value) == "price.input '-0.1' is below zero."


@pytest.mark.parametrize(
    ("text", "ppm"),
    [("1.15", 1_150_000), ("0", 0), ("0.000001", 1), ("1000000", 1_000_000_000_000)],
)
def test_multipliers_are_parts_per_million(text: str, ppm: int) -> None:
    """A rate of 0 is a gift, and allowed."""
    assert parse_multiplier(text) == ppm


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0.0000001", "rate '0.0000001' is finer than 0.000001, the smallest unit kept."),
        ("-1", "rate '-1' is below zero."),
        ("1000000.1", "rate '1000000.1' is out of range."),
        (1.15, 'rate must be a decimal string such as "0.25", not 1.15.'),
    ],
)
def test_what_is_no_multiplier_is_refused_with_a_sentence(text: object, sentence: str) -> None:
    """At most six places, not below zero, at most a million."""
    with pytest.raises(BadAmount) as caught:
        parse_multiplier(text, "rate")  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == sentence


@given(amounts)
def test_an_amount_shown_is_read_back_as_itself(nanocredits: int) -> None:
    """Showing loses nothing, and shows a plain decimal: no exponent, no idle zeros."""
    shown = show_credits(nanocredits)
    assert parse_credits(shown) == nanocredits
    assert Decimal(shown) * 10**9 == nanocredits
    assert set(shown) <= set("-0123456789.")
    assert not shown.startswith("-0.0000000000")
    assert "." not in shown or not shown.endswith(("0", "."))


@given(st.integers(0, 10**12))
def test_a_multiplier_shown_is_read_back_as_itself(ppm: int) -> None:
    """`show_ppm` and `parse_multiplier` undo each other."""
    assert parse_multiplier(show_ppm(ppm)) == ppm


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show_credits(-1), "-0.000000001"),
        (show_credits(0), "0"),
        (show_credits(5_000_000_000), "5"),
        (show_ppm(1_150_000), "1.15"),
        (show_exact(16_100_000_000_001), "16.100000000001"),
        (show_exact(0), "0"),
    ],
)
def test_amounts_are_shown_as_plain_decimals(shown: str, expected: str) -> None:
    """Nine places of a credit, six of a multiplier, twelve of an exact amount."""
    assert shown == expected

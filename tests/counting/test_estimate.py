"""Texts without a vocabulary, by the kind of text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.counting.estimate import text_tokens
from tests.counting.corpus import TEXTS
from tests.counting.in_thread import codec

PROSE = [kind for kind in TEXTS if kind not in ("emoji", "blanks", "json", "special")]


@pytest.mark.parametrize("kind", PROSE)
def test_a_language_is_estimated_within_a_half(kind: str) -> None:
    """Of what a vocabulary of today makes of it."""
    assert text_tokens(TEXTS[kind]) == pytest.approx(
        codec("o200k_base").tokens(TEXTS[kind]), rel=0.5
    )


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("hello world", 2, 3),
        ("1234567890", 4, 4),
        ("🙂🙂🙂", 3, 9),
        (" " * 1000, 0, 30),
    ],
)
def test_a_text_is_estimated_by_its_kind(text: str, least: int, most: int) -> None:
    """Numbers by three digits, signs one by one, blanks hardly."""
    assert least <= round(text_tokens(text)) <= most


@given(st.text(max_size=300))
def test_any_text_has_an_estimate(text: str) -> None:
    """Never negative, and not far above two tokens a character."""
    assert 0 <= text_tokens(text) <= 2 * len(text) + 1

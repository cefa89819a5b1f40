"""A text that is split has as many tokens as before."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.counting.splitting import split
from farebox.counting.vocabularies import VOCABULARIES
from tests.counting.corpus import TEXTS
from tests.counting.in_thread import codec
from tests.counting.truth import deepseek

# What the patterns tell apart: letters of several scripts and cases, marks, numbers, signs, blanks.
SIGNS = "aZéßжЖ中あ한ع\u0301\u0939ʰǅ19²Ⅷ½!'’/.,_-<|>｜▁+=€😀\u200d \t\n\r\u00a0\u3000\u2028\x00"
MIXED = st.text(alphabet=SIGNS, max_size=60)


@pytest.mark.parametrize("name", VOCABULARIES)
@settings(max_examples=500)
@given(text=MIXED)
def test_splitting_changes_no_count(name: str, text: str) -> None:
    """At every place where it may be split."""
    pieces = list(split(text, 1))
    assert "".join(pieces) == text
    assert sum(map(codec(name).tokens, pieces)) == (codec(name).tokens(text) if text else 0)


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("kind", TEXTS)
def test_splitting_a_language_changes_no_count(name: str, kind: str) -> None:
    """Each word or line by itself."""
    pieces = list(split(TEXTS[kind], 1))
    assert "".join(pieces) == TEXTS[kind]
    assert sum(map(codec(name).tokens, pieces)) == codec(name).tokens(TEXTS[kind])


def test_pieces_are_as_long_as_they_must_be() -> None:
    """About as many characters as wanted; without a place there is one piece."""
    pieces = list(split("four " * 1000, 100))
    assert {len(piece) for piece in pieces[:-1]} <= set(range(100, 106))
    assert list(split("x" * 1000, 100)) == ["x" * 1000]
    assert list(split("", 100)) == []


def test_no_special_token_has_a_place_in_it() -> None:
    """DeepSeek's tokenizer looks for them before anything else."""
    special = [token.content for token in deepseek().get_added_tokens_decoder().values()]
    assert len(special) > 1000
    assert [token for token in special if len(list(split(token, 1))) > 1] == []

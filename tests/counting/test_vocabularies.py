"""The vocabularies are the published ones, and count what their libraries count."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.counting import vocabularies
from farebox.counting.vocabularies import (
    MOST_UNSPLIT_CHARS,
    VOCABULARIES,
    TooLong,
    VocabularyError,
    count,
)
from tests.counting.corpus import TEXTS
from tests.counting.in_thread import codec
from tests.counting.truth import deepseek, o200k

SIZE = 500_000
PATHOLOGICAL = {
    "spaces": " " * SIZE,
    "one letter": "a" * (SIZE // 4),
    "line ends": "\n" * (SIZE // 4),
    "one sign": "!" * (SIZE // 4),
    "spaces and a letter": " " * (SIZE // 4) + "x",
    "words": "word " * (SIZE // 5),
}


def by_library(name: str, text: str) -> int:
    if name == "o200k_base":
        return len(o200k().encode_ordinary(text))
    return len(deepseek().encode(text, add_special_tokens=False))


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_has_the_tokens_of_the_library(name: str, kind: str) -> None:
    """In every language, once and many times in a row."""
    assert count(codec(name), [TEXTS[kind]]) == by_library(name, TEXTS[kind])
    many = TEXTS[kind] * 400
    assert count(codec(name), [many]) == by_library(name, many)


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("kind", PATHOLOGICAL)
def test_a_pathological_text_has_the_tokens_of_the_library(name: str, kind: str) -> None:
    """Up to half a megabyte of one thing."""
    assert count(codec(name), [PATHOLOGICAL[kind]]) == by_library(name, PATHOLOGICAL[kind])


@pytest.mark.parametrize("name", VOCABULARIES)
@settings(max_examples=200)
@given(text=st.text(max_size=200))
def test_any_text_has_the_tokens_of_the_library(name: str, text: str) -> None:
    """Whatever signs it is made of."""
    assert count(codec(name), [text]) == by_library(name, text)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_texts_count_one_by_one(name: str) -> None:
    """They are not joined: what two texts have is the sum."""
    assert count(codec(name), ["hel", "lo"]) == 2
    assert count(codec(name), []) == 0


def test_a_text_that_cannot_be_split_has_its_limit() -> None:
    """tiktoken's pattern fails at a million spaces; such a text is refused before."""
    with pytest.raises(TooLong, match="without a place to split it"):
        count(codec("o200k_base"), [" " * (MOST_UNSPLIT_CHARS + 1)])
    assert count(codec("o200k_base"), ["a b" * MOST_UNSPLIT_CHARS]) > MOST_UNSPLIT_CHARS


def test_counting_ends_when_its_time_is_over() -> None:
    """Between two pieces of a text."""
    times = iter([True, True, False])
    with pytest.raises(TooLong, match="no time left"):
        count(codec("o200k_base"), ["word " * 100_000], lambda: next(times))


def test_a_vocabulary_that_is_another_is_not_used(tmp_path: Path) -> None:
    """Its hash is that of the content, and the error says what to do."""
    shipped = VOCABULARIES["o200k_base"]
    (tmp_path / "v.gz").write_bytes(gzip.compress(b"aGVsbG8= 0\n"))
    changed = replace(shipped, path=lambda: tmp_path / "v.gz")
    with pytest.raises(VocabularyError, match=r"not the one that it should be\. Install farebox"):
        vocabularies.load("o200k_base", {"o200k_base": changed})
    (tmp_path / "v.gz").write_bytes(b"torn")
    missing = replace(shipped, path=lambda: tmp_path / "nowhere.gz")
    known = {"o200k_base": shipped, "torn": changed, "missing": missing}
    told = list(vocabularies.complaints(known))
    assert [sentence.split(" (")[0] for sentence in told] == [
        "The vocabulary torn cannot be read",
        "The vocabulary missing cannot be read",
    ]


def test_the_vocabularies_of_this_installation_are_whole() -> None:
    """Nothing is left to download."""
    assert list(vocabularies.complaints()) == []

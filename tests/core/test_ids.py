"""Names by chance, keys with a checksum, and the digest that stands for a key."""

import hashlib
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.ids import (
    KEY_CHARS,
    is_key,
    key_digest,
    key_hint,
    new_id,
    new_key,
    new_request_id,
)

KEY = new_key(lambda bits: 2**bits // 3)


def _all_ones(bits: int) -> int:
    return 2**bits - 1


@pytest.mark.parametrize(
    ("name", "bits", "pattern"),
    [
        (lambda chance: new_request_id(2**48 * 1000 - 1, chance), 80, r"req_[0-9A-Za-z]{22}"),
        (lambda chance: new_id("key", chance), 72, r"key_[0-9A-Za-z]{13}"),
        (new_key, 256, r"sk-fb-[0-9A-Za-z]{49}"),
    ],
)
def test_each_name_holds_all_the_chance_it_says(name, bits: int, pattern: str) -> None:
    """The extremes fit their width, and the least bit changes the name."""
    asked: list[int] = []

    def note(wanted: int) -> int:
        asked.append(wanted)
        return 0

    names = {name(note), name(lambda _: 1), name(_all_ones)}
    assert asked == [bits]
    assert len(names) == 3
    assert all(re.fullmatch(pattern, each) for each in names)


def test_names_differ_by_default() -> None:
    """Chance comes from the system unless a test brings its own."""
    assert new_request_id(0) != new_request_id(0)
    assert new_id("key") != new_id("key")
    assert new_key() != new_key()


@given(st.integers(0, 2**47), st.integers(1, 10**6))
def test_request_ids_sort_by_their_time(millis: int, later: int) -> None:
    """An id of a later millisecond sorts behind, whatever chance gave either."""
    first = new_request_id(millis * 1000 + 999, _all_ones)
    assert first < new_request_id((millis + later) * 1000, lambda _: 0)


@given(st.integers(0, 2**256 - 1))
def test_a_new_key_is_a_key(bits: int) -> None:
    """Each key has the same length and a right checksum."""
    key = new_key(lambda _: bits)
    assert len(key) == KEY_CHARS == 55
    assert is_key(key)


@given(st.integers(6, KEY_CHARS - 1), st.sampled_from("0aZ7"))
def test_one_mistyped_character_is_no_key(at: int, wrong: str) -> None:
    """The checksum sees every change of a single character."""
    mistyped = KEY[:at] + wrong + KEY[at + 1 :]
    assert is_key(mistyped) == (mistyped == KEY)


@pytest.mark.parametrize(
    "text",
    ["", "sk-fb-", KEY[:-1], KEY + "0", KEY.replace("sk-fb-", "sk-xx-"), f" {KEY[:-1]}", "ä" * 55],
)
def test_other_texts_are_no_keys(text: str) -> None:
    """Wrong length, wrong prefix or letters from elsewhere."""
    assert not is_key(text)


def test_the_digest_is_an_hmac_under_the_pepper() -> None:
    """Without the pepper, which is not in the store, a stolen digest cannot be searched for."""
    expected = hmac.new(b"pepper", KEY.encode(), hashlib.sha256).digest()
    assert key_digest(b"pepper", KEY) == expected
    assert key_digest(b"other", KEY) != expected


def test_a_hint_shows_the_last_four_characters_only() -> None:
    """What lists may show of a key."""
    assert key_hint(KEY) == f"sk-fb-…{KEY[-4:]}"

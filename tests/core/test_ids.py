"""Names by chance, keys with a checksum, and the digest that stands for a key."""

import hashlib
import hmac
import re
import string
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.ids import (
    KEY_CHARS,
    RequestIds,
    is_key,
    key_digest,
    key_hint,
    new_id,
    new_key,
    new_request_id,
    request_time_us,
)

KEY = new_key(lambda bits: 2**bits // 3)


def _all_ones(bits: int) -> int:
    return 2**bits - 1


@pytest.mark.parametrize(
    ("name", "bits", "pattern"),
    [
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


LAST_US = 2**48 * 1000 - 1  # that an id can tell


@pytest.mark.parametrize("now_us", [0, 999, 1_764_417_600_123_456, LAST_US])
def test_a_request_id_holds_all_the_chance_it_asks_for(now_us: int) -> None:
    """Each byte of chance is a digit of its own, each digit may come, and none twice as often."""
    of_byte = [RequestIds(bytes([byte]).__mul__).new(now_us * 1000)[-1] for byte in range(256)]
    counts = Counter(of_byte)
    assert len(counts) == 62
    assert set(counts.values()) == {4, 5}
    asked: list[int] = []
    ids = RequestIds(lambda wanted: asked.append(wanted) or bytes(i % 251 for i in range(wanted)))
    made = sorted(ids.new(now_us * 1000) for _ in range(64))
    assert asked == [64 * 13]
    assert all(re.fullmatch(r"req_[0-9A-Za-z]{22}", each) for each in made)
    chance = "".join(of_byte[i % 251] for i in range(64 * 13))
    ends = [chance[start : start + 13] for start in range(0, 64 * 13, 13)]
    assert [each[-13:] for each in made] == sorted(ends)


@given(st.integers(0, LAST_US), st.binary(min_size=13, max_size=13))
def test_a_request_id_tells_its_millisecond(now_us: int, chance: bytes) -> None:
    """Whatever chance gave it, so that who asks for a receipt can be told of its age."""
    ids = RequestIds(lambda wanted: chance * (wanted // 13))
    assert request_time_us(ids.new(now_us * 1000)) == now_us // 1000 * 1000


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**80 - 1))
def test_ids_of_older_builds_tell_their_millisecond(millis: int, others: int) -> None:
    """Those were 128 bits as one number: the milliseconds, and 80 by chance."""
    value, text = millis << 80 | others, ""
    for _ in range(22):
        value, digit = divmod(value, 62)
        text = (string.digits + string.ascii_uppercase + string.ascii_lowercase)[digit] + text
    assert request_time_us(f"req_{text}") == millis * 1000


@pytest.mark.parametrize("text", ["", "req_", "req_1", "req_" + "0" * 23, "req_" + "ä" * 22])
def test_other_texts_tell_no_time(text: str) -> None:
    """Anybody can ask for any id."""
    assert request_time_us(text) is None


@given(st.integers(0, 2**47), st.integers(1, 10**6))
def test_request_ids_sort_by_their_time(millis: int, later: int) -> None:
    """An id of a later millisecond sorts behind, whatever chance gave either."""
    first = RequestIds(b"\x3d".__mul__).new(millis * 1_000_000 + 999_999)
    assert first.endswith("z" * 13)
    assert first < RequestIds(bytes).new((millis + later) * 1_000_000)


FORKED = """
import os
from farebox.core.ids import new_request_id
print(new_request_id(0), flush=True)
child = os.fork()
for _ in range(100):
    os.write(1, new_request_id(0).encode() + b"\\n")
if child:
    os.waitpid(child, 0)
"""


def test_what_was_drawn_for_ids_to_come_is_used_once() -> None:
    """By this process alone: one that was forked draws for itself."""
    told = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, check=True)
    made = told.stdout.split()
    assert len(set(made)) == len(made) == 201


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

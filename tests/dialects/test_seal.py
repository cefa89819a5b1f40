"""Texts that clients keep for us."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.seal import Foreign, Seal, is_ours

SEAL = Seal(b"k" * 32)


@given(st.text(st.characters(exclude_categories=[])), st.integers(1, 2**40))
def test_what_is_sealed_opens_for_its_account(text: str, account_id: int) -> None:
    """Any text at all, also one with halves of surrogate pairs."""
    blob = SEAL.seal(account_id, "reasoning", text)
    assert is_ours(blob)
    assert SEAL.open(account_id, "reasoning", blob) == text


def test_a_blob_is_bound_to_account_purpose_and_key() -> None:
    """Nobody else can use it, not even as something else."""
    blob = SEAL.seal(7, "reasoning", "the thought")
    for seal, account_id, purpose in (
        (SEAL, 8, "reasoning"),
        (SEAL, 7, "compaction"),
        (Seal(b"x" * 32), 7, "reasoning"),
    ):
        with pytest.raises(Foreign):
            seal.open(account_id, purpose, blob)  # type: ignore[arg-type]


@given(st.data())
def test_a_changed_blob_never_gives_another_text(data: st.DataObject) -> None:
    """Whichever character was changed, cut or added: base64 has a few ways to write one thing."""
    blob = SEAL.seal(7, "reasoning", "the thought")
    at = data.draw(st.integers(4, len(blob) - 1))
    letter = data.draw(st.sampled_from("AZaz09-_+/= é\n"))
    ways = [blob[:at], blob[:at] + letter + blob[at:], blob[:at] + letter + blob[at + 1 :]]
    try:
        text = SEAL.open(7, "reasoning", data.draw(st.sampled_from(ways)))
    except Foreign:
        return
    assert text == "the thought"


@given(st.text())
def test_rubbish_is_foreign(text: str) -> None:
    """And nothing worse."""
    with pytest.raises(Foreign):
        SEAL.open(1, "compaction", "fb1." + text)


def test_nothing_of_the_text_can_be_read_or_guessed() -> None:
    """The same text twice gives two blobs."""
    one, other = (SEAL.seal(1, "reasoning", "canary canary") for _ in range(2))
    assert one != other
    assert "canary" not in one

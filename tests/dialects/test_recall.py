"""Reasoning remembered by the calls that it led to."""

from __future__ import annotations

from farebox.dialects.recall import Recall


def test_reasoning_is_found_by_each_of_its_calls() -> None:
    """Within its own account only."""
    recall = Recall()
    recall.note(1, ["call_a", "call_b"], "because")
    assert recall.find(1, "call_a") == recall.find(1, "call_b") == "because"
    assert recall.find(2, "call_a") is None
    assert recall.find(1, "call_c") is None


def test_a_call_that_comes_again_has_its_latest_reasoning() -> None:
    """Some upstreams begin anew with the same ids."""
    recall = Recall()
    recall.note(1, ["call_0"], "first")
    recall.note(1, ["call_0"], "second")
    assert recall.find(1, "call_0") == "second"


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    """However much is noted, also a text that is larger than all of it."""
    recall = Recall(max_bytes=10_000)
    for n in range(100):
        recall.note(1, [f"call_{n}"], "x" * 100)
    assert recall.find(1, "call_99") is not None
    assert recall.find(1, "call_0") is None
    recall.note(1, ["huge"], "x" * 100_000)
    assert recall.find(1, "huge") is None
    assert recall.find(1, "call_99") is None
    recall.note(1, ["small"], "y")
    assert recall.find(1, "small") == "y"

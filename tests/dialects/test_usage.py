"""Usage as vendors report it, in disjoint classes; absurd reports count as none."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.billing.charge import bill
from farebox.core.price import Price
from farebox.core.usage import CLASSES, Usage
from farebox.dialects.usage import Reading, read_usage
from tests.billing.values import PPM, at, prices

NOON = at("2026-11-23T12:00:00")
ANTHROPIC = {
    "input_tokens": 2048,
    "cache_read_input_tokens": 1800,
    "cache_creation_input_tokens": 248,
    "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
    "output_tokens": 503,
}

COMPACTION = {
    "type": "compaction",
    "input_tokens": 1,
    "cache_read_input_tokens": 2,
    "cache_creation_input_tokens": 3,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 1},
    "output_tokens": 4,
}
MESSAGE = {**COMPACTION, "type": "message"}
ADVISER = {**COMPACTION, "type": "advisor_message", "model": "another"}


def chat(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        **more,
    }


SHAPES: dict[str, tuple[dict[str, Any], Usage, tuple[str, ...]]] = {
    "openai": (
        chat(
            100,
            50,
            prompt_tokens_details={
                "cached_tokens": 40,
                "cache_write_tokens": 10,
                "audio_tokens": 20,
                "image_tokens": 5,
            },
            completion_tokens_details={
                "reasoning_tokens": 30,
                "audio_tokens": 8,
                "accepted_prediction_tokens": 3,
                "rejected_prediction_tokens": 4,
            },
        ),
        Usage(25, 40, 10, audio_input=20, image_input=5, output=42, audio_output=8),
        (),
    ),
    "openai, all details null": (
        chat(100, 50, prompt_tokens_details=None, completion_tokens_details=None),
        Usage(100, output=50),
        (),
    ),
    "openai, each detail null": (
        chat(
            9,
            5,
            prompt_tokens_details={"cached_tokens": None},
            completion_tokens_details={"reasoning_tokens": None},
        ),
        Usage(9, output=5),
        (),
    ),
    "openai, the write overlaps the read": (
        chat(100, 0, prompt_tokens_details={"cached_tokens": 80, "cache_write_tokens": 30}),
        Usage(0, 80, 20),
        ("write_overlap",),
    ),
    "more read than there was": (
        chat(100, 0, prompt_tokens_details={"cached_tokens": 120, "audio_tokens": 9}),
        Usage(0, 100),
        ("cached_exceeds_prompt",),
    ),
    "responses": (
        {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
            "output_tokens": 50,
            "output_tokens_details": {"reasoning_tokens": 30},
            "total_tokens": 150,
        },
        Usage(50, 40, 10, output=50),
        (),
    ),
    "deepseek": (
        chat(
            100,
            50,
            prompt_cache_hit_tokens=64,
            prompt_cache_miss_tokens=36,
            prompt_tokens_details={"cached_tokens": 64},
        ),
        Usage(36, 64, output=50),
        (),
    ),
    "deepseek, without details or prompt": (
        {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36, "completion_tokens": 5},
        Usage(36, 64, output=5),
        (),
    ),
    "kimi": (chat(100, 50, cached_tokens=30), Usage(70, 30, output=50), ()),
    "xai": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "total_tokens": 150,
            "completion_tokens_details": {"reasoning_tokens": 40},
        },
        Usage(100, output=50),
        (),
    ),
    "reasoning is inside wherever the total says so": (
        chat(100, 50, completion_tokens_details={"reasoning_tokens": 40}),
        Usage(100, output=50),
        (),
    ),
    "a total that fits nothing": (
        {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 111},
        Usage(100, output=10),
        (),
    ),
    "anthropic": (ANTHROPIC, Usage(2048, 1800, 148, 100, output=503), ()),
    "anthropic, nulls": (
        {"input_tokens": 7, "cache_read_input_tokens": 0, "cache_creation": None},
        Usage(7),
        (),
    ),
    "anthropic, no cache": ({"input_tokens": 7, "output_tokens": 3}, Usage(7, output=3), ()),
    "anthropic, a later figure without a split": (
        {**ANTHROPIC, "cache_creation_input_tokens": 300},
        Usage(2048, 1800, 200, 100, output=503),
        (),
    ),
    "anthropic, a split that is more than its sum": (
        {**ANTHROPIC, "cache_creation_input_tokens": 90},
        Usage(2048, 1800, 148, 100, output=503),
        (),
    ),
    "anthropic, a split alone": (
        {"input_tokens": 7, "cache_creation": ANTHROPIC["cache_creation"], "output_tokens": 3},
        Usage(7, 0, 148, 100, output=3),
        (),
    ),
    "anthropic, compacted on the way": (
        {**ANTHROPIC, "iterations": [COMPACTION, MESSAGE, COMPACTION, ADVISER, {}, 1]},
        Usage(2048 + 2, 1800 + 4, 148 + 4, 100 + 2, output=503 + 8),
        (),
    ),
    "anthropic, compacted without a cache": (
        {"input_tokens": 7, "output_tokens": 3, "iterations": [COMPACTION]},
        Usage(8, 2, 2, 1, output=7),
        (),
    ),
    "anthropic, iterations that are none": (
        {"input_tokens": 7, "output_tokens": 3, "iterations": {"type": "compaction"}},
        Usage(7, output=3),
        (),
    ),
    "anthropic, an estimate": (
        {"input_tokens": 7, "output_tokens": 3, "output_tokens_estimated": True},
        Usage(7, output=3),
        ("estimated",),
    ),
    "a proxy with both": (
        {**ANTHROPIC, **chat(4096, 503, prompt_tokens_details={"cached_tokens": 1800})},
        Usage(2296, 1800, output=503),
        (),
    ),
    "zero is zero": (chat(0, 0), Usage(), ()),
    "hits and misses alone": (
        chat(10, 5, prompt_cache_hit_tokens=4, prompt_cache_miss_tokens=6),
        Usage(6, 4, output=5),
        (),
    ),
    "reasoning beside the output": (
        {**chat(10, 5, completion_tokens_details={"reasoning_tokens": 3}), "total_tokens": 18},
        Usage(10, output=8),
        (),
    ),
    "only a prompt": ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8), ()),
    "the rest is output": ({"prompt_tokens": 8, "total_tokens": 20}, Usage(8, output=12), ()),
    "the rest is input": ({"completion_tokens": 8, "total_tokens": 20}, Usage(12, output=8), ()),
    "a total too small": ({"prompt_tokens": 8, "total_tokens": 5}, Usage(8), ()),
}


@pytest.mark.parametrize(("reported", "usage", "flags"), SHAPES.values(), ids=list(SHAPES))
def test_the_shape_decides(reported: dict[str, Any], usage: Usage, flags: tuple[str, ...]) -> None:
    """Not the vendor's name; decoded or still as JSON."""
    assert read_usage(reported) == Reading(usage, flags)
    assert read_usage(msgspec.Raw(msgspec.json.encode(reported))) == Reading(usage, flags)


@pytest.mark.parametrize("reported", [None, {}, [], "many", 5, {"credits": 3}, {"total_tokens": 5}])
def test_nothing_usable_is_nothing(reported: object) -> None:
    """No usage, and nothing odd about it."""
    assert read_usage(reported) == Reading(None)


ABSURD: list[object] = [-1, 1.5, "9", True, [], {}, 10**30, 10_000_001]
PLACES = [
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "prompt_cache_hit_tokens",
    "prompt_cache_miss_tokens",
    "prompt_tokens_details.cached_tokens",
    "prompt_tokens_details.cache_write_tokens",
    "prompt_tokens_details.audio_tokens",
    "prompt_tokens_details.image_tokens",
    "completion_tokens_details.reasoning_tokens",
    "completion_tokens_details.audio_tokens",
]


def as_json(reported: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(reported).encode())  # which takes integers of any size


def _with(place: str, value: object) -> dict[str, Any]:
    table, _, name = place.rpartition(".")
    return chat(9, 5, **({table: {name: value}} if table else {name: value}))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", ABSURD, ids=repr)
def test_absurd_counts_are_no_usage(place: str, value: object) -> None:
    """Negative, no whole number, or above four of the largest contexts: flagged, wherever it is."""
    reported = _with(place, value)
    assert read_usage(reported) == Reading(None, ("bad_usage",))
    assert read_usage(as_json(reported)) == Reading(None, ("bad_usage",))


@pytest.mark.parametrize("key", ["input_tokens", "cache_read_input_tokens", "output_tokens"])
def test_absurd_counts_of_anthropics_are_no_usage(key: str) -> None:
    """Too; also those of a compaction."""
    assert read_usage({**ANTHROPIC, key: -1}) == Reading(None, ("bad_usage",))
    compacted = {**ANTHROPIC, "iterations": [{**COMPACTION, key: -1}]}
    assert read_usage(compacted) == Reading(None, ("bad_usage",))


counts = st.integers(0, 50)
hostile = st.one_of(counts, counts, st.none(), st.integers(-3, 10**8), st.floats(), st.text())
details = st.dictionaries(
    st.sampled_from(
        ["cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "reasoning_tokens"]
    ),
    hostile,
)
iterations = st.fixed_dictionaries(
    {"type": st.sampled_from(["compaction", "message"])},
    optional={
        "input_tokens": hostile,
        "output_tokens": hostile,
        "cache_read_input_tokens": hostile,
        "cache_creation_input_tokens": hostile,
        "cache_creation": st.dictionaries(
            st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]), counts
        ),
    },
)
reports = st.dictionaries(
    st.sampled_from(
        [
            "prompt_tokens",
            "completion_tokens",
            "input_tokens",
            "output_tokens",
            "total_tokens",
            "cached_tokens",
            "prompt_cache_hit_tokens",
            "prompt_cache_miss_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ]
    ),
    hostile,
).flatmap(
    lambda flat: st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens_details": details | hostile,
            "input_tokens_details": details,
            "completion_tokens_details": details | hostile,
            "output_tokens_details": details,
            "cache_creation": st.dictionaries(
                st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]), hostile
            ),
            "iterations": st.lists(iterations, max_size=3),
        },
    ).map(lambda tables: {**flat, **tables})
)


ANTHROPICS = (
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "iterations",
)


def _compactions(reported: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in reported.get("iterations") or () if each["type"] == "compaction"]


def _split(part: dict[str, Any]) -> tuple[int, int]:
    split = part.get("cache_creation") or {}
    names = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    five_minutes, hour = (split.get(name) or 0 for name in names)
    return five_minutes, hour


def _written(part: dict[str, Any]) -> int:
    return max(part.get("cache_creation_input_tokens") or 0, sum(_split(part)))


@given(reports)
def test_classes_are_disjoint_and_sum_to_what_was_reported(reported: dict[str, Any]) -> None:
    """Whatever an upstream reports: no count below zero, no token twice, none lost."""
    reading = read_usage(reported)
    if reading.usage is None:
        assert reading.flags in ((), ("bad_usage",))
        return
    usage = reading.usage
    assert all(getattr(usage, name) >= 0 for name in CLASSES)
    if "prompt_tokens" not in reported and any(name in reported for name in ANTHROPICS):
        parts = [reported, *_compactions(reported)]
        assert usage.uncached_input == sum(part.get("input_tokens") or 0 for part in parts)
        assert usage.cache_read == sum(part.get("cache_read_input_tokens") or 0 for part in parts)
        assert usage.cache_write + usage.cache_write_1h == sum(map(_written, parts))
        assert usage.cache_write_1h == sum(_split(part)[1] for part in parts)
        assert usage.output == sum(part.get("output_tokens") or 0 for part in parts)
        return
    prompt = reported.get("prompt_tokens", reported.get("input_tokens"))
    output = reported.get("completion_tokens", reported.get("output_tokens"))
    if prompt is not None:
        assert usage.input_total == prompt
    if output is not None:
        inside = reported.get("completion_tokens_details")
        inside = inside if isinstance(inside, dict) else reported.get("output_tokens_details")
        reasoning = (inside or {}).get("reasoning_tokens") or 0
        assert usage.output + usage.audio_output in (output, output + reasoning)


@given(prices(), st.tuples(counts, counts, counts, counts, counts, counts))
def test_chat_and_responses_charge_equally(price: Price, sizes: tuple[int, ...]) -> None:
    """One usage in two shapes costs the same."""
    prompt, cached, written, audio, output, reasoning = sizes
    on_input = {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio}
    on_output = {"reasoning_tokens": reasoning}
    told = read_usage(
        chat(prompt, output, prompt_tokens_details=on_input, completion_tokens_details=on_output)
    )
    responses = read_usage(
        {
            "input_tokens": prompt,
            "input_tokens_details": on_input,
            "output_tokens": output,
            "output_tokens_details": on_output,
            "total_tokens": prompt + output,
        }
    )
    assert told == responses
    assert told.usage is not None
    assert responses.usage is not None
    assert bill(told.usage, price, PPM, NOON) == bill(responses.usage, price, PPM, NOON)

"""Usage that is read while it is decoded: the same as by the rules for what is decoded already."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.core.usage import Usage
from farebox.dialects.usage import Reading, read_usage
from tests.dialects.test_usage import as_json, chat

USUAL = b'"prompt_tokens":1,"completion_tokens":2,"total_tokens":3'
BROKEN = (b'"a":1e999', b'"a":"\xff"', b'"\xff":1', b'"a":"\\ud800"', b'"a":' + b"[" * 5000)


@pytest.mark.parametrize(
    "text",
    [
        b'{"prompt_tokens":1e999}',
        b'{"a":"\xff"}',
        b"[" * 5000,
        b"",
        b"{",
        b"nope",
        *(b"{%b,%b}" % (USUAL, more) for more in BROKEN),
        *(b'{%b,"prompt_tokens_details":{%b}}' % (USUAL, more) for more in BROKEN),
    ],
)
def test_usage_that_cannot_be_decoded_is_no_usage(text: bytes) -> None:
    """A number out of range, broken text, or a trap for the decoder."""
    assert read_usage(msgspec.Raw(text)) == Reading(None, ("bad_usage",))


def test_an_absurd_count_need_not_be_the_one_that_counts() -> None:
    """Hits are given in two places: an absurd one in either is no usage."""
    details = {"cached_tokens": 1}
    reported = chat(9, 5, prompt_tokens_details=details, prompt_cache_hit_tokens=10_000_001)
    assert read_usage(reported) == Reading(None, ("bad_usage",))
    assert read_usage(as_json(reported)) == Reading(None, ("bad_usage",))


def test_four_contexts_are_believed_and_no_more() -> None:
    """The model's own context is the measure where it is known."""
    for form in (dict[str, Any], as_json):
        reported = form(chat(4000, 4000))
        assert read_usage(reported, context=1000).usage == Usage(4000, output=4000)
        absurd = (chat(4001, 0), chat(0, 4001), {"prompt_tokens": 1, "total_tokens": 4002})
        for reported in map(form, absurd):
            assert read_usage(reported, context=1000) == Reading(None, ("bad_usage",))
    assert read_usage(chat(10_000_000, 0)).usage == Usage(10_000_000)


few = st.integers(0, 6)
odd_texts = st.one_of(
    *[few.map(str)] * 4, st.sampled_from(["null", "-1", "true", "1.0", '"1"', "9" * 30])
)


def _members(*names: str) -> st.SearchStrategy[str]:
    """Some of these members, in any order, some of them twice."""
    return st.lists(st.tuples(st.sampled_from(names), odd_texts), min_size=1, max_size=4).map(
        lambda pairs: ",".join(f'"{name}":{value}' for name, value in pairs)
    )


ON_INPUT = ("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens")
ON_OUTPUT = ("reasoning_tokens", "audio_tokens", "accepted_prediction_tokens")
objects = st.one_of(_members(*ON_INPUT, *ON_OUTPUT), _members(*ON_INPUT, "other")).map(
    "{%s}".__mod__
)
more_members = _members(
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "input_tokens",
    "output_tokens",
    "input_tokens_details",
    "cache_read_input_tokens",
    "other",
)


@st.composite
def usual_texts(draw: st.DrawFn) -> str:
    """Usage as JSON: mostly of the usual shape, and mostly with the right sum."""
    prompt, output = draw(few), draw(few)
    total = prompt + output if draw(few) else draw(few)
    parts = [f'"prompt_tokens":{prompt},"completion_tokens":{output},"total_tokens":{total}']
    for side, members in (("prompt", _members(*ON_INPUT)), ("completion", _members(*ON_OUTPUT))):
        if draw(st.booleans()):
            usual = members.map("{%s}".__mod__)
            found = draw(usual if draw(few) else objects | odd_texts)
            parts.append(f'"{side}_tokens_details":{found}')
    hits = _members("prompt_cache_hit_tokens", "prompt_cache_miss_tokens")
    cache = draw(hits) if draw(few) < 3 else ""
    more = draw(more_members) if not draw(few) else ""
    return "{" + ",".join(draw(st.permutations([p for p in (*parts, cache, more) if p]))) + "}"


@settings(max_examples=400)
@given(usual_texts(), st.sampled_from([None, 1]))
def test_usage_as_json_reads_as_the_same_decoded(text: str, context: int | None) -> None:
    """The usual shapes are checked while they are decoded: to the same end as by the rules."""
    decoded = msgspec.json.decode(text)
    assert read_usage(msgspec.Raw(text.encode()), context) == read_usage(decoded, context)

"""A chat completion's stream as the events of a response."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.usage import Usage
from farebox.dialects.recall import Recall
from tests.dialects.chatting import BROKEN, TEXTS, called, pieces, thought
from tests.dialects.feeding import cut
from tests.dialects.responding import SEAL, USAGE, check, events, translate
from tests.dialects.streaming import DONE, body_of, choice, chunk, finished, said

FUNCTION = {"type": "function", "name": "look", "parameters": {"type": "object"}}
OTHER = {"type": "function", "name": "other"}
PATCH = {"type": "custom", "name": "apply_patch", "format": {"type": "text"}}
SPACE = {"type": "namespace", "name": "clock", "tools": [{"type": "function", "name": "now"}]}
REPORTED = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def test_a_text_is_a_message_in_openais_order_of_events() -> None:
    """Added, part, deltas, done three times, completed; numbered from 0."""
    passed = translate([body_of(said("Hel"), said("lo"), finished(usage=REPORTED), DONE)])
    assert passed.types == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    response = check(passed)
    assert response.output_text == "Hello"
    assert passed.response["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }
    assert (passed.response["id"], passed.response["model"]) == ("resp_abc", "m")
    assert passed.response["completed_at"] == 1_790_000_009


def test_nothing_that_ends_an_item_leaves_before_the_charge() -> None:
    """What leaves at once are the deltas; from the finish reason on all is kept."""
    passed = translate([body_of(said("Hi"), finished(usage=REPORTED), DONE)])
    assert [event["type"] for event in events(passed.sent)][-1] == "response.output_text.delta"
    assert passed.stream.usage is not None


def test_nothing_leaves_before_something_was_written() -> None:
    """So that another channel may still be tried: roles and empty pieces are nothing."""
    passed = translate([body_of(chunk(choice({"role": "assistant", "content": ""})), said(""))])
    assert (passed.sent, passed.ending, passed.stream.started) == (b"", False, True)


def test_reasoning_is_a_summary_before_the_message() -> None:
    """And comes back sealed to clients that ask for it."""
    parts = [body_of(thought("Let me "), thought("see."), said("Yes"), finished(), DONE)]
    passed = translate(parts, include=["reasoning.encrypted_content"])
    check(passed)
    reasoning, message = passed.items
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Let me see."}]
    assert SEAL.open(1, "reasoning", reasoning["encrypted_content"]) == "Let me see."
    assert message["content"][0]["text"] == "Yes"
    plain = translate(parts)
    assert "encrypted_content" not in plain.items[0]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names(name: str) -> None:
    """What comes under both at once is written once."""
    passed = translate(
        [
            body_of(
                chunk(choice({name: "Hm"})),
                chunk(choice({"reasoning": "!", "reasoning_content": "!"})),
                finished(),
                DONE,
            )
        ]
    )
    assert passed.items[0]["summary"][0]["text"] == "Hm!"


def test_parallel_calls_mixed_by_index_are_two_items() -> None:
    """Each with the pieces of its own arguments, closed at the end in their order."""
    passed = translate(
        [
            body_of(
                said("Looking"),
                called(0, "call_aaaaaaaaaaaa", "look", ""),
                called(1, "call_bbbbbbbbbbbb", "other", '{"b"'),
                called(0, arguments='{"a": 1}'),
                called(1, arguments=": 2}"),
                finished("tool_calls"),
                DONE,
            )
        ],
        tools=[FUNCTION, OTHER],
    )
    check(passed)
    message, one, two = passed.items
    assert message["type"] == "message"
    assert (one["name"], one["arguments"], one["call_id"]) == (
        "look",
        '{"a": 1}',
        "call_aaaaaaaaaaaa",
    )
    assert (two["name"], two["arguments"], two["status"]) == ("other", '{"b": 2}', "completed")


def test_a_call_without_arguments_has_an_empty_object() -> None:
    """Clients decode them as JSON."""
    passed = translate(
        [body_of(called(0, "call_aaaaaaaaaaaa", "look"), finished("tool_calls"), DONE)],
        tools=[FUNCTION],
    )
    check(passed)
    assert passed.items[0]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ('{"input": "*** Begin\\nPatch"}', "*** Begin\nPatch"),
        ('{"patch": "only text"}', "only text"),
        ('"a text"', "a text"),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"input": 5}', '{"input": 5}'),
        ('{"a": "x", "b": "y"}', '{"a": "x", "b": "y"}'),
    ],
)
def test_a_custom_tool_gets_its_text(written: str, wanted: str) -> None:
    """Whatever way the model wrote it; never as a function call."""
    passed = translate(
        [
            body_of(
                called(0, "call_aaaaaaaaaaaa", "apply_patch", written[:5]),
                called(0, arguments=written[5:]),
                finished("tool_calls"),
                DONE,
            )
        ],
        tools=[PATCH],
    )
    check(passed)
    (item,) = passed.items
    assert (item["type"], item["input"]) == ("custom_tool_call", wanted)
    deltas = [e["delta"] for e in passed.events if e["type"].endswith("call_input.delta")]
    assert "".join(deltas) == wanted


def test_a_namespace_comes_back() -> None:
    """Codex calls a tool of one by name and namespace, not by the flat name."""
    passed = translate(
        [body_of(called(0, "call_aaaaaaaaaaaa", "clock__now", "{}"), finished("tool_calls"), DONE)],
        tools=[SPACE],
    )
    check(passed)
    assert (passed.items[0]["name"], passed.items[0]["namespace"]) == ("now", "clock")


@pytest.mark.parametrize("first", ["call_0", None, ""])
def test_a_poor_call_id_becomes_one_of_ours(first: str | None) -> None:
    """Some upstreams begin anew with call_0 in every answer, or give none."""
    passed = translate(
        [body_of(called(0, first, "look", "{}"), finished("tool_calls"), DONE)], tools=[FUNCTION]
    )
    check(passed)
    assert passed.items[0]["call_id"].startswith("call_")
    assert len(passed.items[0]["call_id"]) > 8


def test_reasoning_is_remembered_by_the_calls_it_led_to() -> None:
    """For clients that do not return it."""
    recall = Recall()
    parts = [
        body_of(
            thought("I must look."),
            called(0, "call_aaaaaaaaaaaa", "look", "{}"),
            finished("tool_calls"),
            DONE,
        )
    ]
    translate(parts, recall, tools=[FUNCTION])
    assert recall.find(1, "call_aaaaaaaaaaaa") == "I must look."


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("length", "max_output_tokens"),
        ("content_filter", "content_filter"),
        ("sensitive", "content_filter"),
    ],
)
def test_an_answer_cut_off_is_incomplete(reason: str, told: str) -> None:
    """With its reason; a call that was cut does not look completed."""
    passed = translate(
        [
            body_of(
                said("Hi"), called(0, "call_aaaaaaaaaaaa", "look", '{"a'), finished(reason), DONE
            )
        ],
        tools=[FUNCTION],
    )
    check(passed)
    assert passed.response["status"] == "incomplete"
    assert passed.response["incomplete_details"] == {"reason": told}
    assert passed.items[-1]["status"] == "incomplete"


def test_a_refusal_is_a_part_of_its_own() -> None:
    """Beside the text before it."""
    passed = translate(
        [
            body_of(
                said("Well"),
                chunk(choice({"refusal": "No"})),
                chunk(choice({"refusal": "."})),
                finished(),
                DONE,
            )
        ]
    )
    check(passed)
    assert passed.items[0]["content"][1] == {"type": "refusal", "refusal": "No."}


def test_an_answer_of_nothing_is_an_empty_message() -> None:
    """Clients look for one."""
    passed = translate([body_of(finished(), DONE)])
    assert check(passed).output_text == ""
    assert passed.items[0]["content"][0]["text"] == ""


def test_usage_behind_the_finish_is_read() -> None:
    """In a chunk of its own without choices, as OpenAI sends it."""
    passed = translate([body_of(said("Hi"), finished(), chunk(usage=REPORTED), DONE)])
    check(passed)
    assert passed.stream.usage is not None
    assert passed.response["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


def test_text_behind_the_finish_is_kept_for_the_tail() -> None:
    """It belongs to the answer, and leaves after the charge."""
    passed = translate([body_of(said("Hi"), finished(), said("there"), DONE)])
    check(passed)
    assert passed.items[0]["content"][0]["text"] == "Hithere"
    assert b"there" not in passed.sent


def test_logprobs_stay_with_their_text() -> None:
    """In the deltas and in the done part."""
    log = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}
    with_log = chunk(choice({"content": "Hi"}, logprobs={"content": [log]}))
    passed = translate([body_of(with_log, finished(), DONE)], top_logprobs=1)
    check(passed)
    assert passed.items[0]["content"][0]["logprobs"] == [log]


@pytest.mark.parametrize(("parts", "failure", "error"), BROKEN)
def test_what_has_no_end_is_no_answer(parts: list[bytes], failure: Any, error: Any) -> None:
    """No terminal event comes of it; the relay sends the failure."""
    passed = translate(parts)
    assert (passed.ending, passed.failure, passed.error) == (False, failure, error)
    assert passed.tail == b""


def test_a_compaction_is_one_sealed_item() -> None:
    """Nothing of the summary is seen; it opens for its account alone."""
    items = [{"role": "user", "content": "work"}, {"type": "compaction_trigger"}]
    passed = translate(
        [body_of(thought("…"), said("We did "), said("this."), finished(), DONE)], input=items
    )
    (item,) = passed.items
    assert passed.sent == b""
    assert item["type"] == "compaction"
    assert SEAL.open(1, "compaction", item["encrypted_content"]) == "We did this."
    assert passed.response["output"] == [item]
    assert b"We did" not in passed.tail


def test_a_compaction_without_a_summary_has_failed() -> None:
    """Codex ends the session over one, so another channel is tried."""
    items = [{"role": "user", "content": "work"}, {"type": "compaction_trigger"}]
    assert translate([body_of(finished(), DONE)], input=items).failure == "no_summary"


def test_what_is_told_is_what_is_charged() -> None:
    """Also where the upstream reported nothing and the usage is an estimate."""
    told = translate([body_of(said("Hi"), finished(), DONE)], usage=Usage(100, 0, 7, output=3))
    assert told.response["usage"]["input_tokens"] == 107
    assert told.response["usage"]["input_tokens_details"]["cache_write_tokens"] == 7
    assert told.response["usage"]["total_tokens"] == 110


@given(
    pieces(["look", "apply_patch", "clock__now", "unknown"], TEXTS),
    st.sampled_from(["stop", "length", "tool_calls"]),
    st.data(),
)
def test_wherever_the_reads_cut_the_events_are_the_same(
    written: list[Any], reason: str, data: st.DataObject
) -> None:
    """At once, in random pieces and byte by byte; and all rules of a good stream hold."""
    body = body_of(*written, finished(reason), chunk(usage=REPORTED), DONE)
    tools = [FUNCTION, PATCH, SPACE]
    at_once = translate([body], tools=tools)
    if at_once.failure is None:
        check(at_once)
    for others in (data.draw(cut(body)), [bytes([byte]) for byte in body]):
        passed = translate(others, tools=tools)
        assert passed.sent + passed.tail == at_once.sent + at_once.tail
        assert passed.failure == at_once.failure


def test_usage_constant_is_what_the_reported_one_says() -> None:
    """The two of this file agree, so that the tests above compare like with like."""
    assert (USAGE.input_total, USAGE.output) == (9, 5)

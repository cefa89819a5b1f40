"""A chat completion's stream as the events of a message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.usage import Usage
from farebox.dialects.recall import Recall
from tests.dialects.accumulating import (
    SEAL,
    accumulated,
    check_order,
    events,
    translate,
)
from tests.dialects.chatting import A_CALL, BROKEN, TEXTS, called, pieces, thought
from tests.dialects.feeding import cut
from tests.dialects.streaming import DONE, body_of, choice, chunk, finished, said

REPORTED = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def test_a_text_is_a_message_in_anthropics_order_of_events() -> None:
    """Whole events, as they leave; the input is told at the end, where it is known."""
    passed = translate([body_of(said("Hel"), said("lo"), finished(usage=REPORTED), DONE)])
    no_usage = {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }
    assert passed.events == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_abc",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": no_usage,
            },
        },
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hel"},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {
                "input_tokens": 6,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 3,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 2},
            },
        },
        {"type": "message_stop"},
    ]
    assert accumulated(passed)["content"] == [{"type": "text", "text": "Hello"}]


def test_nothing_that_ends_a_message_leaves_before_the_charge() -> None:
    """What leaves at once are the deltas; from the finish reason on all is kept."""
    passed = translate([body_of(said("Hi"), finished(usage=REPORTED), DONE)])
    assert [event["type"] for event in events(passed.sent)][-1] == "content_block_delta"
    assert passed.stream.usage is not None


def test_nothing_leaves_before_something_was_written() -> None:
    """So that another channel may still be tried: roles and empty pieces are nothing."""
    passed = translate([body_of(chunk(choice({"role": "assistant", "content": ""})), said(""))])
    assert (passed.sent, passed.tail, passed.stream.started) == (b"", b"", True)


def test_an_answer_of_nothing_is_a_message_without_content() -> None:
    """Which the SDK's helper takes."""
    passed = translate([body_of(finished(), DONE)])
    assert passed.types == ["message_start", "message_delta", "message_stop"]
    assert accumulated(passed)["content"] == []


def test_thoughts_are_a_block_whose_signature_is_theirs_sealed() -> None:
    """The signature comes before the block's end, and the text behind it."""
    passed = translate(
        [body_of(thought("Let me "), thought("see."), said("Yes"), finished(), DONE)]
    )
    assert passed.types == [
        "message_start",
        "content_block_start",
        "thinking_delta",
        "thinking_delta",
        "signature_delta",
        "content_block_stop",
        "content_block_start",
        "text_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    thinking, text = accumulated(passed)["content"]
    assert thinking["thinking"] == "Let me see."
    assert SEAL.open(1, "reasoning", thinking["signature"]) == "Let me see."
    assert text == {"type": "text", "text": "Yes"}


def test_omitted_thoughts_are_a_signature_alone() -> None:
    """Which opens to the text that did not leave."""
    parts = [body_of(thought("Let me see."), said("Yes"), finished(), DONE)]
    passed = translate(parts, omits=True)
    assert b"see" not in passed.sent + passed.tail
    thinking, _ = accumulated(passed)["content"]
    assert thinking["thinking"] == ""
    assert SEAL.open(1, "reasoning", thinking["signature"]) == "Let me see."


def test_who_did_not_ask_for_thoughts_gets_none() -> None:
    """Simple code reads the text of the first block; and what goes on is not cut in two."""
    parts = [body_of(thought("Hm"), said("Yes"), thought("no"), said(", yes"), finished(), DONE)]
    passed = translate(parts, shows=False)
    assert accumulated(passed)["content"] == [{"type": "text", "text": "Yes, yes"}]
    assert translate([body_of(thought("Hm"))], shows=False).sent == b""


@pytest.mark.parametrize("sight", [{}, {"omits": True}, {"shows": False}])
def test_thoughts_are_remembered_by_the_calls_that_they_led_to(sight: dict[str, Any]) -> None:
    """For clients that do not return them, whether they see them or not."""
    recall = Recall()
    call = called(0, A_CALL, "look", "{}")
    translate(
        [body_of(thought("I must "), thought("look."), call, finished("tool_calls"), DONE)],
        recall,
        **sight,
    )
    assert recall.find(1, A_CALL) == "I must look."


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("sensitive", "refusal"),
        ("tool_calls", "end_turn"),
        ("something_new", "end_turn"),
    ],
)
def test_stop_reasons_are_anthropics(reason: str, told: str) -> None:
    """No tool use without a call: clients would send the results of none."""
    passed = translate([body_of(said("Hi"), finished(reason), DONE)])
    assert passed.ending == {"stop_reason": told, "stop_sequence": None}


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call"])
def test_calls_are_tool_use_whatever_the_upstream_says(reason: str) -> None:
    """Some say `stop` and mean the call."""
    passed = translate([body_of(called(0, A_CALL, "look", "{}"), finished(reason), DONE)])
    assert passed.ending["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("stopped_by", "told"),
    [
        ("END", {"stop_reason": "stop_sequence", "stop_sequence": "END"}),
        ("other", {"stop_reason": "end_turn", "stop_sequence": None}),
        (151643, {"stop_reason": "end_turn", "stop_sequence": None}),
        (None, {"stop_reason": "end_turn", "stop_sequence": None}),
    ],
)
def test_a_stop_sequence_is_told_where_the_upstream_tells_it(
    stopped_by: Any, told: dict[str, Any]
) -> None:
    """vLLM gives the text, or a token's number, beside the finish reason."""
    end = chunk(choice({}, "stop", stop_reason=stopped_by))
    passed = translate([body_of(said("Hi"), end, DONE)], stops=("END", "STOP"))
    assert passed.ending == told


def test_a_refusal_is_text_in_a_block_of_its_own() -> None:
    """Behind the text before it; and the message says so, where chat calls it an ordinary end."""
    refusal = [chunk(choice({"refusal": text})) for text in ("No", ".")]
    passed = translate([body_of(said("Well"), *refusal, finished(), DONE)])
    assert [block["text"] for block in accumulated(passed)["content"]] == ["Well", "No."]
    assert passed.ending == {"stop_reason": "refusal", "stop_sequence": None}


def test_text_behind_the_finish_is_kept_for_the_tail() -> None:
    """It belongs to the answer, and leaves after the charge."""
    passed = translate([body_of(said("Hi"), finished(), said("there"), DONE)])
    assert accumulated(passed)["content"] == [{"type": "text", "text": "Hithere"}]
    assert b"there" not in passed.sent


def test_what_is_kept_has_a_limit() -> None:
    """An upstream that goes on for ever has failed."""
    more = [said("x" * 200) for _ in range(20)]
    passed = translate([body_of(said("Hi"), finished(), *more, DONE)], limit=2000)
    assert (passed.failure, passed.tail) == ("tail_too_large", b"")


@pytest.mark.parametrize(("parts", "failure", "error"), BROKEN)
def test_what_has_no_end_is_no_answer(parts: list[bytes], failure: Any, error: Any) -> None:
    """No clean end comes of it; the relay sends the failure."""
    passed = translate(parts)
    assert (passed.failure, passed.error, passed.tail) == (failure, error, b"")
    assert b"message_delta" not in passed.sent


def test_what_is_told_is_what_is_charged() -> None:
    """Also where the upstream reported nothing and the usage is an estimate."""
    usage = Usage(100, cache_read=1, cache_write=2, cache_write_1h=4, audio_input=8, output=3)
    passed = translate([body_of(said("Hi"), finished(), DONE)], usage=usage)
    assert passed.events[-2]["usage"] == {
        "input_tokens": 108,
        "cache_creation_input_tokens": 6,
        "cache_read_input_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 4},
        "output_tokens": 3,
        "output_tokens_details": {"thinking_tokens": 0},
    }


objects = st.dictionaries(TEXTS, st.integers() | TEXTS | st.just({"a": []}), max_size=2)
arguments = st.one_of(TEXTS, objects.map(json.dumps), st.sampled_from(["", " ", "null", "[]"]))


@given(
    pieces(["look", "long_0123", "unknown"], arguments),
    st.sampled_from(["stop", "length", "tool_calls"]),
    st.booleans(),
    st.data(),
)
def test_wherever_the_reads_cut_the_events_are_the_same(
    written: list[Any], reason: str, shows: bool, data: st.DataObject
) -> None:
    """At once, in random pieces and byte by byte, and blocks stand in order."""
    body = body_of(*written, finished(reason), chunk(usage=REPORTED), DONE)
    at_once = translate([body], shows=shows)
    if at_once.failure is None:
        check_order(at_once.events)
    for others in (data.draw(cut(body)), [bytes([byte]) for byte in body]):
        passed = translate(others, shows=shows)
        assert (passed.sent, passed.tail) == (at_once.sent, at_once.tail)
        assert passed.failure == at_once.failure

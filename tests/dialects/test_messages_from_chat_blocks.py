"""Tool calls in chat's chunks as blocks of a message."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dialects.accumulating import accumulated, events, inputs, translate
from tests.dialects.chatting import A_CALL, B_CALL, called
from tests.dialects.streaming import DONE, body_of, finished, said


def test_a_tool_call_has_its_own_name_and_leaves_as_it_is_written() -> None:
    """Arguments are pieces of JSON; the name is the client's, not the upstream's."""
    passed = translate(
        [
            body_of(
                called(0, A_CALL, "long_0123", '{"a"'),
                called(0, arguments=": 1}"),
                finished("tool_calls"),
                DONE,
            )
        ]
    )
    starts = [each for each in passed.events if each["type"] == "content_block_start"]
    assert [each["content_block"] for each in starts] == [
        {"type": "tool_use", "id": A_CALL, "name": "a/long name", "input": {}}
    ]
    deltas = [each for each in events(passed.sent) if each["type"] == "content_block_delta"]
    assert [each["delta"]["partial_json"] for each in deltas] == ['{"a"', ": 1}"]
    assert inputs(accumulated(passed)) == [("a/long name", {"a": 1})]
    assert passed.ending == {"stop_reason": "tool_use", "stop_sequence": None}


def test_mixed_pieces_of_parallel_calls_are_blocks_in_order() -> None:
    """The first leaves as it comes; the one behind it waits until the first is whole."""
    passed = translate(
        [
            body_of(
                said("Looking"),
                called(0, A_CALL, "look"),
                called(1, B_CALL, "other", '{"b"'),
                called(0, arguments='{"a": '),
                called(1, arguments=": "),
                called(0, arguments='{"c": 1}}'),
                called(1, arguments="2}"),
                finished("tool_calls"),
                DONE,
            )
        ]
    )
    message = accumulated(passed)
    assert inputs(message) == [("look", {"a": {"c": 1}}), ("other", {"b": 2})]
    deltas = [each for each in events(passed.sent) if each["type"] == "content_block_delta"]
    assert [(each["index"], *list(each["delta"].values())[1:]) for each in deltas] == [
        (0, "Looking"),
        (1, '{"a": '),
        (1, '{"c": 1}}'),
        (2, '{"b": '),
        (2, "2}"),
    ]


def test_a_call_that_is_never_whole_lets_the_next_wait_for_the_end() -> None:
    """Its arguments may still come; then all leave behind one another."""
    passed = translate(
        [
            body_of(
                called(0, A_CALL, "look"),
                called(1, B_CALL, "look", '{"b": 2}'),
                said("And?"),
                finished("tool_calls"),
                DONE,
            )
        ]
    )
    assert len(events(passed.sent)) == 2
    message = accumulated(passed)
    assert inputs(message) == [("look", {}), ("look", {"b": 2})]
    assert message["content"][2] == {"type": "text", "text": "And?"}


def test_a_long_call_that_looks_whole_again_and_again_is_not_read_each_time() -> None:
    """A thousand pieces end as an object does; the call behind them waits for the end."""
    passed = translate(
        [
            body_of(
                called(0, A_CALL, "look", '{"a": [{}'),
                called(1, B_CALL, "look", "{}"),
                *(called(0, arguments=", {}") for _ in range(1000)),
                called(0, arguments="]}"),
                finished("tool_calls"),
                DONE,
            )
        ]
    )
    assert inputs(accumulated(passed)) == [("look", {"a": [{}] * 1001}), ("look", {})]
    assert B_CALL.encode() not in passed.sent


def test_what_comes_behind_a_whole_call_is_no_part_of_it() -> None:
    """Its block has had its end when the next one began."""
    passed = translate(
        [
            body_of(
                called(0, A_CALL, "look", '{"a": 1}'),
                called(1, B_CALL, "look", '{"b": 2}'),
                called(0, arguments=" \n"),
                called(0, arguments='{"a": 2}'),
                finished("tool_calls"),
                DONE,
            )
        ]
    )
    assert inputs(accumulated(passed)) == [("look", {"a": 1}), ("look", {"b": 2})]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("", {}),
        (" ", {}),
        ("null", {}),
        ('"text"', {"value": "text"}),
        ("[1, 2]", {"value": [1, 2]}),
        ("5", {"value": 5}),
        ("*** Begin Patch", {"input": "*** Begin Patch"}),
        (' {"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
    ],
)
def test_an_input_is_an_object_whatever_was_written(written: str, wanted: Any) -> None:
    """Clients take nothing else; their own check tells the model what it wrote."""
    half = len(written) // 2
    passed = translate(
        [
            body_of(
                called(0, A_CALL, "look", written[:half]),
                called(0, arguments=written[half:]),
                finished("tool_calls"),
                DONE,
            )
        ]
    )
    assert inputs(accumulated(passed)) == [("look", wanted)]


def test_a_call_that_was_cut_off_is_given_as_far_as_it_came() -> None:
    """With the reason, so that nobody runs it."""
    passed = translate([body_of(called(0, A_CALL, "look", '{"a": "b'), finished("length"), DONE)])
    assert inputs(accumulated(passed)) == [("look", {})]
    assert passed.ending["stop_reason"] == "max_tokens"
    assert b'\\"b' in passed.sent


def test_arguments_may_come_before_the_name() -> None:
    """They wait for it, and for the id."""
    passed = translate(
        [
            body_of(
                called(0, arguments='{"a"'),
                called(0, arguments=": 1"),
                called(0, A_CALL, "look", "}"),
                finished("tool_calls"),
                DONE,
            )
        ]
    )
    assert inputs(accumulated(passed)) == [("look", {"a": 1})]


def test_a_tool_that_was_never_named_is_no_answer() -> None:
    """It is known before the charge."""
    passed = translate([body_of(called(0, arguments="{}"), finished("tool_calls"), DONE)])
    assert (passed.failure, passed.tail) == ("no_tool_name", b"")


@pytest.mark.parametrize("first", ["call_0", None, "", "functions.look:0", "call_aaaaaaaaaaa!"])
def test_a_poor_call_id_becomes_one_of_ours(first: str | None) -> None:
    """Short ones come again in the next answer, and other letters are refused when they return."""
    passed = translate([body_of(called(0, first, "look", "{}"), finished("tool_calls"), DONE)])
    (call,) = accumulated(passed)["content"]
    assert call["id"] == "toolu_abc01"


def test_an_id_that_comes_twice_is_given_once() -> None:
    """Results name the call by it. The same id with another index is another call."""
    passed = translate(
        [
            body_of(
                called(0, A_CALL, "look", "{}"),
                called(1, A_CALL, "look", "{}"),
                finished("tool_calls"),
                DONE,
            )
        ]
    )
    one, two = accumulated(passed)["content"]
    assert (one["id"], two["id"]) == (A_CALL, "toolu_abc02")

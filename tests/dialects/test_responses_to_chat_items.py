"""Items of every kind become chat messages that the strictest upstream takes."""

from __future__ import annotations

from typing import Any

import pytest

from farebox.dialects.recall import Recall
from farebox.dialects.responses_to_chat_items import SUMMARY_INTRO
from farebox.errors import BadRequest
from tests.dialects.translating import (
    ACCOUNT,
    PNG,
    SEAL,
    call,
    called,
    function,
    messages,
    output,
    result,
    sent,
    user,
)

F = '{"a":1}'
IMAGE = {"type": "input_image", "image_url": PNG, "detail": "original"}
SEEN = {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}}


def _said(text: str, kind: str = "output_text") -> dict[str, Any]:
    key = "refusal" if kind == "refusal" else "text"
    return {"type": "message", "role": "assistant", "content": [{"type": kind, key: text}]}


def _thought(**more: Any) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [], **more}


def _summary(text: str) -> list[dict[str, str]]:
    return [{"type": "summary_text", "text": text}]


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hi", "Hi"),
        ("", ""),
        ([], ""),
        ([{"type": "input_text", "text": "a"}], "a"),
        ([{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}], "a\n\nb"),
        ([{"type": "input_text", "text": "a", "prompt_cache_breakpoint": {}}, IMAGE], None),
        (
            [{"type": "input_image", "image_url": "https://x/y.png"}],
            [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
        ),
        (
            [{**IMAGE, "detail": "low", "file_id": None}],
            [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}],
        ),
        (
            [{"type": "input_file", "filename": "a.pdf", "file_data": "data:x"}],
            [{"type": "file", "file": {"file_data": "data:x", "filename": "a.pdf"}}],
        ),
        (
            [{"type": "input_file", "file_url": "https://x/a.pdf"}],
            [{"type": "file_url", "file_url": {"url": "https://x/a.pdf"}}],
        ),
        (
            [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}],
            [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}],
        ),
    ],
)
def test_what_users_say(content: Any, expected: Any) -> None:
    """Text is a plain string, as every upstream takes it; beside other parts it is one of them."""
    expected = [_text("a"), SEEN] if expected is None else expected
    assert messages({"type": "message", "role": "user", "content": content}) == [user(expected)]
    assert messages({"role": "user", "content": content, "id": "x", "status": "y"}) == [
        user(expected)
    ]


def test_an_answer_is_one_message_with_all_its_calls() -> None:
    """However many items it came as."""
    said = messages(
        user(),
        _said("I look."),
        call("c1"),
        {"type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "x"},
        call("c3", arguments=""),
        output("c1", "one"),
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "two"},
        output("c3", "three"),
        _said("Done."),
        _said(" Or not.", "refusal"),
    )
    assert said == [
        user(),
        called(("c1", "f", F), ("c2", "p", '{"input":"x"}'), ("c3", "f", "{}"), content="I look."),
        result("c1", "one"),
        result("c2", "two"),
        result("c3", "three"),
        {"role": "assistant", "content": "Done.\n\n Or not."},
    ]


def test_calls_of_two_answers_stay_two_messages() -> None:
    """Their results lie between them."""
    said = messages(call("c1"), output("c1"), call("c2"), output("c2"))
    assert said == [called(("c1", "f", F)), result("c1"), called(("c2", "f", F)), result("c2")]


@pytest.mark.parametrize("between", [user("Stop"), {"role": "developer", "content": "Stop"}])
def test_results_follow_their_calls_at_once(between: dict[str, Any]) -> None:
    """What was said between them comes behind them."""
    said = messages(user(), call("c1"), call("c2"), output("c2", "2"), between, output("c1", "1"))
    assert [message["role"] for message in said] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "system" if between["role"] == "developer" else "user",
    ]
    assert said[2:4] == [result("c1", "1"), result("c2", "2")]


def test_a_missing_result_is_told_as_aborted() -> None:
    """Upstreams refuse calls without one."""
    said = messages(call("c1"), call("c2"), output("c2"), user())
    assert said == [
        called(("c1", "f", F), ("c2", "f", F)),
        result("c1", "aborted"),
        result("c2"),
        user(),
    ]


def test_a_result_without_its_call_is_told_by_the_user() -> None:
    """Nothing that was said is lost."""
    assert messages(user(), output("c1", "one")) == [
        user(),
        user("The output of tool call c1:\none"),
    ]
    told = messages(output("c1", [{"type": "input_text", "text": "one"}, IMAGE]))
    assert told == [user([_text("The output of tool call c1:\none"), SEEN])]


def test_a_result_that_comes_twice_is_told_once() -> None:
    """Another one for the same call is told by the user."""
    said = messages(call("c1"), output("c1"), output("c1"), output("c1", "new"))
    assert said == [
        called(("c1", "f", F)),
        result("c1"),
        user("The output of tool call c1:\nnew"),
    ]


def test_ids_that_are_used_again_lead_to_the_nearest_call() -> None:
    """Some upstreams begin with call_0 in each answer. Within one answer an id is made two."""
    said = messages(
        call("call_0", "a"),
        user(),
        call("call_0", "b"),
        call("call_0", "c"),
        call("call_0_2", "d"),
        output("call_0", "for b"),
        output("call_0", "for c"),
        output("call_0_2", "for d"),
    )
    assert said == [
        called(("call_0", "a", F)),
        result("call_0", "aborted"),
        user(),
        called(("call_0", "b", F), ("call_0_3", "c", F), ("call_0_2", "d", F)),
        result("call_0", "for b"),
        result("call_0_3", "for c"),
        result("call_0_2", "for d"),
    ]


def test_pictures_of_results_come_behind_all_results() -> None:
    """Tool messages hold only text, and nothing may stand between them."""
    said = messages(
        call("c1"),
        call("c2"),
        call("c3"),
        output("c1", [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]),
        output("c2", [IMAGE]),
        output("c3", [{"type": "input_text", "text": "see"}, IMAGE, IMAGE]),
        user("And?"),
    )
    assert said[1:] == [
        result("c1", "a\nb"),
        result("c2", "The output is in the next message."),
        result("c3", "see"),
        user(
            [
                _text("From the output of tool call c2:"),
                SEEN,
                _text("From the output of tool call c3:"),
                SEEN,
                SEEN,
            ]
        ),
        user("And?"),
    ]


def test_reasoning_goes_with_the_answer_that_it_led_to() -> None:
    """Also where it came between the answer's parts; what led to nothing is left out."""
    known = {"content": [{"type": "reasoning_text", "text": "Hm."}]}
    more = {"content": [{"type": "reasoning_text", "text": "So."}]}
    said = messages(
        _thought(**known),
        _said("A"),
        _thought(**more),
        call("c1"),
        output("c1"),
        _thought(**known),
        user(),
        _said("B"),
    )
    assert said == [
        called(("c1", "f", F), content="A", reasoning_content="Hm.\n\nSo."),
        result("c1"),
        user(),
        {"role": "assistant", "content": "B"},
    ]


def test_reasoning_between_results_belongs_to_what_follows() -> None:
    """As where a client sorts the results of parallel calls."""
    thought = _thought(summary=_summary("Hm."))
    said = messages(call("c1"), call("c2"), output("c1"), thought, output("c2"), _said("B"))
    assert said[-1] == {"role": "assistant", "content": "B", "reasoning_content": "Hm."}


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ({"content": [{"type": "reasoning_text", "text": "raw"}]}, "raw"),
        ({}, "sealed"),
        ({"encrypted_content": "gAAAAABof"}, "remembered"),
        ({"encrypted_content": None}, "remembered"),
    ],
)
def test_the_best_source_of_reasoning_counts(thought: dict[str, Any], expected: str) -> None:
    """The full text, our own sealed one, what is remembered by the call's id, the summary."""
    recall = Recall()
    recall.note(ACCOUNT, ["c1"], "remembered")
    blob = SEAL.seal(ACCOUNT, "reasoning", "sealed")
    item = {"encrypted_content": blob, **thought}
    item = _thought(**item, summary=_summary("short"))
    assert messages(item, call("c1"), recall=recall)[0]["reasoning_content"] == expected


def test_without_a_better_source_the_summary_is_the_reasoning() -> None:
    """And without that there is none; what an upstream needs then, its vendor's file knows."""
    blob = "gAAAAABof"
    thought = _thought(encrypted_content=blob, summary=_summary("short"))
    assert messages(thought, call("c1"))[0]["reasoning_content"] == "short"
    assert "reasoning_content" not in messages(_thought(encrypted_content=blob), call("c1"))[0]


def test_reasoning_is_remembered_for_clients_that_drop_it() -> None:
    """By any call of the answer, and for the same account alone."""
    recall = Recall()
    recall.note(ACCOUNT, ["c2"], "remembered")
    recall.note(ACCOUNT + 1, ["c3"], "another's")
    said = messages(call("c1"), call("c2"), output("c1"), call("c3"), recall=recall)
    assert said[0]["reasoning_content"] == "remembered"
    assert "reasoning_content" not in said[-2]


def test_a_compaction_is_opened_and_told_by_the_user() -> None:
    """Whichever of its names it has; one that says only that it was is left out."""
    blob = SEAL.seal(ACCOUNT, "compaction", "We did much.")
    for kind in ("compaction", "compaction_summary", "context_compaction"):
        said = messages({"type": kind, "encrypted_content": blob}, user())
        assert said == [user(SUMMARY_INTRO + "We did much."), user()]
    assert messages({"type": "context_compaction"}, user()) == [user()]


@pytest.mark.parametrize(
    "item",
    [
        _thought(encrypted_content=SEAL.seal(ACCOUNT + 1, "reasoning", "x")),
        _thought(encrypted_content=SEAL.seal(ACCOUNT, "compaction", "x")),
        _thought(
            encrypted_content=SEAL.seal(ACCOUNT + 1, "reasoning", "x"),
            content=[{"type": "reasoning_text", "text": "raw"}],
        ),
        _thought(encrypted_content="fb1.rubbish"),
        {"type": "compaction", "encrypted_content": SEAL.seal(ACCOUNT + 1, "compaction", "x")},
        {"type": "compaction", "encrypted_content": "gAAAAABof"},
    ],
)
def test_what_was_sealed_for_another_is_refused(item: dict[str, Any]) -> None:
    """A foreign summary too: without it there is no conversation."""
    with pytest.raises(BadRequest) as raised:
        messages(user(), item)
    assert (raised.value.code, raised.value.param) == ("invalid_encrypted_content", "input")
    assert "input[1]" in raised.value.message


def test_what_chat_has_no_place_for_is_left_out_and_named() -> None:
    """What a vendor's tools did, and the like."""
    kinds = (
        "web_search_call",
        "file_search_call",
        "computer_call",
        "computer_call_output",
        "local_shell_call_output",
        "mcp_list_tools",
        "program",
        "web_search_call",
    )
    to = sent([user(), *({"type": kind, "id": "x"} for kind in kinds)])
    assert to.adjusted == tuple(f"input.{kind}=dropped" for kind in kinds[:-1])


def test_messages_between_agents_are_told_by_the_user() -> None:
    """Codex takes for sealed what a model of another vendor than OpenAI wrote in plain."""
    content = [
        {"type": "input_text", "text": "Task:"},
        {"type": "encrypted_content", "encrypted_content": "Find it."},
        {"type": "encrypted_content", "encrypted_content": "gAAAAABof"},
    ]
    item = {"type": "agent_message", "author": "/root", "recipient": "/a", "content": content}
    assert messages(item) == [user("Message from /root:\n\nTask:\n\nFind it.")]


def test_empty_answers_are_no_messages() -> None:
    """Upstreams refuse an assistant that says nothing."""
    empty = {"role": "assistant", "content": None}
    assert messages(user(), empty, {"role": "assistant", "content": []}, user()) == [user(), user()]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (5, "input[1]"),
        ({}, "input[1].type"),
        ({"type": 5}, "input[1].type"),
        ({"type": "poem"}, "input[1].type"),
        ({"id": "msg_1"}, "input[1]"),
        ({"type": "item_reference", "id": "msg_1"}, "input[1]"),
        ({"role": "tool", "content": "x"}, "input[1].role"),
        ({"role": ["user"], "content": "x"}, "input[1].role"),
        ({"type": "message", "content": "x"}, "input[1].role"),
        ({"role": "user"}, "input[1].content"),
        ({"role": "user", "content": {"type": "input_text"}}, "input[1].content"),
        ({"role": "user", "content": ["x"]}, "input[1].content[0]"),
        ({"role": "user", "content": [{"type": "video"}]}, "input[1].content[0].type"),
        ({"role": "user", "content": [{"type": ["x"]}]}, "input[1].content[0].type"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[1].content[0].text"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[1].content[0].image_url"),
        (
            {"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]},
            "input[1].content[0].file_id",
        ),
        (
            {"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]},
            "input[1].content[0].file_id",
        ),
        ({"role": "user", "content": [{"type": "input_file"}]}, "input[1].content[0].file_data"),
        ({"role": "system", "content": [IMAGE]}, "input[1].content"),
        ({"role": "assistant", "content": [IMAGE]}, "input[1].content"),
        (_thought(content=[IMAGE]), "input[1].content"),
        (call("", "f"), "input[1].call_id"),
        (call("c1", ""), "input[1].name"),
        ({**call("c1"), "arguments": {"a": 1}}, "input[1].arguments"),
        ({**call("c1"), "namespace": 5}, "input[1].namespace"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f"}, "input[1].input"),
        ({"type": "tool_search_call", "call_id": "c", "arguments": [1]}, "input[1].arguments"),
        ({"type": "tool_search_output", "call_id": "c"}, "input[1].tools"),
        ({"type": "additional_tools", "tools": [function("")]}, "input[1].tools[0].name"),
        ({"type": "function_call_output", "call_id": "c"}, "input[1].output"),
        ({"type": "function_call_output", "output": "x"}, "input[1].call_id"),
        ({"type": "compaction"}, "input[1].encrypted_content"),
        ({"type": "configuration_update", "reasoning": 5}, "input[1].reasoning"),
    ],
)
def test_malformed_items_are_named(item: Any, param: str) -> None:
    """By their place."""
    with pytest.raises(BadRequest) as raised:
        messages(user(), item)
    assert raised.value.param == param
    assert param in raised.value.message

"""What an upstream that speaks Messages says of an answer's cost, and whole answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.core.usage import Usage
from farebox.dialects.messages_stream import NativeMessage
from farebox.dialects.usage import Reading, read_usage
from farebox.errors import UpstreamFailed
from tests.dialects.native_messages import (
    CHARGED,
    SCRIPT,
    accepted,
    asked,
    body_for,
    bytes_of,
    run,
    upstream,
)
from tests.fakes.messages import message_object, message_to
from tests.fakes.messages_events import as_sse, events_of
from tests.fakes.personas import ANTHROPIC


def test_an_answer_that_broke_off_is_charged_for_what_had_come() -> None:
    """The input as it was told, the output by its text, and flagged; never above the cap."""
    found = upstream("say: " + "word " * 100, thinking=None)
    passed = run([bytes_of(found[:-2])])
    told = read_usage(found[0]["message"]["usage"]).usage
    assert told is not None
    assert passed.reading == Reading(replace(told, output=125), ("estimated",))
    capped = run([bytes_of(found[:-2])], call=asked(output_cap=50))
    assert capped.reading == Reading(replace(told, output=50), ("estimated",))


@pytest.mark.parametrize("usage", [None, "many", {}, {"input_tokens": 1}])
def test_a_usage_that_clients_could_not_read_is_mended(usage: Any) -> None:
    """The SDK counts on both counts at the beginning, and on the output at the end."""
    found = upstream("say: one two", thinking=None)
    found[0]["message"]["usage"] = found[-2]["usage"] = usage
    passed = run([bytes_of(found)])
    message = accepted(passed)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (60, 9)
    assert message.usage.cache_read_input_tokens == 40
    first = passed.events[0]["message"]["usage"]
    assert first == {
        "input_tokens": 0,
        "output_tokens": 0,
        **(usage if isinstance(usage, dict) else {}),
    }


def test_a_usage_that_was_not_charged_is_not_shown() -> None:
    """Such as one of which nobody could believe the counts; what else it says stays."""
    found = upstream()
    found[-2]["usage"] |= {"output_tokens": 10**9, "zz": 1.0}
    passed = run([bytes_of(found)], Usage(uncached_input=7, output=3))
    assert passed.reading == Reading(None, ("bad_usage",))
    shown = passed.events[-2]["usage"]
    assert (shown["input_tokens"], shown["output_tokens"], shown["zz"]) == (7, 3, 1.0)


def test_later_counts_replace_earlier_ones() -> None:
    """They are cumulative; what the last ones leave out stays as it was told first."""
    found = upstream()
    found[0]["message"]["usage"] = {
        "input_tokens": 1000,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 1,
        "speed": "fast",
    }
    between = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 4}}
    found[-2]["usage"] = {"input_tokens": 200, "cache_read_input_tokens": 800, "output_tokens": 9}
    passed = run([bytes_of([*found[:-2], between, *found[-2:]])])
    assert passed.reading == Reading(Usage(200, 800, 20, 30, output=9))
    assert passed.stream.service_tier == "fast"
    assert as_sse(between) in passed.sent


def test_a_delta_on_the_way_without_counts_gets_those_so_far() -> None:
    """Server tools can lead to several; the SDK reads the usage of each."""
    found = upstream()
    between = {"type": "message_delta", "delta": {"stop_reason": None}}
    passed = run([bytes_of([*found[:-2], between, *found[-2:]])])
    counts = found[0]["message"]["usage"]
    assert passed.events[-3] == {**between, "usage": counts}


def test_usage_behind_the_stop_reason_counts() -> None:
    """Some servers send it in a delta of its own."""
    found = upstream()
    late = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": found[-2]["usage"]}
    ending = {**found[-2], "usage": None}
    passed = run([bytes_of([*found[:-2], ending, late, found[-1]])])
    assert passed.reading == Reading(CHARGED)
    assert [event["type"] for event in passed.events[-3:]] == [
        "message_delta", "message_delta", "message_stop",
    ]  # fmt: skip
    assert all(event["usage"]["output_tokens"] == 9 for event in passed.events[-3:-1])


@pytest.mark.parametrize(
    ("requests", "ran"),
    [
        ({"web_search_requests": 3, "x_requests": 2}, (("web_search", 3), ("x", 2))),
        ({"web_search_requests": 0}, ()),
        ({"web_search_requests": -1, "web_fetch_requests": "x"}, (("web_search", 1),)),
        (None, (("web_search", 1),)),
    ],
)  # fmt: skip
def test_hosted_tools_ran_as_often_as_the_usage_says(requests: Any, ran: Any) -> None:
    """It leaves out what failed. Where it says nothing, each call is one."""
    found = upstream()
    found[-2]["usage"]["server_tool_use"] = requests
    assert run([bytes_of(found)]).stream.tool_calls == ran


@pytest.mark.parametrize(
    ("name", "kind", "tool"),
    [
        ("bash_code_execution", "server_tool_use", "code_execution"),
        ("tool_search_tool_regex", "server_tool_use", "tool_search"),
        ("anything", "mcp_tool_use", "mcp_toolset"),
    ],
)
def test_calls_count_under_the_name_that_has_a_price(name: str, kind: str, tool: str) -> None:
    """And only if it has one: what a search runs by itself comes with it."""
    block = {"type": kind, "id": "x", "name": name, "input": {}}
    begun = {"type": "content_block_start", "index": 0, "content_block": block}
    found = upstream("say: a", thinking=None)
    parts = [bytes_of([found[0], begun, *found[1:]])]
    priced = run(parts, call=replace(asked(), hosted_tools=(tool,)))
    assert priced.stream.tool_calls == ((tool, 1),)
    assert run(parts).stream.tool_calls == ()


def whole_of(script: str = SCRIPT, **changes: Any) -> tuple[dict[str, Any], NativeMessage]:
    """A whole answer as it came, and as it is read."""
    came = {**message_object(message_to(ANTHROPIC, body_for(script, {}))), **changes}
    return came, NativeMessage(json.dumps(came).encode(), asked())


def test_a_whole_message_is_the_one_that_was_asked_for() -> None:
    """Under our id and the model's name as asked; all else is what the vendor said."""
    came, whole = whole_of()
    assert json.loads(whole.tail(CHARGED)) == {**came, "id": "msg_abc", "model": "m"}
    answer = whole.answer
    assert read_usage(answer.usage) == Reading(CHARGED)
    assert (answer.tool_calls, answer.service_tier, answer.error) == (
        (("web_search", 1),),
        "standard",
        None,
    )
    assert answer.text_bytes == run([bytes_of(upstream())]).stream.text_bytes


@pytest.mark.parametrize("usage", [None, {}, "many", {"output_tokens": 10**9, "input_tokens": 1}])
def test_a_whole_answers_usage_is_what_was_charged(usage: Any) -> None:
    """Where it said nothing, or nothing that could be believed."""
    _, whole = whole_of(usage=usage)
    assert read_usage(whole.answer.usage).usage is None
    shown = json.loads(whole.tail(CHARGED))["usage"]
    assert read_usage(shown) == Reading(CHARGED)


def test_an_error_in_a_good_answer_is_an_error() -> None:
    """Whoever wrapped it into a 200."""
    body = b'{"type":"error","error":{"type":"api_error","message":"x"}}'
    error = NativeMessage(body, asked()).answer.error
    assert error == {"type": "api_error", "message": "x"}


@pytest.mark.parametrize(
    "changes", [{"stop_reason": None}, {"content": None}, {"content": "text"}, {"stop_reason": 1}]
)
def test_a_whole_answer_that_has_no_end_is_none(changes: dict[str, Any]) -> None:
    """Nothing is charged for it."""
    with pytest.raises(UpstreamFailed) as caught:
        whole_of(**changes)
    assert caught.value.reason == "bad_answer"


@pytest.mark.parametrize("body", [b"", b"[]", b"{oops", b"[" * 5000, b'{"choices":[]}'])
def test_what_is_no_message_is_no_answer(body: bytes) -> None:
    """Too."""
    with pytest.raises(UpstreamFailed):
        NativeMessage(body, asked())


@given(st.sampled_from([SCRIPT, "tools", "say: x y z\ntokens: 9 4 3 0", "finish: length"]))
def test_streamed_and_whole_charge_equally(script: str) -> None:
    """One answer in two forms."""
    message = message_to(ANTHROPIC, body_for(script, {}))
    streamed = run([bytes_of(events_of(message))])
    whole = NativeMessage(msgspec.json.encode(message_object(message)), asked()).answer
    assert streamed.reading == read_usage(whole.usage)
    assert streamed.stream.tool_calls == whole.tool_calls

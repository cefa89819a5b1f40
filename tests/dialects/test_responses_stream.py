"""Responses of an upstream that speaks the API: which events pass, and what is mended."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.usage import Usage
from farebox.dialects.responses_stream import NativeAnswer
from tests.dialects.feeding import cut
from tests.dialects.native import Passed, accepted, asked, bytes_of, charged, run, upstream
from tests.fakes.personas import OPENAI
from tests.fakes.responses import answer_for, response_object
from tests.fakes.responses_events import as_sse


def test_events_leave_as_the_bytes_that_came() -> None:
    """All but those that carry the response object, which are the client's own."""
    found = upstream()
    passed = run([bytes_of(found)], charged(found))
    assert passed.sent.endswith(bytes_of(found[2:-1]))
    assert passed.types == [event["type"].removeprefix("response.") for event in found]
    assert {item["type"] for item in passed.response["output"]} == {
        "reasoning",
        "web_search_call",
        "message",
        "function_call",
        "custom_tool_call",
    }
    assert accepted(passed).output_text == "one two thr\u00e9e"


def test_the_response_is_the_one_that_was_asked_for() -> None:
    """Id, model, and what the vendor was not told; all else is what the vendor said."""
    found = upstream(metadata={}, safety_identifier="ours")
    asked: dict[str, Any] = {
        "metadata": {"a": "b"},
        "previous_response_id": "resp_0",
        "store": True,
        "user": "u",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "instructions": "Be brief.",
        "background": True,
    }
    passed = run([bytes_of(found)], charged(found), **asked)
    for event, came in ((passed.events[n], found[n]) for n in (0, 1, -1)):
        assert event["response"] == {
            **came["response"],
            **asked,
            "id": "resp_abc",
            "model": "m",
            "max_output_tokens": None,
            "created_at": 1_790_000_000,  # by our clock, as far as there is a time
            "completed_at": 1_790_000_009 if came is found[-1] else None,
        }


def test_the_usage_that_is_charged_stays_the_bytes_that_came() -> None:
    """With whatever else stands in it."""
    found = upstream()
    usage = b'{"input_tokens" : 7,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0'
    usage += b'},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":1,"zz":1.0},'
    usage += b'"total_tokens":10}'
    found[-1]["response"]["usage"] = "USAGE"
    passed = run([bytes_of(found).replace(b'"USAGE"', usage)])
    assert usage in passed.tail
    assert passed.stream.usage is not None
    assert bytes(passed.stream.usage) == usage


DETAILS = {
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}
SHOWN = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10, **DETAILS}


@pytest.mark.parametrize(
    ("reported", "reasoning"),
    [
        (None, 0),
        ({"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}, 0),
        ({**SHOWN, "input_tokens_details": {}, "output_tokens_details": {}}, 0),
        ({**SHOWN, "input_tokens_details": {"cached_tokens": 0}}, 0),
        ({"output_tokens_details": {"reasoning_tokens": 2}}, 2),
        ({**SHOWN, "input_tokens": "many"}, 0),
        ({**SHOWN, "output_tokens": 9}, 0),
        ("nonsense", 0),
    ],
)
def test_a_usage_that_lacks_something_is_what_was_charged(reported: Any, reasoning: int) -> None:
    """All five keys, with both details: Codex fails on less."""
    found = upstream()
    found[-1]["response"]["usage"] = reported
    shown = {**SHOWN, "output_tokens_details": {"reasoning_tokens": reasoning}}
    assert run([bytes_of(found)]).response["usage"] == shown


@pytest.mark.parametrize("pings", [(0,), (1,), (9,), (0, 1, 9, 12)])
def test_pings_stand_where_they_may(pings: tuple[int, ...]) -> None:
    """The SDK accepts the stream, with one beginning, and rising numbers."""
    found = upstream()
    passed = run([as_sse(event) for event in found], charged(found), pings)
    assert [kind for kind in passed.types if kind != "keepalive"] == [
        event["type"].removeprefix("response.") for event in found
    ]
    assert passed.types.count("keepalive") == len(pings)
    response = accepted(passed)
    assert response.id == "resp_abc"
    assert passed.events[0]["response"]["created_at"] == response.created_at


def test_nothing_leaves_before_the_first_event_of_the_output() -> None:
    """Until then another channel may answer."""
    found = upstream()
    queued = {**found[0], "type": "response.queued"}
    keepalive = {"type": "keepalive", "sequence_number": 3}
    passed = run([bytes_of([*found[:2], queued, keepalive])])
    assert (passed.sent, passed.stream.started, passed.stream.ending) == (b"", False, False)


def test_a_response_without_its_beginning_gets_one() -> None:
    """SDKs stop at any other first event."""
    found = upstream()
    for missing in (found[2:], found[1:]):
        assert run([bytes_of(missing)]).types[:2] == ["created", "in_progress"]
        accepted(run([bytes_of(missing)]))


def test_a_response_that_says_nothing_is_all_tail() -> None:
    """Its beginning leaves with its end."""
    found = [*upstream()[:2], upstream("say: ")[-1]]
    passed = run([bytes_of(found)])
    assert passed.sent == b""
    assert passed.types == ["created", "in_progress", "completed"]


def test_what_an_upstream_leaves_out_of_the_object_is_filled() -> None:
    """Every key is there, and the items that were streamed."""
    found = upstream()
    for event in (found[0], found[1], found[-1]):
        event["response"] = {"id": "x", "usage": event["response"]["usage"]}
    passed = run([bytes_of(found)], charged(found), metadata={"a": "b"})
    whole = response_object(answer_for(OPENAI, {"model": "up", "input": "say: x"}))
    assert set(whole) - set(passed.response) <= {"prompt_cache_retention", "user"}
    assert [item["type"] for item in passed.response["output"]] == [
        event["item"]["type"] for event in found if event["type"] == "response.output_item.done"
    ]
    assert passed.response["status"] == "completed"
    assert passed.events[0]["response"]["output"] == []


def test_a_wrong_number_or_a_missing_name_is_mended() -> None:
    """And nothing else of the event."""
    found = upstream()
    for n, event in enumerate(found):
        event["sequence_number"] = n + 1
    counted = run([bytes_of(found)])
    for event in found:
        del event["sequence_number"]
    uncounted = run([bytes_of(found)])
    unnamed = run([b"".join(as_sse(event).partition(b"\n")[2] for event in found)])
    right = run([bytes_of(upstream())])

    def told(passed: Passed) -> list[dict[str, Any]]:
        return [{n: v for n, v in e.items() if n == "type" or "delta" in n} for e in passed.events]

    for passed in (counted, uncounted, unnamed):
        accepted(passed)
        assert told(passed) == told(right)


def test_end_turn_never_reaches_the_client() -> None:
    """Codex would go on for ever; wherever the vendor puts it."""
    found = upstream()
    for event in found:
        event["end_turn"] = False
        if "item" in event:
            event["item"]["end_turn"] = False
        if "response" in event:
            event["response"]["end_turn"] = False
            for item in event["response"]["output"]:
                item["end_turn"] = False
    passed = run([bytes_of(found)])
    assert b"end_turn" not in passed.sent + passed.tail
    accepted(passed)
    answer = NativeAnswer(json.dumps(found[-1]["response"]).encode(), *asked())
    assert b"end_turn" not in answer.tail(Usage())


def test_words_of_a_text_are_no_keys() -> None:
    """A text that quotes the protocol passes as it is."""
    found = upstream('say: {"end_turn":false,"sequence_number":0}')
    passed = run([bytes_of(found)])
    assert passed.sent.endswith(bytes_of(found[2:-1]))


def test_runs_of_hosted_tools_and_text_are_counted() -> None:
    """For the charge; with deltas and without them alike."""
    found = upstream()
    assert run([bytes_of(found)]).stream.tool_calls == (("web_search", 1),)
    silent = [event for event in found if not event["type"].endswith("delta")]
    at_end = [*found[:2], found[-1]]
    counts = [run([bytes_of(each)]).known[1:3] for each in (found, silent, at_end)]
    assert counts[1] == counts[2]
    assert abs(counts[0][1] - counts[1][1]) < 20  # names come without deltas, and escapes in them
    assert counts[0][0] == counts[1][0]


def test_an_incomplete_response_is_a_good_one() -> None:
    """With its reason."""
    passed = run([bytes_of(upstream("say: one two\nfinish: length"))])
    assert passed.types[-1] == "incomplete"
    assert passed.response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert passed.response["status"] == "incomplete"


def test_the_tier_is_the_one_that_was_served() -> None:
    """A null is none."""
    found = upstream()
    found[-1]["response"]["service_tier"] = "priority"
    passed = run([bytes_of(found)])
    assert (passed.stream.service_tier, passed.response["service_tier"]) == ("priority",) * 2
    found[-1]["response"]["service_tier"] = None
    passed = run([bytes_of(found)])
    assert (passed.stream.service_tier, passed.response["service_tier"]) == (None, "default")


@given(st.data())
def test_however_the_bytes_come_the_events_are_the_same(data: st.DataObject) -> None:
    """In one piece, byte by byte, cut anywhere; with other line ends, the same is said."""
    found = upstream()
    raw = bytes_of(found)
    whole = run([raw], charged(found))
    split = run(data.draw(cut(raw, 12)), charged(found))
    assert (split.sent, split.tail, split.known) == (whole.sent, whole.tail, whole.known)


def test_byte_by_byte_the_events_are_the_same() -> None:
    """Also with CRLF, with comments, and as lines of data alone, in what is said."""
    found = upstream()
    raw = bytes_of(found)
    whole = run([raw], charged(found))
    single = run([raw[n : n + 1] for n in range(len(raw))], charged(found))
    assert (single.sent, single.tail, single.known) == (whole.sent, whole.tail, whole.known)
    for other in (raw.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf: hi\n\n" + raw):
        passed = run([other], charged(found))
        assert (passed.tail, passed.known) == (whole.tail, whole.known)
        assert passed.sent.replace(b"\r\n", b"\n") == whole.sent

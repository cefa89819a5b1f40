"""Responses over upstreams that speak the API themselves: what the client gets, what it pays, and
what becomes of an upstream's faults.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from farebox.core.usage import Usage
from farebox.errors import BadRequest, UpstreamFailed
from tests.fakes.upstream import FakeUpstream
from tests.relaying import CACHED_USAGE, FULL, USAGE, USAGE_CHARGE, RecordingClient, Relaying

pytestmark = pytest.mark.anyio

SHOWN = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 15,
}
SEARCH = {"type": "web_search"}


@dataclass
class Native(Relaying):
    """A gateway whose channels of OpenAI speak Responses too."""

    speaks: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"openai": ("chat", "responses")}
    )


def _text(client: RecordingClient) -> str:
    return "".join(
        event["delta"] for event in client.events if event["type"] == "response.output_text.delta"
    )


def _check_numbers(client: RecordingClient) -> None:
    numbers = [event["sequence_number"] for event in client.events]
    assert numbers == list(range(len(numbers)))
    assert client.events[0]["type"] == "response.created"


async def test_a_stream_leaves_at_once_and_its_end_after_the_charge(
    fake_upstream: FakeUpstream,
) -> None:
    """Deltas, then the commit, then the event that ends the response, with the usage charged."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond("slow", say="one two three four", usage=USAGE, stream=True)
        assert relaying.books.log.count("part") >= 3
        assert relaying.books.log[-2:] == ["settled", "last"]
        assert _text(client) == "one two three four"
        _check_numbers(client)
        response = client.events[-1]["response"]
        assert (response["id"], response["model"], response["usage"]) == ("resp_0", "m", SHOWN)
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        assert relaying.settlement.dialect == "responses"
        assert fake_upstream.last.path.endswith("/responses")
        assert fake_upstream.violations == []


async def test_a_whole_answer_leaves_after_its_charge(fake_upstream: FakeUpstream) -> None:
    """Under the model's name and the id as asked."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond(say="Hi.", usage=USAGE)
        answer = json.loads(client.body)
        assert relaying.books.log == ["settled", "last"]
        assert (answer["id"], answer["model"], answer["usage"]) == ("resp_0", "m", SHOWN)
        assert answer["output"][0]["content"][0]["text"] == "Hi."
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


@pytest.mark.parametrize("stream", [False, True])
async def test_the_receipt_is_that_of_the_same_answer_in_chat(
    fake_upstream: FakeUpstream, *, stream: bool
) -> None:
    """Cache and reasoning told apart alike, over one upstream."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond(say="Hi.", usage=CACHED_USAGE, stream=stream)
        native = relaying.settlement
        await relaying.call(say="Hi.", usage=CACHED_USAGE, stream=stream)
        chat = relaying.settlement
    assert (native.usage, native.due_nanocredits, native.flags, native.service_tier) == (
        chat.usage,
        chat.due_nanocredits,
        chat.flags,
        chat.service_tier,
    )
    assert native.usage == Usage(15, 10, 5, output=9)
    shown = client.events[-1]["response"] if stream else json.loads(client.body)
    assert shown["usage"]["output_tokens_details"] == {"reasoning_tokens": 4}


@pytest.mark.parametrize("stream", [False, True])
async def test_hosted_tools_are_charged_by_how_often_they_ran(
    fake_upstream: FakeUpstream, *, stream: bool
) -> None:
    """One without a price is left out and named; one that did not run costs nothing."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond(
            say="Hi.", search="q", usage=USAGE, tools=[SEARCH], stream=stream
        )
        assert client.headers[b"x-farebox-adjusted"] == b"tools.web_search=dropped"
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        relaying.price["tools"] = {"web_search": "0.01"}
        await relaying.respond(say="Hi.", search="q", usage=USAGE, tools=[SEARCH], stream=stream)
        assert relaying.settlement.tool_calls == (("web_search", 1),)
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE + 10_000_000
        await relaying.respond(say="Hi.", usage=USAGE, tools=[SEARCH], stream=stream)
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    ["fail-500", "fail-429", "fail-401", "fail-402", "html-200", "bad-json-200", "error-200",
     "close-before-head", "empty-200", "list-200"],
)  # fmt: skip
async def test_another_channel_answers_for_one_charge(
    fake_upstream: FakeUpstream, fault: str, *, stream: bool
) -> None:
    """Also one that speaks chat alone: the client sees one response."""
    for second in ("openai", "deepseek"):
        async with Native(fake_upstream, channels=("openai", second)) as relaying:
            client = await relaying.respond(
                fault, "gpt-4o", say="Hi.", think="Hm.", usage=USAGE, stream=stream
            )
            settlement = relaying.settlement
            assert [each.error is None for each in settlement.attempts] == [False, True]
            assert relaying.books.available == FULL - USAGE_CHARGE
            shown = client.events[-1]["response"] if stream else json.loads(client.body)
            assert (shown["id"], shown["status"], shown["usage"]) == ("resp_0", "completed", SHOWN)
            if stream:
                _check_numbers(client)


@pytest.mark.parametrize("fault", ["error-first", "failed-at-once"])
async def test_a_response_that_fails_before_its_output_is_tried_elsewhere(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """`response.created` is not yet an answer; also when keep-alives have left meanwhile."""
    for settings in ({}, {"keepalive_s": 0.0}):
        async with Native(
            fake_upstream, channels=("openai", "openai"), settings=settings
        ) as relaying:
            client = await relaying.respond(fault, "gpt-4o", say="Hi.", usage=USAGE, stream=True)
            assert len(relaying.settlement.attempts) == 2
            assert relaying.books.available == FULL - USAGE_CHARGE
            assert client.events[-1]["type"] == "response.completed"
            _check_numbers(client)


async def test_when_all_fail_before_the_output_nothing_is_charged(
    fake_upstream: FakeUpstream,
) -> None:
    """An error of HTTP while no head has left, `response.failed` after it."""
    async with Native(fake_upstream) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.respond("failed-at-once", stream=True)
        assert caught.value.status == 502
        assert relaying.books.available == FULL
    async with Native(fake_upstream, settings={"keepalive_s": 0.0}) as relaying:
        client = await relaying.respond("failed-at-once", stream=True)
        _check_numbers(client)
        assert client.events[-1]["type"] == "response.failed"
        assert relaying.books.available == FULL


@pytest.mark.parametrize(
    "fault",
    ["truncated", "reset-mid-stream", "early-end", "no-terminal", "garbage-event", "error-event",
     "error-event-nested"],
)  # fmt: skip
async def test_a_stream_that_breaks_ends_in_response_failed_and_what_came_is_charged(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """Never a silent end, and never a completed one."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond(fault, say="one two three four five six", stream=True)
        _check_numbers(client)
        failed = client.events[-1]
        assert failed["type"] == "response.failed"
        assert failed["response"]["status"] == "failed"
        assert failed["response"]["error"]["code"] == "server_error"
        assert failed["response"]["error"]["message"]
        settlement = relaying.settlement
        assert settlement.outcome == "upstream_failed"
        assert settlement.flags == ("estimated",)
        told = failed["response"]["usage"]
        assert told["input_tokens"] == settlement.usage.input_total
        assert told["output_tokens"] == settlement.usage.output > 0
        assert 0 < settlement.due_nanocredits <= settlement.hold_nanocredits
        assert relaying.books.available == FULL - settlement.due_nanocredits


async def test_the_usage_of_a_failed_response_counts(fake_upstream: FakeUpstream) -> None:
    """It stands in that event and nowhere else."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond(
            "failed-mid-stream", say="a b c d", usage=USAGE, stream=True
        )
        assert client.events[-1]["type"] == "response.failed"
        assert b"engine" not in client.body  # what a vendor says of itself is not told
        assert (relaying.settlement.flags, relaying.settlement.outcome) == ((), "upstream_failed")
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


@pytest.mark.parametrize("stream", [False, True])
async def test_an_incomplete_response_is_complete_for_the_books(
    fake_upstream: FakeUpstream, *, stream: bool
) -> None:
    """It ended as its cap said."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond(say="a b", finish="length", usage=USAGE, stream=stream)
        shown = client.events[-1]["response"] if stream else json.loads(client.body)
        assert shown["status"] == "incomplete"
        assert shown["incomplete_details"] == {"reason": "max_output_tokens"}
        assert (relaying.settlement.outcome, relaying.settlement.due_nanocredits) == (
            "complete",
            USAGE_CHARGE,
        )


@pytest.mark.parametrize("fault", ["no-usage", "zero-usage", "bad-usage", "short-usage",
                                   "empty-details"])  # fmt: skip
async def test_whatever_usage_comes_the_client_sees_what_was_charged(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """With all its keys, for Codex."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond(fault, say="a b c d", usage=USAGE, stream=True)
        shown, settled = client.events[-1]["response"]["usage"], relaying.settlement.usage
        assert set(shown) == set(SHOWN)
        assert shown["input_tokens_details"].keys() == SHOWN["input_tokens_details"].keys()
        assert (shown["input_tokens"], shown["output_tokens"]) == (
            settled.input_total,
            settled.output,
        )
        is_estimated = fault in ("no-usage", "bad-usage")
        assert ("estimated" in relaying.settlement.flags) == is_estimated


@pytest.mark.parametrize(
    "fault",
    ["bytewise", "crlf", "nospace", "bom", "multiline", "comments", "bigline", "no-event-lines",
     "with-done", "foreign-events", "slow-first-event"],
)  # fmt: skip
async def test_odd_framing_changes_neither_the_answer_nor_the_charge(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """However the bytes come, the text is the same and the usage is read."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond(fault, say="one two three", usage=USAGE, stream=True)
        assert _text(client).replace("x", "") == "one two three"
        _check_numbers(client)
        assert client.events[-1]["response"]["usage"] == SHOWN
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        assert relaying.settlement.flags == ()


async def test_silence_after_the_end_is_not_waited_for(fake_upstream: FakeUpstream) -> None:
    """The terminal event is the last that matters."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond("hang-after-usage", usage=USAGE, stream=True)
        assert client.events[-1]["type"] == "response.completed"
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


async def test_a_hang_up_is_drained_for_the_exact_usage(fake_upstream: FakeUpstream) -> None:
    """As over chat."""
    async with Native(fake_upstream) as relaying:
        client = RecordingClient(hang_up_after=1)
        await relaying.respond("slow", client=client, say="a b c", usage=USAGE, stream=True)
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.flags) == ("client_gone", ())
        assert settlement.due_nanocredits == USAGE_CHARGE
        assert not client.ended


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "unsupported_value"),
        (
            {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "fb1.AAAA"}]},
            "input",
            "invalid_encrypted_content",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input",
            "unsupported_value",
        ),
    ],
)
async def test_what_is_refused_here_is_free(
    fake_upstream: FakeUpstream, fields: dict[str, Any], param: str, code: str
) -> None:
    """And nothing of it reaches the upstream."""
    async with Native(fake_upstream) as relaying:
        with pytest.raises(BadRequest) as caught:
            await relaying.respond(**fields)
        assert (caught.value.param, caught.value.code) == (param, code)
        assert fake_upstream.requests == []
        assert (relaying.books.available, relaying.books.holds) == (FULL, {})


async def test_a_refusal_of_the_vendors_says_what_was_wrong(fake_upstream: FakeUpstream) -> None:
    """One attempt, nothing charged."""
    async with Native(fake_upstream, channels=("openai", "openai")) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.respond(reasoning={"effort": "enormous"})
        assert (caught.value.status, caught.value.param) == (400, "reasoning.effort")
        assert len(relaying.settlement.attempts) == 1
        assert relaying.settlement.outcome == "refused"
        assert relaying.books.available == FULL


async def test_a_vendors_own_blobs_go_both_ways(fake_upstream: FakeUpstream) -> None:
    """What the answer held goes back as it came, and the strict vendor takes it."""
    function = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    asked = {"role": "user", "content": "think: Hm.\ntools"}
    include = ["reasoning.encrypted_content"]
    async with Native(fake_upstream) as relaying:
        client = await relaying.respond(input=[asked], tools=[function], include=include)
        output = json.loads(client.body)["output"]
        assert output[0]["encrypted_content"].startswith("gAAAA")
        answer = {"type": "function_call_output", "call_id": output[1]["call_id"], "output": "7"}
        await relaying.respond(input=[asked, *output, answer], tools=[function], include=include)
        sent = fake_upstream.last.body["input"]
        assert (sent[0], sent[1], sent[3]) == (asked, output[0], answer)
        assert fake_upstream.violations == []

"""Chat calls over upstreams that speak only the Responses API: what the client gets, what it pays,
and what becomes of an upstream's faults.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from farebox.errors import BadRequest, FareboxError, UpstreamFailed
from tests.fakes.responses_rules import violations
from tests.fakes.upstream import FakeUpstream
from tests.relaying import CACHED_USAGE, USAGE, USAGE_CHARGE, RecordingClient, Relaying

pytestmark = pytest.mark.anyio

ONLY = "responses_only"
DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


@dataclass
class Wired(Relaying):
    """A gateway whose channels of the persona `responses_only` speak nothing else."""

    def __post_init__(self) -> None:
        self.vendors = {ONLY: "openai_compatible", **self.vendors}
        self.speaks = {ONLY: ("responses",), **self.speaks}


def _wired(upstream: FakeUpstream, *channels: str, **more: Any) -> Wired:
    return Wired(upstream, channels=channels or (ONLY,), **more)


def _text(client: RecordingClient) -> str:
    chunks = [event for event in client.events if event != "[DONE]" and event["choices"]]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


async def test_a_stream_leaves_at_once_and_its_tail_after_the_charge(
    fake_upstream: FakeUpstream,
) -> None:
    """As over chat: deltas, then the commit, then finish, usage and [DONE]."""
    async with _wired(fake_upstream) as relaying:
        client = await relaying.call("slow", say="one two three four", usage=USAGE, **STREAM)
        assert relaying.books.log.count("part") >= 3
        assert relaying.books.log[-2:] == ["settled", "last"]
        assert _text(client) == "one two three four"
        *_, finish, usage, done = client.events
        assert finish["choices"][0]["finish_reason"] == "stop"
        assert (usage["choices"], usage["usage"], done) == ([], {**USAGE, **DETAILS}, "[DONE]")
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        assert relaying.settlement.dialect == "chat"
        assert fake_upstream.last.path.endswith("/responses")
        assert violations(fake_upstream.last.body) == []


async def test_a_whole_answer_is_a_completion(fake_upstream: FakeUpstream) -> None:
    """Under the model's name as asked, after its charge."""
    async with _wired(fake_upstream) as relaying:
        client = await relaying.call(say="Hi.", usage=USAGE)
        answer = json.loads(client.body)
        assert relaying.books.log == ["settled", "last"]
        assert (answer["object"], answer["model"]) == ("chat.completion", "m")
        assert answer["choices"][0]["message"]["content"] == "Hi."
        assert answer["usage"] == {**USAGE, **DETAILS}
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


@pytest.mark.parametrize("stream", [False, True])
async def test_the_receipt_is_that_of_the_same_answer_over_chat(
    fake_upstream: FakeUpstream, *, stream: bool
) -> None:
    """Cache and reasoning told apart alike."""
    settled: list[Any] = []
    for channel in ("openai", ONLY):
        async with _wired(fake_upstream, channel) as relaying:
            await relaying.call(say="Hi.", usage=CACHED_USAGE, stream=stream)
            settled.append((relaying.settlement.usage, relaying.settlement.due_nanocredits))
    assert settled[0] == settled[1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_with_tools_goes_there_and_back(
    fake_upstream: FakeUpstream, *, stream: bool
) -> None:
    """A call out of the answer is answered in the next request, which a strict upstream takes."""
    async with _wired(fake_upstream) as relaying:
        messages: list[Any] = [{"role": "user", "content": "tools"}]
        client = await relaying.call(messages=messages, tools=[TOOL], stream=stream)
        if stream:
            pieces = [e["choices"][0]["delta"].get("tool_calls") for e in client.events[:-1]]
            calls = [piece[0] for piece in pieces if piece]
            arguments = "".join(call["function"]["arguments"] for call in calls)
            call = {**calls[0], "function": {**calls[0]["function"], "arguments": arguments}}
            finish = client.events[-2]["choices"][0]["finish_reason"]
            del call["index"]
        else:
            choice = json.loads(client.body)["choices"][0]
            call, finish = choice["message"]["tool_calls"][0], choice["finish_reason"]
        assert (call["function"]["name"], finish) == ("weather", "tool_calls")
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "mild"},
        ]
        client = await relaying.call(messages=messages, tools=[TOOL], stream=stream)
        assert client.status == 200
        assert [item["type"] for item in fake_upstream.last.body["input"]] == [
            "message",
            "function_call",
            "function_call_output",
        ]


async def test_what_was_left_out_is_named(fake_upstream: FakeUpstream) -> None:
    """In the answer's header."""
    async with _wired(fake_upstream) as relaying:
        client = await relaying.call(say="Hi.", seed=7, max_tokens=5)
        named = client.headers[b"x-farebox-adjusted"].split(b", ")
        assert {b"seed=dropped", b"max_tokens=16"} <= set(named)
        assert fake_upstream.last.body["max_output_tokens"] == 16


async def test_what_cannot_be_had_there_is_refused_and_free(fake_upstream: FakeUpstream) -> None:
    """Before anything is sent."""
    async with _wired(fake_upstream) as relaying:
        with pytest.raises(BadRequest) as caught:
            await relaying.call(n=2)
        assert (caught.value.code, caught.value.param) == ("unsupported_value", "n")
        assert fake_upstream.requests == []
        assert relaying.books.available == 10**10


@pytest.mark.parametrize("channels", [(ONLY, "openai"), ("openai", ONLY)])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_channel_of_the_other_kind_takes_over(
    fake_upstream: FakeUpstream, channels: tuple[str, ...], *, stream: bool
) -> None:
    """What failed leaves no trace in the answer, whichever way the first one went."""
    async with _wired(fake_upstream, *channels) as relaying:
        # Channels that speak chat are asked first, whatever their order.
        names = ("fail-500", "good") if channels[0] == "openai" else ("good", "fail-500")
        client = await relaying.call(*names, say="Hi.", usage=USAGE, stream=stream)
        assert [request.persona for request in fake_upstream.requests] == ["openai", ONLY]
        text = _text(client) if stream else json.loads(client.body)["choices"][0]["message"]
        assert text in ("Hi.", {"role": "assistant", "content": "Hi.", "refusal": None})
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


async def test_a_failure_before_the_answer_lets_another_channel_answer(
    fake_upstream: FakeUpstream,
) -> None:
    """Events that only say that a response was begun are no part of the answer."""
    async with _wired(fake_upstream, ONLY, ONLY) as relaying:
        client = await relaying.call("failed-at-once", "good", say="Hi.", usage=USAGE, **STREAM)
        assert (_text(client), client.events[-1]) == ("Hi.", "[DONE]")
        assert len(fake_upstream.requests) == 2


@pytest.mark.parametrize(
    "fault",
    ["no-terminal", "failed-mid-stream", "error-event", "error-event-nested", "truncated"],
)
async def test_a_broken_stream_ends_with_an_error_chunk(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """SDKs raise on it; never a clean end, and what was delivered is charged."""
    async with _wired(fake_upstream) as relaying:
        client = await relaying.call(fault, say="one two three four five six", **STREAM)
        assert client.events[-1]["error"]["message"]
        assert b"[DONE]" not in client.body
        assert relaying.settlement.outcome == "upstream_failed"
        assert relaying.settlement.due_nanocredits > 0


@pytest.mark.parametrize(
    "fault", ["no-deltas", "foreign-events", "with-done", "no-event-lines", "multiline", "bytewise"]
)
async def test_odd_streams_give_the_same_answer(fake_upstream: FakeUpstream, fault: str) -> None:
    """However the events are written."""
    async with _wired(fake_upstream) as relaying:
        client = await relaying.call(fault, say="one two three", usage=USAGE, **STREAM)
        assert (_text(client), client.events[-1]) == ("one two three", "[DONE]")
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


async def test_an_incomplete_answer_is_a_length(fake_upstream: FakeUpstream) -> None:
    """And is paid for."""
    async with _wired(fake_upstream) as relaying:
        client = await relaying.call("incomplete", say="one two", usage=USAGE, **STREAM)
        assert client.events[-3]["choices"][0]["finish_reason"] == "length"
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


async def test_a_body_that_is_no_response_is_a_failure(fake_upstream: FakeUpstream) -> None:
    """Nothing was delivered, so nothing is due."""
    async with _wired(fake_upstream) as relaying:
        with pytest.raises(UpstreamFailed):
            await relaying.call("html-200")
        assert relaying.settlement.due_nanocredits == 0


async def test_a_refusal_keeps_its_words(fake_upstream: FakeUpstream) -> None:
    """Of the upstream's, as it would over chat."""
    async with _wired(fake_upstream) as relaying:
        with pytest.raises(FareboxError) as caught:
            await relaying.call(tools=[TOOL], tool_choice={"type": "function"})
        assert caught.value.status == 400


async def test_the_least_cap_of_the_responses_api_is_held(fake_upstream: FakeUpstream) -> None:
    """It takes 16 tokens for less; what is held is what is sent."""
    async with _wired(fake_upstream) as relaying:
        await relaying.call("gpt-4o", say="Hi", max_tokens=1)
        assert fake_upstream.last.body["max_output_tokens"] == 16
        held = relaying.settlement.hold_nanocredits
    async with _wired(fake_upstream, "openai") as relaying:
        await relaying.call("gpt-4o", say="Hi", max_tokens=1)
        assert held - relaying.settlement.hold_nanocredits == 15 * 10_000


async def test_a_channel_that_cannot_be_asked_is_passed_over(fake_upstream: FakeUpstream) -> None:
    """The Responses API has no stop words; a channel that speaks chat has."""
    async with _wired(fake_upstream, ONLY, "openai") as relaying:
        client = await relaying.call("gpt-4o", say="Hi", stop=["x"])
        assert client.status == 200
        assert [each.channel for each in relaying.settlement.attempts] == ["ch-1-openai"]


async def test_the_first_reason_is_told_when_no_channel_is_left(
    fake_upstream: FakeUpstream,
) -> None:
    """A failure of the upstream that could be asked hides nothing behind a 400 of the other."""
    async with _wired(fake_upstream, "openai", ONLY) as relaying:
        with pytest.raises(UpstreamFailed):
            await relaying.call("fail-500", "gpt-4o", stop=["x"])
    async with _wired(fake_upstream) as relaying:
        with pytest.raises(BadRequest):
            await relaying.call("gpt-4o", stop=["x"])
        assert relaying.settlement.due_nanocredits == 0

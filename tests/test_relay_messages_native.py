"""Messages over upstreams that speak the API themselves: what the client gets, what it pays, and
what becomes of an upstream's faults.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import pytest

from farebox.core.usage import Usage
from farebox.errors import BadRequest, UpstreamFailed
from tests.fakes.upstream import FakeUpstream
from tests.relaying import CACHED_USAGE, FULL, USAGE, USAGE_CHARGE, RecordingClient, Relaying

pytestmark = pytest.mark.anyio

SEARCH = {"type": "web_search_20260318", "name": "web_search"}
OWN = {"name": "f", "input_schema": {"type": "object"}}


@dataclass
class Native(Relaying):
    """A gateway whose channels of Anthropic speak Messages alone."""

    channels: tuple[str, ...] = ("anthropic",)
    speaks: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"anthropic": ("messages",)})


def _text(client: RecordingClient) -> str:
    deltas = [event["delta"] for event in client.events if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


def _check_order(client: RecordingClient, last: str = "message_stop") -> None:
    """One beginning and one end, with nothing of the vendor's own pings between."""
    types = [event["type"] for event in client.events]
    types = types[types.index("message_start") :] if "message_start" in types else types
    assert (types.count("message_start"), types[-1]) == (1, last)


def _shown(client: RecordingClient, *, stream: bool) -> dict[str, Any]:
    """The usage that the client sees at the end."""
    return client.events[-2]["usage"] if stream else json.loads(client.body)["usage"]


async def test_a_stream_leaves_at_once_and_its_end_after_the_charge(
    fake_upstream: FakeUpstream,
) -> None:
    """Deltas, then the commit, then what ends the message, with the usage charged."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.message("slow", say="one two three four", usage=USAGE, stream=True)
        assert relaying.books.log.count("part") >= 3
        assert relaying.books.log[-2:] == ["settled", "last"]
        assert _text(client) == "one two three four"
        _check_order(client)
        start, usage = client.events[0]["message"], _shown(client, stream=True)
        assert (start["id"], start["model"]) == ("msg_0", "m")
        assert (usage["input_tokens"], usage["output_tokens"]) == (10, 5)
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        assert (relaying.settlement.dialect, relaying.settlement.flags) == ("messages", ())
        assert fake_upstream.last.path == "/anthropic/v1/messages"
        assert fake_upstream.violations == []


async def test_a_whole_answer_leaves_after_its_charge(fake_upstream: FakeUpstream) -> None:
    """Under the model's name and the id as asked."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.message(say="Hi.", usage=USAGE)
        answer = json.loads(client.body)
        assert relaying.books.log == ["settled", "last"]
        assert (answer["id"], answer["model"], answer["stop_reason"]) == ("msg_0", "m", "end_turn")
        assert answer["content"][0]["text"] == "Hi."
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


@pytest.mark.parametrize("stream", [False, True])
async def test_one_answer_costs_the_same_in_three_dialects_and_over_three_wires(
    fake_upstream: FakeUpstream, *, stream: bool
) -> None:
    """Cache and reasoning told apart alike, and what Messages shows adds up to it."""
    charged: list[tuple[Usage, int, tuple[str, ...]]] = []
    for speaks in ("chat", "responses", "messages"):
        for dialect in ("chat", "responses", "messages"):
            if speaks == "messages" != dialect:
                continue  # nothing else is told in Messages
            async with Native(
                fake_upstream,
                channels=("openai_compatible",),
                speaks={"openai_compatible": (speaks,)},
            ) as relaying:
                asks = {"chat": relaying.call, "responses": relaying.respond}
                ask = asks.get(dialect, relaying.message)
                client = await ask("up", say="Hi.", usage=CACHED_USAGE, stream=stream)
                settled = relaying.settlement
                charged.append((settled.usage, settled.due_nanocredits, settled.flags))
                if dialect == "messages":
                    usage = _shown(client, stream=stream)
                    counts = ("input_tokens", "cache_read_input_tokens",
                              "cache_creation_input_tokens", "output_tokens")  # fmt: skip
                    assert [usage[name] for name in counts] == [15, 10, 5, 9]
    assert len(charged) == 7
    assert set(charged) == {(Usage(15, 10, 5, output=9), charged[0][1], ())}
    assert charged[0][1] > 0


async def test_a_clients_words_in_a_header_are_not_kept(fake_upstream: FakeUpstream) -> None:
    """Tools of any name are named as left out, and a name may be as long as a body."""
    name_chars = 300_000

    async with Native(fake_upstream) as relaying:

        async def ask(letter: str) -> int:
            tools = [{"type": letter * name_chars, "name": "x"}, OWN]
            client = await relaying.message(usage=USAGE, tools=tools)
            assert client.headers[b"x-farebox-adjusted"].startswith(b"tools." + letter.encode())
            fake_upstream.clear()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before_bytes = await ask("a")
            after_bytes = [await ask(letter) for letter in "bcde"][-1]
        finally:
            tracemalloc.stop()
    assert after_bytes - before_bytes < name_chars


@pytest.mark.parametrize("stream", [False, True])
async def test_hosted_tools_are_charged_by_how_often_they_ran(
    fake_upstream: FakeUpstream, *, stream: bool
) -> None:
    """One without a price is left out and named; one that did not run costs nothing."""
    async with Native(fake_upstream) as relaying:
        asked: dict[str, Any] = {"say": "Hi.", "usage": USAGE, "stream": stream}
        client = await relaying.message(search="q", tools=[SEARCH, OWN], **asked)
        assert client.headers[b"x-farebox-adjusted"] == b"tools.web_search=dropped"
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        relaying.price["tools"] = {"web_search": "0.01"}
        await relaying.message(search="q", tools=[SEARCH], **asked)
        assert relaying.settlement.tool_calls == (("web_search", 1),)
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE + 10_000_000
        await relaying.message(tools=[SEARCH], **asked)
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


async def test_a_compaction_is_paid_for_too(fake_upstream: FakeUpstream) -> None:
    """Its tokens are not in the figures of the call."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "iterations": [{"type": "compaction", "input_tokens": 100, "output_tokens": 50}],
    }
    async with Native(fake_upstream) as relaying:
        for stream in (False, True):
            await relaying.message(usage=usage, stream=stream)
            assert relaying.settlement.usage == Usage(110, output=55)


async def test_a_call_for_no_tokens_only_fills_the_cache(fake_upstream: FakeUpstream) -> None:
    """It goes to who speaks Messages, with its cap of 0, and costs what was written."""
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 100, "output_tokens": 0}
    async with Native(fake_upstream) as relaying:
        await relaying.message(usage=usage, max_tokens=0)
        assert fake_upstream.last.body["max_tokens"] == 0
        assert relaying.settlement.usage == Usage(3, cache_write=100)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    ["fail-500", "fail-529", "fail-429", "fail-401", "fail-402", "credit-400", "html-200",
     "bad-json-200", "error-200", "close-before-head", "empty-200", "list-200"],
)  # fmt: skip
async def test_another_channel_answers_for_one_charge(
    fake_upstream: FakeUpstream, fault: str, *, stream: bool
) -> None:
    """Also one that speaks chat alone: the client sees one message."""
    for second in ("anthropic", "deepseek"):
        async with Native(fake_upstream, channels=("anthropic", second)) as relaying:
            client = await relaying.message(fault, "claude", say="Hi.", usage=USAGE, stream=stream)
            settlement = relaying.settlement
            assert [each.error is None for each in settlement.attempts] == [False, True]
            assert relaying.books.available == FULL - USAGE_CHARGE
            assert _shown(client, stream=stream)["output_tokens"] == 5
            if stream:
                _check_order(client)
                assert _text(client) == "Hi."


@pytest.mark.parametrize("fault", ["error-first", "error-after-start"])
async def test_a_message_that_fails_before_its_content_is_tried_elsewhere(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """`message_start` is not yet an answer; also when pings have left meanwhile."""
    for settings in ({}, {"keepalive_s": 0.0}):
        async with Native(
            fake_upstream, channels=("anthropic", "anthropic"), settings=settings
        ) as relaying:
            client = await relaying.message(fault, "claude", say="Hi.", usage=USAGE, stream=True)
            assert len(relaying.settlement.attempts) == 2
            assert relaying.books.available == FULL - USAGE_CHARGE
            _check_order(client)


async def test_when_all_fail_before_the_content_nothing_is_charged(
    fake_upstream: FakeUpstream,
) -> None:
    """An error of HTTP while no head has left, the event `error` after it."""
    async with Native(fake_upstream) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.message("error-after-start", stream=True)
        assert caught.value.status == 502
        assert relaying.books.available == FULL
    async with Native(fake_upstream, settings={"keepalive_s": 0.0}) as relaying:
        client = await relaying.message("error-after-start", stream=True)
        assert client.events[-1]["type"] == "error"
        assert relaying.books.available == FULL


@pytest.mark.parametrize(
    "fault",
    ["truncated", "reset-mid-stream", "early-end", "no-terminal", "garbage-event", "error-event",
     "overloaded-mid-stream"],
)  # fmt: skip
async def test_a_stream_that_breaks_ends_in_an_error_and_what_came_is_charged(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """Never a silent end, and never message_stop. The input is known by then, the output is not."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.message(
            fault, say="one two three four five six seven", usage=USAGE, stream=True
        )
        _check_order(client, "error")
        assert client.events[-1]["error"]["message"]
        assert b"engine" not in client.body  # what a vendor says of itself is not told
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.flags) == ("upstream_failed", ("estimated",))
        assert settlement.usage.uncached_input == 10
        assert 0 < settlement.usage.output <= 9
        assert 0 < settlement.due_nanocredits <= settlement.hold_nanocredits
        assert relaying.books.available == FULL - settlement.due_nanocredits


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["no-usage", "zero-usage", "bad-usage", "no-last-usage"])
async def test_whatever_usage_comes_the_client_sees_what_was_charged(
    fake_upstream: FakeUpstream, fault: str, *, stream: bool
) -> None:
    """And an estimate is flagged."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.message(fault, say="a b c d", usage=USAGE, stream=stream)
        shown, settled = _shown(client, stream=stream), relaying.settlement.usage
        assert (shown["input_tokens"], shown["output_tokens"]) == (
            settled.uncached_input,
            settled.output,
        )
        is_told = fault == "zero-usage" or (fault == "no-last-usage" and not stream)
        assert ("estimated" in relaying.settlement.flags) == (not is_told)


@pytest.mark.parametrize(
    "fault",
    ["bytewise", "crlf", "nospace", "bom", "multiline", "comments", "bigline", "no-event-lines",
     "with-done", "foreign-events", "no-stop", "late-usage"],
)  # fmt: skip
async def test_odd_framing_changes_neither_the_answer_nor_the_charge(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """However the bytes come, the text is the same and the usage is read."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.message(fault, say="one two three", usage=USAGE, stream=True)
        assert _text(client).replace("x", "") == "one two three"
        _check_order(client)
        assert _shown(client, stream=True)["output_tokens"] == 5
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        assert relaying.settlement.flags == ()


async def test_silence_after_the_end_is_not_waited_for(fake_upstream: FakeUpstream) -> None:
    """message_stop is the last that matters."""
    async with Native(fake_upstream) as relaying:
        client = await relaying.message("hang-after-usage", usage=USAGE, stream=True)
        _check_order(client)
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


async def test_a_hang_up_is_drained_for_the_exact_usage(fake_upstream: FakeUpstream) -> None:
    """As over chat."""
    async with Native(fake_upstream) as relaying:
        client = RecordingClient(hang_up_after=1)
        await relaying.message("slow", client=client, say="a b c", usage=USAGE, stream=True)
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.flags) == ("client_gone", ())
        assert settlement.due_nanocredits == USAGE_CHARGE
        assert not client.ended


@pytest.mark.parametrize("field", ["container", "thread", "user_profile_id", "billing_policy"])
async def test_what_lies_in_the_shared_account_is_not_named(
    fake_upstream: FakeUpstream, field: str
) -> None:
    """It may be another caller's; nothing was sent and nothing is charged."""
    named: dict[str, Any] = {field: "x_1"}
    async with Native(fake_upstream) as relaying:
        with pytest.raises(BadRequest) as caught:
            await relaying.message(**named)
        assert (caught.value.param, caught.value.code) == (field, "unsupported_value")
        assert fake_upstream.requests == []
        assert relaying.books.available == FULL

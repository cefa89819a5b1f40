"""One call's story, told to the relay over a real client and a real, misbehaving upstream."""

from __future__ import annotations

import asyncio
import json

import pytest

from farebox.errors import (
    BadRequest,
    BillingUnavailable,
    FareboxError,
    NotFound,
    OutOfCredit,
    TooManyRequests,
    UpstreamFailed,
)
from tests.fakes.upstream import FakeUpstream, closed_port
from tests.relaying import CALLER, USAGE, USAGE_CHARGE, MemoryBooks, RecordingClient, Relaying

pytestmark = pytest.mark.anyio


async def test_a_json_answer_arrives_after_its_charge(fake_upstream: FakeUpstream) -> None:
    """All of a JSON answer is tail: the client gets it when the charge is committed, not before."""
    async with Relaying(fake_upstream) as relaying:
        client = await relaying.call(usage=USAGE)
        answer = json.loads(client.body)
        assert relaying.books.log == ["settled", "last"]
        assert (client.status, answer["model"], answer["usage"]) == (200, "m", USAGE)
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        assert relaying.books.available == 10**10 - USAGE_CHARGE
        assert relaying.books.holds == {}


async def test_a_stream_leaves_at_once_and_its_tail_after_the_charge(
    fake_upstream: FakeUpstream,
) -> None:
    """Deltas leave as they arrive; the finish, the usage and [DONE] follow the commit."""
    async with Relaying(fake_upstream) as relaying:
        client = await relaying.call(
            "slow",
            say="one two three four",
            usage=USAGE,
            stream=True,
            stream_options={"include_usage": True},
        )
        log = relaying.books.log
        assert log.count("part") >= 3
        assert log[-2:] == ["settled", "last"]
        *deltas, finish, usage, done = client.events
        text = "".join(event["choices"][0]["delta"].get("content") or "" for event in deltas)
        assert text == "one two three four"
        assert finish["choices"][0]["finish_reason"] == "stop"
        assert (usage["choices"], usage["usage"], done) == ([], USAGE, "[DONE]")
        assert {event["model"] for event in (*deltas, finish, usage)} == {"m"}
        assert b'finish_reason":"stop' not in b"".join(client.parts[:-1])


async def test_usage_nobody_asked_for_is_withheld(fake_upstream: FakeUpstream) -> None:
    """The gateway always asks for usage; a client that did not gets no extra chunk, yet pays
    exactly.
    """
    async with Relaying(fake_upstream) as relaying:
        client = await relaying.call(usage=USAGE, stream=True)
        assert fake_upstream.last.body["stream_options"] == {"include_usage": True}
        assert all(event["choices"] for event in client.events[:-1])
        assert client.events[-1] == "[DONE]"
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        "fail-500",
        "fail-503",
        "fail-429",
        "fail-401",
        "fail-402",
        "html-200",
        "bad-json-200",
        "error-200",
        "close-before-head",
        "empty-200",
        "list-200",
        "redirect-302",
    ],
)
async def test_failover_makes_one_charge_and_two_attempts(
    fake_upstream: FakeUpstream, fault: str, stream: bool
) -> None:
    """A channel that fails before anything was delivered costs nothing: the next one answers."""
    async with Relaying(fake_upstream, channels=("openai", "openai")) as relaying:
        client = await relaying.call(fault, "gpt-4o", usage=USAGE, stream=stream)
        settlement = relaying.settlement
        assert client.status == 200
        assert [attempt.channel for attempt in settlement.attempts] == [
            "ch-0-openai",
            "ch-1-openai",
        ]
        assert settlement.attempts[0].error
        assert (settlement.attempts[1].status, settlement.attempts[1].error) == (200, None)
        assert settlement.channel == "ch-1-openai"
        assert len(relaying.books.settled) == 1
        assert relaying.books.available == 10**10 - USAGE_CHARGE


@pytest.mark.parametrize("fault", ["error-first"])
async def test_a_stream_that_fails_before_its_first_event_fails_over(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """Status 200 is no answer yet: until an event has left, another channel may give it."""
    async with Relaying(fake_upstream, channels=("openai", "openai")) as relaying:
        client = await relaying.call(fault, "gpt-4o", say="", usage=USAGE, stream=True)
        assert client.events[-1] == "[DONE]"
        assert len(relaying.settlement.attempts) == 2


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("fail-500", 502, None),
        ("fail-401", 502, None),
        ("fail-429", 429, "rate_limit_exceeded"),
        ("html-200", 502, None),
        ("close-before-head", 502, "upstream_unreachable"),
    ],
)
async def test_when_every_channel_fails_nothing_is_charged(
    fake_upstream: FakeUpstream, fault: str, status: int, code: str | None
) -> None:
    """The last channel's failure reaches the caller as an error, the hold is released."""
    async with Relaying(fake_upstream) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.call(fault)
        assert caught.value.status == status
        if code:
            assert caught.value.code == code
        assert relaying.settlement.outcome == "upstream_failed"
        assert relaying.books.available == 10**10
        assert "127.0.0.1" not in caught.value.message
        assert fake_upstream.key("openai") not in caught.value.message


async def test_an_upstream_that_cannot_be_reached_is_said_so(fake_upstream: FakeUpstream) -> None:
    """Nobody listens: 502 upstream_unreachable, nothing charged."""
    urls = {"openai": f"http://127.0.0.1:{closed_port()}/v1"}
    async with Relaying(fake_upstream, base_urls=urls) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.call()
        assert (caught.value.status, caught.value.code) == (502, "upstream_unreachable")
        assert relaying.books.available == 10**10


async def test_what_the_client_did_wrong_is_not_tried_elsewhere(
    fake_upstream: FakeUpstream,
) -> None:
    """A vendor's 400 is the client's fault: one attempt, outcome refused, nothing charged."""
    async with Relaying(fake_upstream, channels=("openai", "openai")) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.call("refuse-400")
        assert caught.value.status == 400
        assert relaying.settlement.outcome == "refused"
        assert len(relaying.settlement.attempts) == 1
        assert relaying.books.available == 10**10


@pytest.mark.parametrize("fault", ["leak-400", "leak-500"])
async def test_an_upstreams_secrets_never_reach_the_caller(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """Neither the key nor the address of an upstream is in an error."""
    async with Relaying(fake_upstream) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.call(fault)
        assert fake_upstream.key("openai") not in caught.value.message
        assert str(fake_upstream.port) not in caught.value.message


@pytest.mark.parametrize(
    "fault",
    [
        "truncated",
        "reset-mid-stream",
        "early-end",
        "error-event",
        "garbage-event",
        "no-finish",
        "failing-finish",
    ],
)
async def test_a_stream_that_breaks_ends_in_an_error_and_what_came_is_charged(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """Never a clean [DONE] for an answer that has no end; what was delivered is paid for."""
    persona = "zai" if fault == "failing-finish" else "openai"
    async with Relaying(fake_upstream, channels=(persona,)) as relaying:
        client = await relaying.call(fault, say="one two three four five six", stream=True)
        assert client.ended
        assert "error" in client.events[-1]
        assert client.events[-1]["error"]["message"]
        assert "[DONE]" not in client.events
        settlement = relaying.settlement
        assert settlement.outcome == "upstream_failed"
        assert 0 < settlement.due_nanocredits <= settlement.hold_nanocredits
        assert relaying.books.available == 10**10 - settlement.due_nanocredits


@pytest.mark.parametrize(
    "fault",
    [
        "bytewise",
        "crlf",
        "nospace",
        "bom",
        "multiline",
        "comments",
        "bigline",
        "usage-with-choices",
        "usage-early",
        "no-done",
        "repeated-ids",
        "index-from-one",
    ],
)
async def test_odd_framing_changes_neither_the_answer_nor_the_charge(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """However the bytes come, the text is the same and the usage is read."""
    async with Relaying(fake_upstream) as relaying:
        client = await relaying.call(fault, say="one two three", usage=USAGE, stream=True)
        text = "".join(
            choice["delta"].get("content") or ""
            for event in client.events[:-1]
            for choice in event["choices"]
        )
        assert text.lstrip("x") == "one two three"
        assert client.events[-1] == "[DONE]"
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        assert relaying.settlement.flags == ()


@pytest.mark.parametrize(
    ("fault", "flags"), [("no-usage", {"estimated"}), ("bad-usage", {"estimated", "bad_usage"})]
)
async def test_without_usable_usage_the_charge_is_an_estimate_and_says_so(
    fake_upstream: FakeUpstream, fault: str, flags: set[str]
) -> None:
    """What really came is counted; a client that asked for usage gets the estimate that it pays."""
    async with Relaying(fake_upstream) as relaying:
        client = await relaying.call(
            fault, say="word " * 40, stream=True, stream_options={"include_usage": True}
        )
        settlement = relaying.settlement
        assert set(settlement.flags) == flags
        assert 40 <= settlement.usage.output <= 60
        if fault == "no-usage":
            shown = client.events[-2]["usage"]
            assert shown["completion_tokens"] == settlement.usage.output
            assert shown["prompt_tokens"] == settlement.usage.input_total


async def test_zero_usage_is_usage(fake_upstream: FakeUpstream) -> None:
    """An explicit zero is not taken for a missing figure."""
    async with Relaying(fake_upstream) as relaying:
        await relaying.call("zero-usage", stream=True)
        assert (relaying.settlement.due_nanocredits, relaying.settlement.flags) == (0, ())


async def test_the_tail_does_not_wait_for_an_upstream_that_never_ends(
    fake_upstream: FakeUpstream,
) -> None:
    """Once the usage has come, a missing end is waited for `usage_wait_s` and no longer."""
    async with Relaying(fake_upstream, settings={"usage_wait_s": 0.05}) as relaying:
        client = await asyncio.wait_for(
            relaying.call("hang-after-usage", usage=USAGE, stream=True), 5
        )
        assert client.events[-1] == "[DONE]"
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


async def test_silence_is_filled_with_pings_and_ends_in_an_error(
    fake_upstream: FakeUpstream,
) -> None:
    """A waiting client gets a comment now and then; the idle limit ends the stream."""
    settings = {"keepalive_s": 0.05, "idle_timeout_s": 0.3}
    async with Relaying(fake_upstream, settings=settings) as relaying:
        client = await relaying.call("hang-mid-stream", say="one two three", stream=True)
        assert client.body.count(b": ping\n\n") >= 3
        assert "error" in client.events[-1]
        assert relaying.settlement.attempts[0].error == "idle_timeout"


async def test_a_failure_after_a_ping_is_an_event_with_the_same_code(
    fake_upstream: FakeUpstream,
) -> None:
    """The head has gone with the first ping, so the error can only be an event; failover goes
    on.
    """
    settings = {"keepalive_s": 0.05, "first_byte_timeout_s": 0.2}
    async with Relaying(fake_upstream, settings=settings) as relaying:
        client = await relaying.call("hang-before-head", stream=True)
        assert client.status == 200
        assert client.events[-1]["error"]["message"]
        assert relaying.settlement.attempts[0].error == "first_byte_timeout"
        assert relaying.books.available == 10**10
    async with Relaying(
        fake_upstream, settings=settings, channels=("openai", "openai")
    ) as relaying:
        client = await relaying.call("hang-before-head", "gpt-4o", stream=True)
        assert client.events[-1] == "[DONE]"


async def test_a_hang_up_before_the_head_costs_nothing_and_the_third_is_refused(
    fake_upstream: FakeUpstream,
) -> None:
    """The upstream call is dropped at once; such calls are free, so a key may make only a few."""
    async with Relaying(fake_upstream) as relaying:
        client = RecordingClient()
        task = await relaying.start("hang-before-head", client=client, stream=True)
        client.hang_up()
        with pytest.raises(FareboxError):
            await asyncio.wait_for(task, 5)
        assert relaying.settlement.outcome == "client_gone"
        assert relaying.settlement.attempts[0].error == "client_gone"
        assert relaying.books.available == 10**10
        hangups = relaying.gateway.memory.hangups
        assert hangups.wait_s(CALLER.key.id, 0) == 0
        fake_upstream.wait_for_sockets(0)


async def test_two_hang_ups_within_a_minute_refuse_the_next_call(
    fake_upstream: FakeUpstream,
) -> None:
    """429 with Retry-After, before anything is held or sent."""
    from farebox.admission import Memory, admit
    from farebox.core import clock
    from farebox.dialects import chat

    async with Relaying(fake_upstream) as relaying:
        memory = Memory()
        call = chat.parse(b'{"model":"m","messages":[{"role":"user","content":"x"}]}', "req_x")
        memory.hangups.note(CALLER.key.id, clock.monotonic_s())
        admit(relaying.catalogue("gpt-4o"), memory, CALLER, call)
        memory.hangups.note(CALLER.key.id, clock.monotonic_s())
        with pytest.raises(TooManyRequests) as caught:
            admit(relaying.catalogue("gpt-4o"), memory, CALLER, call)
        assert 1 <= (caught.value.retry_after_s or 0) <= 60


@pytest.mark.parametrize("stream", [True, False])
async def test_a_hang_up_while_the_answer_comes_is_drained_for_the_exact_usage(
    fake_upstream: FakeUpstream, stream: bool
) -> None:
    """The upstream is read to its end without the client: the charge is exact."""
    async with Relaying(fake_upstream) as relaying:
        client = RecordingClient(hang_up_after=1)
        if not stream:
            task = await relaying.start("slow", client=client, say="a b c", usage=USAGE)
            await asyncio.sleep(0.03)
            client.hang_up()
            await task
        else:
            await relaying.call("slow", client=client, say="a b c", usage=USAGE, stream=True)
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.flags) == ("client_gone", ())
        assert settlement.due_nanocredits == USAGE_CHARGE
        assert not client.ended


async def test_a_drain_that_takes_too_long_is_charged_by_estimate(
    fake_upstream: FakeUpstream,
) -> None:
    """After `drain_after_hangup_s` the upstream is dropped, and what it sent so far is paid for."""
    settings = {"drain_after_hangup_s": 0.2, "keepalive_s": 0.05}
    async with Relaying(fake_upstream, settings=settings) as relaying:
        client = RecordingClient(hang_up_after=1)
        await asyncio.wait_for(relaying.call("endless", client=client, stream=True), 5)
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.flags) == ("client_gone", ("estimated",))
        assert settlement.usage.output > 0
        fake_upstream.wait_for_sockets(0)


async def test_draining_can_be_switched_off(fake_upstream: FakeUpstream) -> None:
    """With 0 seconds a hang-up drops the upstream at once."""
    async with Relaying(fake_upstream, settings={"drain_after_hangup_s": 0}) as relaying:
        client = RecordingClient(hang_up_after=1)
        await asyncio.wait_for(relaying.call("endless", client=client, stream=True), 5)
        assert relaying.settlement.outcome == "client_gone"
        fake_upstream.wait_for_sockets(0)


async def test_without_credit_nothing_is_sent(fake_upstream: FakeUpstream) -> None:
    """429 insufficient_quota that says not to retry; a receipt, but no request to the upstream."""
    async with Relaying(fake_upstream, books=MemoryBooks(0)) as relaying:
        with pytest.raises(OutOfCredit) as caught:
            await relaying.call()
        error = caught.value
        assert (error.status, error.type, error.code) == (
            429,
            "insufficient_quota",
            "credit_balance_exhausted",
        )
        assert (error.should_retry, error.retry_after_s) == (False, None)
        assert fake_upstream.requests == []
        assert (relaying.settlement.outcome, relaying.settlement.attempts) == ("refused", ())


async def test_an_operator_may_prefer_402(fake_upstream: FakeUpstream) -> None:
    """The status of an exhausted balance is a setting."""
    async with Relaying(
        fake_upstream, books=MemoryBooks(0), settings={"out_of_credit_status": 402}
    ) as relaying:
        with pytest.raises(OutOfCredit) as caught:
            await relaying.call()
        assert caught.value.status == 402


async def test_what_is_held_is_what_is_sent(fake_upstream: FakeUpstream) -> None:
    """Without a cap of the client's, the upstream gets the one that the balance pays."""
    async with Relaying(fake_upstream, books=MemoryBooks(5_000_000)) as relaying:
        await relaying.call(usage=USAGE)
        cap = fake_upstream.last.body["max_completion_tokens"]
        assert 16 <= cap < 1000
        held = relaying.settlement.hold_nanocredits
        assert held <= 5_000_000
        assert cap * 10_000 <= held


async def test_a_named_cap_is_sent_as_held_and_clamped_by_the_model(
    fake_upstream: FakeUpstream,
) -> None:
    """More than the model gives is clamped, and the answer's head says so."""
    async with Relaying(fake_upstream) as relaying:
        client = await relaying.call(max_completion_tokens=64)
        assert fake_upstream.last.body["max_completion_tokens"] == 64
        assert b"x-farebox-adjusted" not in client.headers
        client = await relaying.call(max_tokens=5000)
        assert fake_upstream.last.body["max_completion_tokens"] == 1000
        assert "max_tokens" not in fake_upstream.last.body
        assert b"max_tokens=clamped" in client.headers[b"x-farebox-adjusted"]


async def test_usage_above_the_hold_is_absorbed_where_the_account_cannot_pay(
    fake_upstream: FakeUpstream,
) -> None:
    """An upstream that ignores its cap takes what the account has, and never more."""
    async with Relaying(fake_upstream, books=MemoryBooks(3_000_000)) as relaying:
        usage = {"prompt_tokens": 10, "completion_tokens": 10_000, "total_tokens": 10_010}
        await relaying.call(usage=usage, max_tokens=20)
        settlement, settled = relaying.observed[-1]
        assert settlement.due_nanocredits == 100_025_000
        assert settled.charge_nanocredits == 3_000_000
        assert settled.absorbed_nanocredits == 97_025_000
        assert relaying.books.available == 0


async def test_unpriced_tiers_and_tools_are_refused(fake_upstream: FakeUpstream) -> None:
    """What has no price is never served for free: 400 that names the parameter."""
    async with Relaying(fake_upstream) as relaying:
        for fields, param in (
            ({"service_tier": "priority"}, "service_tier"),
            ({"web_search_options": {}}, "tools"),
            ({"tools": [{"type": "web_search"}]}, "tools"),
        ):
            with pytest.raises(BadRequest) as caught:
                await relaying.call(**fields)
            assert (caught.value.param, caught.value.code) == (param, "unsupported_value")
        with pytest.raises(NotFound):
            await relaying.call(model="nothing-like-it")
        assert fake_upstream.requests == []
        assert relaying.books.available == 10**10


async def test_a_charge_that_cannot_be_written_is_an_error_not_an_answer(
    fake_upstream: FakeUpstream,
) -> None:
    """An answer that nobody paid for does not leave."""
    async with Relaying(fake_upstream) as relaying:
        relaying.books.broken = True
        with pytest.raises(BillingUnavailable):
            await relaying.call(usage=USAGE)
        client = await relaying.call(say="one two", usage=USAGE, stream=True)
        assert client.events[-1]["error"]["code"] == "billing_unavailable"
        assert "[DONE]" not in client.events


async def test_a_worker_that_ends_settles_what_was_delivered(fake_upstream: FakeUpstream) -> None:
    """A cancelled call charges what came and tells its client that it was not all."""
    async with Relaying(fake_upstream) as relaying:
        client = RecordingClient()
        task = await relaying.start("endless", client=client, stream=True)
        while not client.parts:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait_for(task, 5)
        assert client.events[-1]["error"]["code"] == "server_shutdown"
        assert relaying.settlement.due_nanocredits > 0
        assert relaying.books.holds == {}


async def test_connections_are_used_again(fake_upstream: FakeUpstream) -> None:
    """A stream that ended well leaves its connection to the next call."""
    async with Relaying(fake_upstream) as relaying:
        for _ in range(3):
            await relaying.call(usage=USAGE, stream=True)
            await relaying.call(usage=USAGE)
        assert len({request.connection for request in fake_upstream.requests}) == 1

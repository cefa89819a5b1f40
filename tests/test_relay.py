"""One call's story, told to the relay over a real client and a real upstream: order, hang-ups."""

from __future__ import annotations

import asyncio
import json
from time import sleep

import pytest

from farebox.dialects.body import LARGE_BYTES
from farebox.errors import (
    FareboxError,
    TooManyRequests,
)
from farebox.vendors.body import Body
from farebox.vendors.openai import OpenAI
from tests.fakes.upstream import FakeUpstream
from tests.relaying import CALLER, FULL, USAGE, USAGE_CHARGE, RecordingClient, Relaying

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


async def test_a_json_answer_begins_and_ends_at_once(fake_upstream: FakeUpstream) -> None:
    """So its first token takes as long as all of it, from the call's start and the attempt's."""
    async with Relaying(fake_upstream) as relaying:
        await relaying.call("slow", say="a b c", usage=USAGE)
        settlement = relaying.settlement
        (attempt,) = settlement.attempts
        assert settlement.ms == settlement.ttft_ms
        assert attempt.ms == attempt.ttft_ms
        assert settlement.ms >= attempt.ms > 0


@pytest.mark.parametrize("waits", [False, True])
async def test_a_stream_leaves_at_once_and_its_tail_after_the_charge(
    fake_upstream: FakeUpstream, waits: bool
) -> None:
    """Deltas leave as they arrive; the finish, the usage and [DONE] follow the commit. It is the
    same for a client who has to be waited for.
    """
    async with Relaying(fake_upstream) as relaying:
        client = await relaying.call(
            "slow",
            client=RecordingClient(relaying.books.log, waits=waits),
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


async def test_an_estimate_charges_for_no_more_than_the_cap(fake_upstream: FakeUpstream) -> None:
    """An upstream that ignored the cap and told no usage is the operator's trouble, not the
    caller's.
    """
    async with Relaying(fake_upstream) as relaying:
        await relaying.call("no-usage", say="word " * 400, stream=True, max_tokens=20)
        assert relaying.settlement.usage.output == 20
        assert relaying.settlement.flags == ("estimated",)
        await relaying.call("no-usage", say="word " * 400, max_tokens=20, n=2)
        assert relaying.settlement.usage.output == 40


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


async def test_a_hang_up_before_the_second_channels_head_drops_its_call_at_once(
    fake_upstream: FakeUpstream,
) -> None:
    """What the first one said is no answer of the second."""
    async with Relaying(fake_upstream, channels=("openai", "deepseek")) as relaying:
        client, seen = RecordingClient(), len(fake_upstream.requests)
        task = asyncio.create_task(relaying.call("fail-500", "hang-before-head", client=client))
        async with asyncio.timeout(5):
            while len(fake_upstream.requests) < seen + 2:
                await asyncio.sleep(0.005)
        client.hang_up()
        done, _ = await asyncio.wait([task], timeout=2)
        assert isinstance(task.exception() if done else None, FareboxError)
        errors = [attempt.error for attempt in relaying.settlement.attempts]
        assert (errors, relaying.books.available) == (["status_500", "client_gone"], FULL)


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
            while not client.is_being_answered:
                await asyncio.sleep(0)
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


class SlowVendor(OpenAI):
    """A vendor that takes half a second to prepare a request."""

    def adapt(self, body: Body) -> None:
        sleep(0.5)


@pytest.mark.parametrize("is_picture", [False, True], ids=["text", "picture"])
async def test_a_large_request_holds_nobody_up(
    fake_upstream: FakeUpstream, is_picture: bool
) -> None:
    """Preparing megabytes may take a second, in which other calls go on; also where they are no
    text.
    """
    content: object = "x" * LARGE_BYTES
    if is_picture:
        url = f"data:image/png;base64,{content}"
        content = [{"type": "image_url", "image_url": {"url": url}}]
    async with Relaying(fake_upstream, find_vendor=lambda _: SlowVendor()) as relaying:
        message = {"role": "user", "content": content}
        call = asyncio.create_task(relaying.call(messages=[message], usage=USAGE))
        assert await _ticks_until(call) > 20


async def _ticks_until(task: asyncio.Task[RecordingClient]) -> int:
    """How often a task beside that one got its turn within a twentieth of a second."""
    ticks = 0
    while not task.done():
        started_s = asyncio.get_running_loop().time()
        await asyncio.sleep(0.01)
        ticks += asyncio.get_running_loop().time() - started_s < 0.05
    return ticks


async def test_for_a_client_that_has_gone_nothing_is_sent(fake_upstream: FakeUpstream) -> None:
    """Who left while the hold was being made: an upstream would answer, and want its money."""
    async with Relaying(fake_upstream) as relaying:
        await relaying.call(usage=USAGE)  # a connection is open
        fake_upstream.clear()
        with pytest.raises(FareboxError):
            await relaying.call(usage=USAGE, client=RecordingClient(gone=True))
        await relaying.call(usage=USAGE)
        assert len(fake_upstream.requests) == 1
        gone = relaying.books.settled[1]
        assert (gone.outcome, gone.due_nanocredits, gone.channel) == ("client_gone", 0, None)

"""Answers that end oddly, told byte by byte: what they cost, and that no hold outlives them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from farebox.admission import Memory
from farebox.billing.hold import InputEstimate
from farebox.core.call import Call
from farebox.core.ports import Settled, Settlement
from farebox.core.usage import Usage
from farebox.errors import UpstreamFailed
from farebox.passage import Passage
from tests.fakes.upstream import FakeUpstream
from tests.playing import (
    DONE,
    END,
    GOOD_USAGE,
    JSON,
    STREAM,
    PacedClient,
    Step,
    chunk,
    part,
    played,
    text_of,
    usage_event,
)
from tests.relaying import USAGE, USAGE_CHARGE, MemoryBooks, RecordingClient, Relaying

pytestmark = pytest.mark.anyio

# A number that JSON allows and no program reads, and bytes that are no text.
UNREADABLE = (b'{"prompt_tokens":10,"cost":1e400}', b'{"prompt_tokens":10,"x":"\xff"}')


@pytest.mark.parametrize("usage", UNREADABLE, ids=("number", "text"))
@pytest.mark.parametrize("stream", [True, False], ids=("stream", "json"))
async def test_usage_that_nobody_can_read_is_estimated(
    usage: bytes, stream: bool, fake_upstream: FakeUpstream
) -> None:
    """It counts as none, as any absurd usage does: the call is settled, and no hold is left."""
    answer = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],"usage":'
    steps = (JSON, part(answer + usage + b"}"), END)
    if stream:
        steps = (STREAM, chunk("hi"), chunk(finish="stop"), usage_event(usage), DONE, END)
    async with played(fake_upstream, *steps) as relaying:
        client = await relaying.call(stream=stream)
        assert client.ended
        assert relaying.settlement.flags == ("bad_usage", "estimated")
        assert relaying.settlement.due_nanocredits > 0
        assert relaying.books.holds == {}


class LateBooks(MemoryBooks):
    """Books that write the first call when another one was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.another: Callable[[], Awaitable[object]] | None = None

    async def settle(self, settlement: Settlement) -> Settled:
        another, self.another = self.another, None
        if another is not None:
            await another()
        return await super().settle(settlement)


async def test_the_connection_of_a_whole_answer_is_free_while_the_call_is_charged(
    fake_upstream: FakeUpstream,
) -> None:
    """The next call goes by it."""
    books = LateBooks()
    async with Relaying(fake_upstream, books=books) as relaying:
        books.another = relaying.call
        await relaying.call()
        assert relaying.client is not None
        assert (len(books.settled), relaying.client.open_connections) == (2, 1)


class FaultyBooks(MemoryBooks):
    """Books with a defect, which is not the same as books that cannot be written."""

    async def settle(self, settlement: Settlement) -> Settled:
        raise ZeroDivisionError


class FaultyEstimate(InputEstimate):
    """An estimate with a defect."""

    def learn(self, call: Call, key_id: str, model: str, input_tokens: int) -> None:
        raise ZeroDivisionError


async def test_a_defect_of_the_books_is_told_to_the_client(fake_upstream: FakeUpstream) -> None:
    """A stream that nobody could charge ends in an error event, never in silence."""
    async with played(
        fake_upstream,
        STREAM,
        chunk("hi"),
        chunk(finish="stop"),
        GOOD_USAGE,
        DONE,
        END,
        books=FaultyBooks(),
    ) as relaying:
        client = await relaying.call(stream=True)
        assert client.ended
        assert client.events[-1]["error"]["type"] == "server_error"


async def test_a_call_that_cannot_be_reckoned_gives_its_hold_back(
    fake_upstream: FakeUpstream,
) -> None:
    """A defect of ours costs the caller nothing, leaves a receipt that says so, and no hold."""
    steps = (STREAM, chunk("hi"), chunk(finish="stop"), GOOD_USAGE, DONE, END)
    async with played(fake_upstream, *steps, memory=Memory(FaultyEstimate())) as relaying:
        client = await relaying.call(stream=True)
        assert "error" in client.events[-1]
        settlement = relaying.settlement
        assert (settlement.due_nanocredits, settlement.flags) == (0, ("not_reckoned",))
        assert relaying.books.holds == {}


async def test_the_second_choice_is_waited_for(fake_upstream: FakeUpstream) -> None:
    """Usage in each chunk: when the first choice has finished, the second may still be due."""
    usage = {**USAGE, "completion_tokens": 9}
    async with played(
        fake_upstream,
        STREAM,
        chunk("one", usage=USAGE),
        chunk(finish="stop", usage=USAGE),
        0.4,
        chunk("two", index=1, usage=usage),
        chunk(finish="stop", index=1, usage=usage),
        DONE,
        END,
        settings={"usage_wait_s": 0.1},
    ) as relaying:
        client = await relaying.call(stream=True, n=2)
        said = [c["delta"].get("content") for e in client.events[:-1] for c in e["choices"]]
        assert [text for text in said if text] == ["one", "two"]
        assert relaying.settlement.usage == Usage(uncached_input=10, output=9)


async def test_a_connection_that_breaks_after_the_usage_spoils_nothing(
    fake_upstream: FakeUpstream,
) -> None:
    """The answer and its usage had come, and are charged: so the client gets them, as whole."""
    steps = (STREAM, chunk("hi"), chunk(finish="stop"), GOOD_USAGE, 0.05)
    async with played(fake_upstream, *steps) as relaying:
        client = await relaying.call(stream=True)
        assert client.events[-1] == "[DONE]"
        assert client.events[-2]["choices"][0]["finish_reason"] == "stop"
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.due_nanocredits) == ("complete", USAGE_CHARGE)


async def test_comments_of_the_upstream_are_no_sign_of_life_for_the_client(
    fake_upstream: FakeUpstream,
) -> None:
    """They are not passed on, so the client gets ours while the upstream only sends those."""
    comments = (part(b": busy\n\n"), 0.05) * 8
    async with played(
        fake_upstream,
        *(STREAM, chunk("hi"), *comments, chunk(finish="stop"), GOOD_USAGE, DONE, END),
        settings={"keepalive_s": 0.1},
    ) as relaying:
        client = await relaying.call(stream=True)
        assert 2 <= client.body.count(b": ping\n\n") <= 6
        assert client.events[-1] == "[DONE]"


@pytest.mark.parametrize(
    "answer",
    [
        (STREAM, 0.1, part(b'data: {"error":{"message":"boom"}}\n\n'), END),
        (JSON, 0.1, part(b'{"error":{"message":"boom"}}'), END),
        (JSON, 0.1, part(b"<html>"), END),
    ],
    ids=("error event", "error object", "html"),
)
async def test_an_error_in_place_of_an_answer_costs_nothing_though_the_client_has_gone(
    answer: tuple[bytes | float, ...], fake_upstream: FakeUpstream
) -> None:
    """Who hangs up after the head pays for the input, but not where there was never an answer."""
    async with played(fake_upstream, *answer) as relaying:
        client = RecordingClient()
        call = asyncio.create_task(relaying.call(stream=True, client=client))
        await asyncio.sleep(0.05)
        client.hang_up()
        with pytest.raises(UpstreamFailed):
            await call
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.due_nanocredits) == ("client_gone", 0)


class SlowBooks(MemoryBooks):
    """Books that write at once and take their time to say so."""

    async def settle(self, settlement: Settlement) -> Settled:
        known = next((s for s in self.settled if s.request_id == settlement.request_id), None)
        settled = Settled(settlement.due_nanocredits, 0) if known else None
        settled = settled or await super().settle(settlement)
        await asyncio.sleep(0.2)
        return settled


@pytest.mark.parametrize("stream", [True, False], ids=("stream", "json"))
async def test_who_pays_for_a_whole_answer_gets_it_though_the_worker_ends(
    stream: bool, fake_upstream: FakeUpstream
) -> None:
    """Cancelled while the charge was being written: it is written once, and the end is sent."""
    async with Relaying(fake_upstream, books=SlowBooks()) as relaying:
        client = RecordingClient()
        task = asyncio.create_task(relaying.call(client=client, stream=stream, usage=USAGE))
        while not relaying.books.settled:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait_for(task, 5)
        assert client.ended
        assert b'"error"' not in client.body
        assert [s.due_nanocredits for s in relaying.books.settled] == [USAGE_CHARGE]


async def test_a_call_cut_off_by_a_shutdown_names_its_own_channel(
    fake_upstream: FakeUpstream,
) -> None:
    """The second channel was answering when the worker ended: both attempts are on the receipt."""
    async with Relaying(fake_upstream, channels=("openai", "deepseek")) as relaying:
        client = RecordingClient()
        task = asyncio.create_task(relaying.call("fail-500", "endless", client=client, stream=True))
        while not client.parts:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait_for(task, 5)
        attempts = [(attempt.channel, attempt.error) for attempt in relaying.settlement.attempts]
        assert attempts == [("ch-0-openai", "status_500"), ("ch-1-deepseek", "shutdown")]
        assert relaying.settlement.channel == "ch-1-deepseek"


async def test_a_whole_answer_that_trickles_in_is_drained_no_longer_than_may_be(
    fake_upstream: FakeUpstream,
) -> None:
    """Nobody waits for the next sign of life to see that the client's time is over."""
    trickle = [step for _ in range(500) for step in (part(b" "), 0.02)]
    settings = {"drain_after_hangup_s": 0.1}
    client = RecordingClient()
    async with played(fake_upstream, JSON, *trickle, settings=settings) as relaying:
        call = asyncio.create_task(relaying.call(client=client))
        async with asyncio.timeout(20):
            while not client.is_being_answered:
                await asyncio.sleep(0.002)
            client.hang_up()
            with pytest.raises(UpstreamFailed):
                await call
        assert relaying.settlement.attempts[0].error == "client_gone"


@pytest.mark.parametrize("end", [(END,), ()], ids=("clean", "reset"))
async def test_a_stream_may_end_early_behind_events_that_are_alike(
    end: tuple[bytes, ...], fake_upstream: FakeUpstream
) -> None:
    """Each of them came by itself, and went on without a look at the rest of the stream."""
    client = PacedClient(*map(chunk, ("one", " two", " three", " four")))
    async with played(fake_upstream, STREAM, *client.steps, *end) as relaying:
        relaying.memory.reporting.add("ch-0-openai")  # so that the text is not kept
        await relaying.call(stream=True, max_tokens=100, client=client)
        assert text_of(client) == "one two three four"
        assert client.ended
        assert "error" in client.events[-1]
        assert relaying.settlement.outcome == "upstream_failed"
        assert 0 < relaying.settlement.due_nanocredits <= relaying.settlement.hold_nanocredits


async def test_events_that_are_alike_may_be_followed_by_any(fake_upstream: FakeUpstream) -> None:
    """The finish, the usage and the end come by themselves, and so does a comment."""
    client = PacedClient(*map(chunk, ("one", " two", " three")))
    more = (part(b": comment\n\n"), chunk(" four"), chunk(finish="stop"), GOOD_USAGE, DONE, END)
    steps = [each for step in more for each in (step, 0.01)]
    async with played(fake_upstream, STREAM, *client.steps, *steps[:-1]) as relaying:
        relaying.memory.reporting.add("ch-0-openai")
        await relaying.call(stream=True, max_tokens=100, client=client)
        assert text_of(client) == "one two three four"
        assert client.events[-1] == "[DONE]"
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        assert relaying.settlement.flags == ()


ENDS: dict[str, tuple[Step, ...]] = {
    "good": (chunk("hi"), chunk(finish="stop"), GOOD_USAGE, DONE, END),
    "bad event": (chunk("hi"), part(b"data: {nonsense\n\n"), END),
    "bad from the start": (part(b"data: {nonsense\n\n"), END),
    "error": (chunk("hi"), part(b'data: {"error":{"message":"boom"}}\n\n'), END),
    "broken off": (chunk("hi"), 0.02),
}


@pytest.mark.parametrize("name", ENDS)
async def test_of_a_call_that_is_over_nothing_is_kept(
    name: str, fake_upstream: FakeUpstream
) -> None:
    """However it ended: an error knows the frames that it came through, and those the call."""

    async def call(relaying: Relaying) -> None:
        with suppress(UpstreamFailed):  # where nothing was sent yet
            await relaying.call(stream=True)

    async with played(fake_upstream, STREAM, *ENDS[name]) as relaying:
        before = _passages()
        for _ in range(3):
            await asyncio.create_task(call(relaying))
        assert len(relaying.books.settled) == 3
        await asyncio.sleep(0)
        assert _passages() <= before


def _passages() -> int:
    gc.collect()
    return sum(isinstance(each, Passage) for each in gc.get_objects())

"""Streams that are held for part by part: what is held is always more than what has come."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from farebox.core.ports import HoldRequest, Settled, Settlement
from farebox.errors import BillingUnavailable, BudgetExceeded, OutOfCredit, Unauthorized
from farebox.holding import PART_TOKENS, UNSEEN_TOKENS
from tests.fakes.upstream import FakeUpstream
from tests.playing import (
    DONE,
    END,
    STREAM,
    PacedClient,
    chunk,
    played,
    seen,
    text_of,
    usage_event,
)
from tests.relaying import FULL, MemoryBooks, RecordingClient, Relaying
from tests.upstream.raw_server import Peer, raw_server

pytestmark = pytest.mark.anyio

OUTPUT = 10_000  # nano-credits a token
PART = PART_TOKENS * OUTPUT
CAP = 100_000  # tokens: the model's longest answer
# A vendor that shows all that it writes; the input costs nothing, so that sums are plain.
SHOWN: dict[str, Any] = {
    "vendors": {"openai": "deepseek"},
    "model": {"max_output": CAP},
    "price": {"input": "0", "output": "10"},
}
STOP = chunk(finish="stop")


def usage(output_tokens: int) -> bytes:
    """The event that tells it."""
    told = {"prompt_tokens": 0, "completion_tokens": output_tokens, "total_tokens": output_tokens}
    return usage_event(json.dumps(told).encode())


async def test_a_part_is_held_and_the_longest_answer_is_asked_for(
    fake_upstream: FakeUpstream,
) -> None:
    """A short answer never holds for more than a part of the longest one."""
    steps = (STREAM, chunk("hi"), STOP, usage(1), DONE, END)
    async with played(fake_upstream, *steps, **SHOWN) as relaying:
        client = await relaying.call(stream=True)
        assert client.events[-1] == "[DONE]"
        assert relaying.played is not None
        assert json.loads(relaying.played.requests[0].body)["max_tokens"] == CAP
        least = 16 * OUTPUT
        assert relaying.books.requests == [HoldRequest("req_0", 1, "key_1", least, PART)]
        assert relaying.books.extended == []
        assert (relaying.settlement.hold_nanocredits, relaying.settlement.due_nanocredits) == (
            PART,
            OUTPUT,
        )


@pytest.mark.parametrize(("text_bytes", "extended"), [(2764, []), (2765, [PART])])
async def test_at_four_fifths_another_part_is_asked_for(
    fake_upstream: FakeUpstream, text_bytes: int, extended: list[int]
) -> None:
    """A byte counts as a token, and what is not seen of an answer as some more."""
    assert (text_bytes + UNSEEN_TOKENS) * 5 - PART_TOKENS * 4 in range(-4, 2)
    client = PacedClient(chunk("x" * text_bytes))
    steps = (STREAM, *client.steps, STOP, usage(700), DONE, END)
    async with played(fake_upstream, *steps, **SHOWN) as relaying:
        await relaying.call(stream=True, client=client)
        assert client.events[-1] == "[DONE]"
        assert relaying.books.extended == extended
        assert relaying.books.available == FULL - 700 * OUTPUT


class SlowBooks(MemoryBooks):
    """Books that answer an extension when they are told to."""

    def __init__(self, balance: int = FULL) -> None:
        super().__init__(balance)
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def extend(self, request_id: str, more_nanocredits: int) -> int:
        self.asked.set()
        await self.may_answer.wait()
        return await super().extend(request_id, more_nanocredits)


async def test_a_stream_goes_on_while_more_is_asked_for_and_waits_only_when_all_is_used(
    fake_upstream: FakeUpstream,
) -> None:
    """What has come beyond what is held leaves when it is held for, and not before."""
    books = SlowBooks()
    # 3,500 bytes and what is not seen, 512, are fewer than 4,096.
    client = PacedClient(chunk("a" * 3000), chunk("b" * 500), chunk("c" * 500))
    steps = (STREAM, *client.steps, STOP, usage(1000), DONE, END)
    async with played(fake_upstream, *steps, books=books, **SHOWN) as relaying:
        call = asyncio.create_task(relaying.call(stream=True, client=client))
        await seen(client, "a" * 3000 + "b" * 500)
        assert books.asked.is_set()
        await asyncio.sleep(0.05)  # the third has come by now
        assert "c" not in text_of(client)
        books.may_answer.set()
        await asyncio.wait_for(call, 5)
        assert client.events[-1] == "[DONE]"
        assert text_of(client).endswith("c" * 500)
        assert relaying.settlement.hold_nanocredits == 2 * PART
        assert books.available == FULL - 1000 * OUTPUT


async def test_an_answer_that_ends_does_not_wait_for_what_it_does_not_need(
    fake_upstream: FakeUpstream,
) -> None:
    """The extension that nobody has answered is given up, and nothing of it stays held."""
    books = SlowBooks()
    steps = (STREAM, chunk("a" * 3000), books.asked, STOP, usage(700), DONE, END)
    async with played(fake_upstream, *steps, books=books, **SHOWN) as relaying:
        client = await asyncio.wait_for(relaying.call(stream=True), 5)
        assert client.events[-1] == "[DONE]"
        books.may_answer.set()
        await asyncio.sleep(0)
        assert (books.holds, books.extended) == ({}, [])
        assert books.available == FULL - 700 * OUTPUT


async def test_a_refused_extension_ends_the_stream_with_an_error(
    fake_upstream: FakeUpstream,
) -> None:
    """Never a clean end: what has come is paid for by its size, within what was held, and the
    upstream is not read on.
    """
    client = PacedClient(*[chunk("x" * 500)] * 8)
    steps = (STREAM, *client.steps[:-1], "hung up", END)
    async with played(fake_upstream, *steps, books=MemoryBooks(PART + 5), **SHOWN) as relaying:
        await asyncio.wait_for(relaying.call(stream=True, client=client), 5)
        assert client.ended
        assert client.events[-1]["error"]["code"] == "credit_balance_exhausted"
        assert client.events[-1]["error"]["type"] == "insufficient_quota"
        assert text_of(client) == "x" * 3500
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.flags) == ("refused", ("estimated", "not_covered"))
        assert settlement.due_nanocredits == 3500 // 4 * OUTPUT
        assert [attempt.error for attempt in settlement.attempts] == ["not_covered"]
        assert (relaying.books.absorbed, relaying.books.holds) == (0, {})
        assert relaying.played is not None
        await relaying.played.wait_until_open(0)


async def test_credit_that_comes_meanwhile_is_used(fake_upstream: FakeUpstream) -> None:
    """Refused in the background at four fifths, it is asked for once more when all is used."""
    books = MemoryBooks(PART)
    topped_up = asyncio.Event()
    client = PacedClient(chunk("a" * 3000), chunk("b" * 100), chunk("c" * 1000))
    client.steps.insert(4, topped_up)
    steps = (STREAM, *client.steps, STOP, usage(1000), DONE, END)
    async with played(fake_upstream, *steps, books=books, **SHOWN) as relaying:
        call = asyncio.create_task(relaying.call(stream=True, client=client))
        await seen(client, "a" * 3000 + "b" * 100)
        assert books.extended == [PART]
        books.available += FULL
        topped_up.set()
        await asyncio.wait_for(call, 5)
        assert client.events[-1] == "[DONE]"
        assert (books.extended, books.absorbed) == ([PART, PART], 0)


class Refusing(MemoryBooks):
    """Books that refuse every extension for a reason of their own."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def extend(self, request_id: str, more_nanocredits: int) -> int:
        raise self._error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BudgetExceeded("It is used up."), "refused"),
        (BillingUnavailable("Away."), "upstream_failed"),
        (Unauthorized("The account is closed."), "refused"),
    ],
)
async def test_other_refusals_end_a_stream_by_their_own_names(
    fake_upstream: FakeUpstream, error: Any, outcome: str
) -> None:
    """A key's budget, and books that cannot be reached."""
    client = PacedClient(*[chunk("x" * 1000)] * 5)
    steps = (STREAM, *client.steps, STOP, usage(1250), DONE, END)
    async with played(fake_upstream, *steps, books=Refusing(error), **SHOWN) as relaying:
        await relaying.call(stream=True, client=client)
        assert client.events[-1]["error"]["code"] == error.code
        assert relaying.settlement.outcome == outcome
        assert relaying.settlement.due_nanocredits == 3000 // 4 * OUTPUT


async def test_a_response_ends_in_its_own_dialect(fake_upstream: FakeUpstream) -> None:
    """The Responses API has an event for what failed."""
    client = PacedClient(*[chunk("x" * 1000)] * 5)
    steps = (STREAM, *client.steps, END)
    async with played(fake_upstream, *steps, books=MemoryBooks(PART), **SHOWN) as relaying:
        await asyncio.wait_for(relaying.respond(stream=True, client=client), 5)
        assert client.events[-1]["type"] == "response.failed"
        assert client.events[-1]["response"]["error"]["code"] == "insufficient_quota"


async def test_an_answer_that_is_counted_needs_no_guess(fake_upstream: FakeUpstream) -> None:
    """It came whole in one piece with its usage: the tokens count, not the bytes."""
    whole = b"".join((chunk("x" * 9000), STOP, usage(2000)))
    steps = (STREAM + whole, DONE, END)
    async with played(fake_upstream, *steps, books=MemoryBooks(PART), **SHOWN) as relaying:
        client = await relaying.call(stream=True)
        assert client.events[-1] == "[DONE]"
        assert relaying.books.extended == []
        assert relaying.settlement.due_nanocredits == 2000 * OUTPUT


async def test_every_choice_is_held_for(fake_upstream: FakeUpstream) -> None:
    """Two answers hold two parts, and count together."""
    client = PacedClient(chunk("x" * 3000), chunk("y" * 3000, index=1), chunk("z" * 100))
    ends = (STOP, chunk(finish="stop", index=1))
    steps = (STREAM, *client.steps, *ends, usage(1500), DONE, END)
    async with played(fake_upstream, *steps, **SHOWN) as relaying:
        await relaying.call(stream=True, n=2, client=client)
        assert client.events[-1] == "[DONE]"
        assert relaying.books.requests[0].most_nanocredits == 2 * PART
        assert relaying.books.extended == [2 * PART]


async def test_an_estimate_is_never_above_what_is_held(fake_upstream: FakeUpstream) -> None:
    """Whatever a count of ours comes to: it is the upstream's usage that is missing."""
    steps = (STREAM, chunk("x" * 100), STOP, DONE, END)
    async with played(fake_upstream, *steps, tokens=9000, **SHOWN) as relaying:
        await relaying.call(stream=True)
        assert relaying.settlement.due_nanocredits == relaying.settlement.hold_nanocredits == PART


async def test_the_upstream_is_let_go_of_before_the_charge(fake_upstream: FakeUpstream) -> None:
    """What it would go on to write is nobody's."""

    class Looking(MemoryBooks):
        async def settle(self, settlement: Settlement) -> Settled:
            assert relaying.played is not None
            await relaying.played.wait_until_open(0)
            return await super().settle(settlement)

    client = PacedClient(*[chunk("x" * 500)] * 8)
    steps = (STREAM, *client.steps[:-1], "hung up", END)
    async with played(fake_upstream, *steps, books=Looking(PART), **SHOWN) as relaying:
        await asyncio.wait_for(relaying.call(stream=True, client=client), 10)
        assert [each.outcome for each in relaying.books.settled] == ["refused"]


async def test_within_the_cap_nothing_more_is_asked_for(fake_upstream: FakeUpstream) -> None:
    """When the longest answer is held for, no text can be too long."""
    client = PacedClient(*[chunk("x" * 1000)] * 9)
    steps = (STREAM, *client.steps, STOP, usage(5000), DONE, END)
    shown = {**SHOWN, "model": {"max_output": 5000}}
    async with played(fake_upstream, *steps, **shown) as relaying:
        await relaying.call(stream=True, client=client)
        assert client.events[-1] == "[DONE]"
        assert relaying.books.extended == [904 * OUTPUT]
        assert relaying.settlement.hold_nanocredits == 5000 * OUTPUT


async def test_who_cannot_pay_a_part_gets_an_answer_that_ends_by_itself(
    fake_upstream: FakeUpstream,
) -> None:
    """All that there is was held, so the upstream is told to stop there."""
    steps = (STREAM, chunk("x" * 900), STOP, usage(225), DONE, END)
    books = MemoryBooks(1000 * OUTPUT)
    async with played(fake_upstream, *steps, books=books, **SHOWN) as relaying:
        await relaying.call(stream=True)
        assert relaying.played is not None
        assert json.loads(relaying.played.requests[0].body)["max_tokens"] == 1000
        assert books.extended == []


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        pytest.param({"vendors": {}}, {}, id="a vendor that hides thoughts"),
        pytest.param({"vendors": {"openai": "openai_compatible"}}, {}, id="a vendor of any kind"),
        pytest.param({"speaks": {"openai": ("responses",)}}, {}, id="a wire that hides thoughts"),
        pytest.param({}, {"stream": False}, id="no stream"),
        pytest.param({}, {"modalities": ["text", "audio"]}, id="sound"),
        pytest.param(
            {"price": {**SHOWN["price"], "tools": {"web_search": "0"}}},
            {"tools": [{"type": "web_search"}]},
            id="a tool that the vendor runs",
        ),
    ],
)
async def test_what_is_not_all_seen_is_held_for_in_full(
    fake_upstream: FakeUpstream, more: dict[str, Any], fields: dict[str, Any]
) -> None:
    """Where more may be charged than the stream shows."""
    async with played(fake_upstream, b"", **{**SHOWN, **more}) as relaying:
        with pytest.raises(Exception, match="upstream"):
            await relaying.call(**{"stream": True, **fields})
        assert relaying.books.requests[0].most_nanocredits == CAP * OUTPUT


async def test_a_cap_of_the_clients_own_is_held_for_in_full(fake_upstream: FakeUpstream) -> None:
    """Who names one is told at once if it cannot be paid."""
    steps = (STREAM, chunk("hi"), STOP, usage(1), DONE, END)
    async with played(fake_upstream, *steps, **SHOWN) as relaying:
        await relaying.call(stream=True, max_tokens=50_000)
        request = relaying.books.requests[0]
        assert request.least_nanocredits == request.most_nanocredits == 50_000 * OUTPUT


async def test_a_hundred_streams_without_a_cap_share_a_small_balance(
    fake_upstream: FakeUpstream,
) -> None:
    """Several run at a time where one would hold all; nothing is absorbed, and no answer is both
    whole and unpaid.
    """
    balance = 7 * PART + 3
    books = MemoryBooks(balance)

    async def answer(peer: Peer) -> None:
        pieces = 4 + 3 * (peer.number % 6)  # of 500 bytes: some are longer than a part
        await peer.request()
        await peer.send(STREAM)
        for _ in range(pieces):
            await peer.send(chunk("x" * 500))
            await asyncio.sleep(0.002)
        await peer.send(STOP + usage(pieces * 125) + DONE + END)

    async def ask(relaying: Relaying) -> str:
        try:
            client = await relaying.call(stream=True)
        except OutOfCredit:
            return "refused"
        assert client.ended
        last = client.events[-1]
        return "whole" if last == "[DONE]" else str(last["error"]["code"])

    async with raw_server(answer) as server:
        urls = {"openai": server.url("/v1")}
        async with Relaying(fake_upstream, books=books, base_urls=urls, **SHOWN) as relaying:
            asked = [ask(relaying) for _ in range(100)]
            ends = await asyncio.wait_for(asyncio.gather(*asked), 60)
    assert set(ends) <= {"whole", "refused", "credit_balance_exhausted"}
    assert 0 < ends.count("whole") < 100
    assert books.most_at_once > 1
    assert (books.absorbed, books.holds) == (0, {})
    assert books.available == balance - sum(each.due_nanocredits for each in books.settled) >= 0
    assert all(each.due_nanocredits <= each.hold_nanocredits for each in books.settled)
    complete = [each for each in books.settled if each.outcome == "complete"]
    assert len(complete) == ends.count("whole")
    assert all(each.flags == () for each in complete)


async def test_an_upstream_that_shows_nothing_is_not_believed(fake_upstream: FakeUpstream) -> None:
    """Usage beyond what was shown is charged as any that is above the hold."""
    steps = (STREAM, chunk("hi"), STOP, usage(9000), DONE, END)
    async with played(fake_upstream, *steps, books=MemoryBooks(PART), **SHOWN) as relaying:
        await relaying.call(stream=True)
        assert relaying.settlement.due_nanocredits == 9000 * OUTPUT
        assert relaying.books.absorbed == 9000 * OUTPUT - PART


async def test_a_draining_call_keeps_its_hold_and_extends_it(fake_upstream: FakeUpstream) -> None:
    """Who hung up pays for what comes until the end, so that is held for too."""
    more = asyncio.Event()
    longer = (chunk("b" * 3000), 0.05, chunk("c" * 1000))
    steps = (STREAM, chunk("a" * 100), more, *longer, STOP, usage(1000), DONE, END)
    async with played(fake_upstream, *steps, **SHOWN) as relaying:
        client = RecordingClient()
        call = asyncio.create_task(relaying.call(stream=True, client=client))
        await seen(client, "a" * 100)
        client.hang_up()
        assert relaying.books.holds == {"req_0": PART}
        more.set()
        await asyncio.wait_for(call, 5)
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.due_nanocredits) == ("client_gone", 1000 * OUTPUT)
        assert settlement.hold_nanocredits == 2 * PART
        assert relaying.books.holds == {}

"""Who pays when something breaks: rows of the published policy that no other test is named for, and
what the books are told of an answer's end.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from farebox import relay
from farebox.billing.prices import read_price
from farebox.core.call import Headers
from farebox.core.ports import HoldRequest, Settled, Settlement
from farebox.core.usage import Usage
from farebox.dialects import chat
from farebox.errors import BillingUnavailable
from tests.fakes.upstream import FakeUpstream
from tests.playing import END, JSON, STREAM, chunk, played
from tests.relaying import (
    CALLER,
    FULL,
    USAGE,
    USAGE_CHARGE,
    MemoryBooks,
    RecordingClient,
    Relaying,
)

pytestmark = pytest.mark.anyio

CALL = b'{"model":"m","messages":[{"role":"user","content":"Hello"}]}'


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_is_delivered_when_its_client_has_its_end(
    fake_upstream: FakeUpstream, stream: bool
) -> None:
    """The books hear it after the last byte was handed over, not before."""
    async with Relaying(fake_upstream) as relaying:

        class Asking(RecordingClient):
            async def send(self, data: bytes, *, last: bool = False) -> None:
                assert relaying.books.delivered_ids == []
                await super().send(data, last=last)

        client = await relaying.call(usage=USAGE, stream=stream, client=Asking())
        assert client.ended
        assert relaying.books.delivered_ids == ["req_0"]


async def test_who_hangs_up_after_the_charge_has_had_an_answer(fake_upstream: FakeUpstream) -> None:
    """It was there to be taken, as with any hang-up: nothing is left that counts as undelivered."""
    async with Relaying(fake_upstream) as relaying:
        client = RecordingClient()

        class Leaving(MemoryBooks):
            async def settle(self, settlement: Settlement) -> Settled:
                settled = await super().settle(settlement)
                client.hang_up()
                return settled

        relaying.books = Leaving()
        await relaying.call(usage=USAGE, client=client)
        assert (relaying.settlement.outcome, client.ended) == ("complete", False)
        assert relaying.books.delivered_ids == ["req_0"]


async def test_what_ends_in_an_error_is_never_delivered(fake_upstream: FakeUpstream) -> None:
    """A stream that broke; and one whose client could not be sent the end, by a defect of ours."""

    class Broken(RecordingClient):
        async def send(self, data: bytes, *, last: bool = False) -> None:
            if last:
                raise ZeroDivisionError
            await super().send(data, last=last)

    async with Relaying(fake_upstream) as relaying:
        await relaying.call("early-end", say="one two three", stream=True)
        with pytest.raises(ZeroDivisionError):
            await relaying.call(say="one two three", usage=USAGE, stream=True, client=Broken())
        assert [each.outcome for each in relaying.books.settled] == ["upstream_failed", "complete"]
        assert relaying.books.delivered_ids == []


class LateBooks(MemoryBooks):
    """Books that write what they say they could not write in time."""

    async def settle(self, settlement: Settlement) -> Settled:
        await super().settle(settlement)
        raise BillingUnavailable("The charge was not written in time.")


async def test_a_commit_that_takes_too_long_is_an_error_and_the_charge_stands(
    fake_upstream: FakeUpstream,
) -> None:
    """The client gets no end; the settlement is written later, and counts as not delivered."""
    async with Relaying(fake_upstream, books=LateBooks()) as relaying:
        client = await relaying.call(say="one two", usage=USAGE, stream=True)
        assert client.events[-1]["error"]["code"] == "billing_unavailable"
        assert "[DONE]" not in client.events
        assert relaying.settlement.outcome == "complete"
        assert relaying.books.available == FULL - USAGE_CHARGE
        assert relaying.books.delivered_ids == []


async def test_a_price_that_changes_during_a_call_changes_nothing(
    fake_upstream: FakeUpstream,
) -> None:
    """The price at admission, and its version, also when the catalogue is another by the end."""
    async with Relaying(fake_upstream) as relaying:
        client = RecordingClient()
        task = await relaying.start("slow", say="a b c d", usage=USAGE, stream=True, client=client)
        catalogue = relaying.gateway.catalogue
        (model,) = catalogue.models.values()
        dearer = replace(model, prices=(read_price({"input": "50", "output": "900"}),))
        relaying.gateway.catalogue = replace(catalogue, version=8, models={model.id: dearer})
        await task
        assert (relaying.settlement.price_version, relaying.settlement.due_nanocredits) == (
            7,
            USAGE_CHARGE,
        )


async def test_the_price_in_force_at_admission_counts(fake_upstream: FakeUpstream) -> None:
    """Of a model's prices, each from a day on, the last that has begun."""
    async with Relaying(fake_upstream) as relaying:
        await relaying.call(usage=USAGE)
        catalogue = relaying.gateway.catalogue
        (model,) = catalogue.models.values()
        days = ("2020-01-01", "2024-01-01", "2999-01-01")
        table = {"input": "1", "output": "1"}
        prices = tuple(
            read_price({**table, "input": str(n + 1), "from": day}) for n, day in enumerate(days)
        )
        dated = replace(model, prices=prices)
        relaying.gateway.catalogue = type(catalogue).of(
            9, catalogue.channels.values(), [dated], catalogue.groups.values()
        )
        client = RecordingClient()
        await relay.serve(relaying.gateway, CALLER, chat.parse(CALL, "req_dated"), client)
        assert relaying.settlement.usage.input_total > 0
        owed = relaying.settlement.usage
        assert relaying.settlement.due_nanocredits == owed.input_total * 2000 + owed.output * 1000


async def test_after_a_call_that_was_absorbed_every_byte_is_a_token(
    fake_upstream: FakeUpstream,
) -> None:
    """For a day the account's input is held for in full, whatever was learnt before."""
    async with Relaying(fake_upstream, books=MemoryBooks(3_000_000)) as relaying:
        await relaying.call(usage=USAGE, max_tokens=20)
        await relaying.call(usage=USAGE, max_tokens=20)
        trusted = relaying.books.requests[-1].most_nanocredits
        usage = {"prompt_tokens": 10, "completion_tokens": 10_000, "total_tokens": 10_010}
        await relaying.call(usage=usage, max_tokens=20)
        assert relaying.books.absorbed > 0
        relaying.books.available = FULL
        await relaying.call(usage=USAGE, max_tokens=20)
        distrusted = relaying.books.requests[-1].most_nanocredits
        assert distrusted > trusted
        assert distrusted == relaying.books.requests[0].most_nanocredits


class AwayBooks(MemoryBooks):
    """Books that cannot be reached."""

    async def hold(self, request: HoldRequest) -> int:
        raise BillingUnavailable("The books cannot be reached.")


async def test_books_that_are_away_refuse_and_serve_nothing_for_free(
    fake_upstream: FakeUpstream,
) -> None:
    """503 billing_unavailable with Retry-After, and nothing is sent or written."""
    async with Relaying(fake_upstream, books=AwayBooks()) as relaying:
        with pytest.raises(BillingUnavailable) as caught:
            await relaying.call()
        error = caught.value
        assert (error.status, error.code, error.retry_after_s) == (503, "billing_unavailable", 5)
        assert (fake_upstream.requests, relaying.books.settled) == ([], [])


@pytest.mark.parametrize("head", [STREAM, JSON], ids=("stream", "json"))
async def test_who_hangs_up_after_the_head_pays_for_the_input(
    fake_upstream: FakeUpstream, head: bytes
) -> None:
    """The vendor had begun to work: with no content come when the time is over, an estimate."""
    answer = (head, "hung up", END)
    settings = {"drain_after_hangup_s": 0.05, "keepalive_s": 0.02}
    async with played(fake_upstream, *answer, settings=settings) as relaying:
        client = RecordingClient()
        call = asyncio.create_task(relaying.call(stream=head == STREAM, client=client))
        async with asyncio.timeout(20):
            while not (relaying.played and relaying.played.requests):
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)  # the head is read
        client.hang_up()
        await asyncio.wait([call], timeout=5)
        assert call.done()
        call.exception()  # there is nobody who could be told
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.flags) == ("client_gone", ("estimated",))
        assert settlement.usage == Usage(uncached_input=settlement.usage.uncached_input)
        assert 0 < settlement.due_nanocredits <= settlement.hold_nanocredits
        assert relaying.books.holds == {}


async def test_a_hang_up_keeps_what_is_held_until_the_drain_is_over(
    fake_upstream: FakeUpstream,
) -> None:
    """So that nobody spends meanwhile what the call may still cost."""
    go_on = asyncio.Event()
    steps = (STREAM, chunk("hi"), go_on, chunk(finish="stop"), END)
    async with played(fake_upstream, *steps) as relaying:
        client = RecordingClient(hang_up_after=1)
        call = asyncio.create_task(relaying.call(stream=True, client=client))
        async with asyncio.timeout(20):
            while not client.gone:
                await asyncio.sleep(0.005)
        held = relaying.books.requests[0].most_nanocredits
        assert (relaying.books.holds, relaying.books.available) == ({"req_0": held}, FULL - held)
        go_on.set()
        await call
        assert relaying.books.holds == {}


async def test_a_second_channel_needs_no_second_hold(fake_upstream: FakeUpstream) -> None:
    """One call, one hold, one charge, and nothing for the attempt that failed."""
    async with Relaying(fake_upstream, channels=("openai", "openai")) as relaying:
        await relaying.call("fail-500", "gpt-4o", usage=USAGE)
        assert len(relaying.books.requests) == len(relaying.books.settled) == 1
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE


class Headed(RecordingClient):
    """A client that leaves as soon as it has its answer's head."""

    async def send_head(self, status: int, headers: Headers) -> None:
        await super().send_head(status, headers)
        self.hang_up()


async def test_who_leaves_at_the_head_of_a_stream_pays_the_exact_usage(
    fake_upstream: FakeUpstream,
) -> None:
    """The rest is read for it."""
    async with Relaying(fake_upstream) as relaying:
        await relaying.call(say="one two", usage=USAGE, stream=True, client=Headed())
        settlement = relaying.settlement
        assert (settlement.outcome, settlement.due_nanocredits, settlement.flags) == (
            "client_gone",
            USAGE_CHARGE,
            (),
        )

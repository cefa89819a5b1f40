"""What the relay holds, sends and charges at the edges of a balance."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from farebox.core import clock
from farebox.core.ports import Budget, HoldRequest, Settled
from farebox.errors import (
    BadRequest,
    BillingUnavailable,
    BudgetExceeded,
    FareboxError,
    NotFound,
    OutOfCredit,
    Unauthorized,
)
from tests.fakes.upstream import FakeUpstream
from tests.playing import END, JSON, part, played
from tests.relaying import FULL, USAGE, MemoryBooks, Relaying

pytestmark = pytest.mark.anyio


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
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"service_tier": "priority"}, "service_tier"),
            ({"web_search_options": {}}, "tools"),
            ({"tools": [{"type": "web_search"}]}, "tools"),
        )
        for fields, param in cases:
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


async def test_no_more_input_is_held_for_than_the_model_takes(fake_upstream: FakeUpstream) -> None:
    """A sound of a second has more bytes than most models have context."""
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 500_000, "format": "wav"}}
    message = {"role": "user", "content": [sound, {"type": "text", "text": "What is it?"}]}
    async with Relaying(fake_upstream, model={"context": 4000, "max_output": 1000}) as relaying:
        await relaying.call(messages=[message], usage=USAGE, max_tokens=100)
        dearest_input = 3125  # cache writes, in nano-credits a token
        assert relaying.settlement.hold_nanocredits == 4000 * dearest_input + 100 * 10_000


@pytest.mark.parametrize("period", ["total", "day", "month"])
async def test_a_keys_budget_goes_with_the_hold(fake_upstream: FakeUpstream, period: str) -> None:
    """With the time since which it counts, by the moment of admission."""
    key = {"budget_nanocredits": 5 * 10**9, "budget_period": period}
    async with Relaying(fake_upstream, key=key) as relaying:
        await relaying.call(usage=USAGE)
        since_us = clock.period_start_us(period, relaying.settlement.created_us)
        assert relaying.books.requests[0].budget == Budget(5 * 10**9, period, since_us)


async def test_without_a_budget_none_is_asked_for(fake_upstream: FakeUpstream) -> None:
    """Most keys have none."""
    async with Relaying(fake_upstream) as relaying:
        await relaying.call(usage=USAGE)
        assert relaying.books.requests[0].budget is None


class WaitingBooks(MemoryBooks):
    """Books that hold, and answer when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = asyncio.get_running_loop().create_future()

    async def hold(self, request: HoldRequest) -> int:
        amount = await super().hold(request)
        await self.answer
        return amount


@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_call_that_ends_while_it_is_held_for_leaves_no_hold(
    fake_upstream: FakeUpstream, is_answered: bool
) -> None:
    """Nobody would settle it. The answer may be there when the worker ends."""
    books = WaitingBooks()
    async with Relaying(fake_upstream, books=books) as relaying:
        task = asyncio.create_task(relaying.call())
        while not books.holds:
            await asyncio.sleep(0)
        if is_answered:
            books.answer.set_result(None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (books.available, books.holds, books.settled) == (FULL, {}, [])
        assert fake_upstream.requests == []


class RefusingBooks(MemoryBooks):
    """Books that refuse every hold for this reason."""

    def __init__(self, error: FareboxError) -> None:
        super().__init__()
        self._error = error

    async def hold(self, request: HoldRequest) -> int:
        raise self._error


@pytest.mark.parametrize("status", [429, 402])
@pytest.mark.parametrize("error", [OutOfCredit("Too little."), BudgetExceeded("Used up.")])
async def test_a_refusal_keeps_its_name_and_has_the_operators_status(
    fake_upstream: FakeUpstream, error: OutOfCredit | BudgetExceeded, status: int
) -> None:
    """A used-up budget is told as an empty balance is, under its own code."""
    settings = {"out_of_credit_status": status}
    books = RefusingBooks(error)
    async with Relaying(fake_upstream, books=books, settings=settings) as relaying:
        with pytest.raises(type(error)) as caught:
            await relaying.call()
        assert (caught.value.code, caught.value.status, caught.value.should_retry) == (
            error.code,
            status,
            False,
        )
        assert (relaying.settlement.outcome, fake_upstream.requests) == ("refused", [])


async def test_a_key_that_hammers_writes_one_refusal_a_minute(fake_upstream: FakeUpstream) -> None:
    """All of them are counted; another key's is written too."""
    async with Relaying(fake_upstream, books=MemoryBooks(0)) as relaying:
        for _ in range(5):
            with pytest.raises(OutOfCredit):
                await relaying.call()
        relaying.key = {"id": "key_2"}
        with pytest.raises(OutOfCredit):
            await relaying.call()
        written = [(each.key_id, each.outcome) for each in relaying.books.settled]
        assert written == [("key_1", "refused"), ("key_2", "refused")]
        assert [settled for _, settled in relaying.observed] == [Settled(0, 0)] * 6


async def test_a_closed_account_has_no_refusal_written(fake_upstream: FakeUpstream) -> None:
    """Its key is as good as none."""
    books = RefusingBooks(Unauthorized("The account of this key is closed."))
    async with Relaying(fake_upstream, books=books) as relaying:
        with pytest.raises(Unauthorized):
            await relaying.call()
        assert (books.settled, relaying.observed) == ([], [])


async def test_the_dearest_tier_is_held_for_and_the_one_it_ran_in_is_charged(
    fake_upstream: FakeUpstream,
) -> None:
    """`auto` may become any tier; the answer says which it was."""
    price = {"input": "0", "output": "10", "tiers": {"flex": "0.5", "priority": "3"}}
    answer = {
        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 5},
        "service_tier": "flex",
    }
    body = part(json.dumps(answer).encode())
    async with played(fake_upstream, JSON, body, END, price=price) as relaying:
        await relaying.call(service_tier="auto", max_tokens=100)
        assert relaying.books.requests[0].most_nanocredits == 100 * 30_000
        settlement = relaying.settlement
        assert (settlement.service_tier, settlement.due_nanocredits) == ("flex", 5 * 5_000)


@pytest.mark.parametrize("said", ["a\0b", "flex\n", "x" * 65])
async def test_a_tier_that_is_no_name_keeps_no_charge_out_of_the_books(
    fake_upstream: FakeUpstream, said: str
) -> None:
    """Whatever an upstream says: what not every store can keep is not written."""
    price = {"input": "0", "output": "10", "tiers": {"flex": "0.5"}}
    answer = {
        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 5},
        "service_tier": said,
    }
    body = part(json.dumps(answer).encode())
    async with played(fake_upstream, JSON, body, END, price=price) as relaying:
        await relaying.call(max_tokens=100)
        settlement = relaying.settlement
        assert (settlement.service_tier, settlement.due_nanocredits, settlement.flags) == (
            None,
            5 * 10_000,
            ("unpriced_tier",),
        )

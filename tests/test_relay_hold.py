"""What the relay holds, sends and charges at the edges of a balance."""

from __future__ import annotations

from typing import Any

import pytest

from farebox.errors import (
    BadRequest,
    BillingUnavailable,
    NotFound,
    OutOfCredit,
)
from tests.fakes.upstream import FakeUpstream
from tests.relaying import USAGE, MemoryBooks, Relaying

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

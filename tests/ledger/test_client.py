"""A worker's books, against a ledger that answers, is silent, or dies at every point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from farebox.billing import messages as m
from farebox.billing.entry import entry_of
from farebox.core import clock
from farebox.core.ports import Budget, HoldRequest, Settled
from farebox.errors import BillingUnavailable, BudgetExceeded, OutOfCredit
from farebox.ledger.client import LedgerBooks
from tests.ledger.scripted import Connection, Ledgers, ledgers
from tests.settlements import settlement

pytestmark = pytest.mark.anyio

HOLD = m.Hold("req_1", 1, "key_1", 10, 20)
OPEN = m.OpenHold("req_1", 1, "key_1", 20, None, 0)
DONE = settlement(due_nanocredits=9)
SETTLE = m.Settle(entry_of(DONE))
NOTHING = m.Resume([])


def request(request_id: str = "req_1", budget: Budget | None = None) -> HoldRequest:
    return HoldRequest(request_id, 1, "key_1", 10, 20, budget)


@asynccontextmanager
async def meeting(
    patience_s: float = 10.0,
) -> AsyncIterator[tuple[LedgerBooks, Ledgers, Connection]]:
    """Books that have connected, with nothing held."""
    async with ledgers() as place:
        books = LedgerBooks(place.path, patience_s)
        connection = await place.comes()
        assert await connection.hears() == [NOTHING]
        try:
            yield books, place, connection
        finally:
            await books.close()


async def _held(books: LedgerBooks, connection: Connection) -> None:
    holding = asyncio.ensure_future(books.hold(request()))
    assert await connection.hears() == [HOLD]
    connection.says(m.Held("req_1", 20))
    assert await holding == 20


async def test_a_call_from_its_hold_to_its_end() -> None:
    """Hold, extend, settle, delivered: each is said once, each answer is the ledger's."""
    async with meeting() as (books, _, connection):
        await _held(books, connection)
        extending = asyncio.create_task(books.extend("req_1", 5))
        assert await connection.hears() == [m.Extend("req_1", 5)]
        connection.says(m.Held("req_1", 25))
        assert await extending == 25
        settling = asyncio.ensure_future(books.settle(DONE))
        assert await connection.hears() == [SETTLE]
        connection.says(m.Settled("req_1", 8, 1))
        assert await settling == Settled(8, 1)
        books.delivered("req_1")
        assert await connection.hears() == [m.Delivered(["req_1"])]
        await books.close()
        assert await connection.is_hung_up()


async def test_a_key_with_a_budget_says_so() -> None:
    """Its limit and its period go with the hold, and a refusal says which it was."""
    budget = Budget(5_000_000_000, "total", 0)
    async with meeting() as (books, _, connection):
        holding = asyncio.ensure_future(books.hold(request(budget=budget)))
        (heard,) = await connection.hears()
        assert heard == m.Hold("req_1", 1, "key_1", 10, 20, 5_000_000_000, 0)
        connection.says(m.Refused("req_1", "budget", 10, 3))
        with pytest.raises(BudgetExceeded, match="the key's budget of 5 credits"):
            await holding


async def test_a_hold_that_is_refused_is_forgotten() -> None:
    """The next connection hears nothing of it."""
    async with meeting() as (books, place, connection):
        holding = asyncio.ensure_future(books.hold(request()))
        await connection.hears()
        connection.says(m.Refused("req_1", "credit", 10, 3, 0, 3))
        with pytest.raises(OutOfCredit):
            await holding
        connection.hangs_up()
        assert await (await place.comes()).hears() == [NOTHING]


async def test_what_one_turn_of_the_loop_says_is_one_frame_in_order() -> None:
    """A hundred holds are one write."""
    async with meeting() as (books, _, connection):
        holding = [asyncio.ensure_future(books.hold(request(f"req_{n}"))) for n in range(100)]
        heard = await connection.hears(100)
        assert [each.request_id for each in heard if isinstance(each, m.Hold)] == [
            f"req_{n}" for n in range(100)
        ]
        connection.says(*(m.Held(f"req_{n}", n) for n in reversed(range(100))))
        assert await asyncio.gather(*holding) == list(range(100))


async def test_what_was_delivered_in_one_turn_is_one_message() -> None:
    """Whatever else is said in that turn; and what is delivered later is another."""
    async with meeting() as (books, _, connection):
        holding = asyncio.ensure_future(books.hold(request()))
        await asyncio.sleep(0)
        books.delivered("req_8")
        books.delivered("req_9")
        assert await connection.hears(2) == [HOLD, m.Delivered(["req_8", "req_9"])]
        books.delivered("req_10")
        assert await connection.hears() == [m.Delivered(["req_10"])]
        connection.says(m.Held("req_1", 20))
        assert await holding == 20


async def test_what_is_delivered_while_nobody_listens_is_not_said_later() -> None:
    """The ledger that was told to write those calls has seen the connection end, and marked them;
    the next knows nothing of them.
    """
    async with meeting() as (books, place, connection):
        books.delivered("req_0")  # in the turn in which it ends
        books.disconnected()
        books.delivered("req_1")
        connection.hangs_up()
        second = await place.comes()
        assert await second.hears() == [NOTHING]
        books.delivered("req_2")
        assert await second.hears() == [m.Delivered(["req_2"])]


async def test_a_hold_without_an_answer_is_asked_again() -> None:
    """The connection dies before it: the next is asked, and the caller waits on."""
    async with meeting() as (books, place, connection):
        holding = asyncio.ensure_future(books.hold(request()))
        assert await connection.hears() == [HOLD]
        connection.hangs_up()
        second = await place.comes()
        assert await second.hears(2) == [NOTHING, HOLD]
        second.says(m.Held("req_1", 20))
        assert await holding == 20


async def test_what_is_held_is_said_first_on_every_connection() -> None:
    """With what it came to by extensions; nothing is asked anew."""
    async with meeting() as (books, place, connection):
        await _held(books, connection)
        extending = asyncio.create_task(books.extend("req_1", 5))
        await connection.hears()
        connection.says(m.Held("req_1", 25))
        await extending
        present = connection
        for _ in range(3):
            present.hangs_up()
            present = await place.comes()
            assert await present.hears() == [
                m.Resume([m.OpenHold("req_1", 1, "key_1", 25, None, 0)])
            ]


async def test_an_extension_without_an_answer_is_asked_again() -> None:
    """After the hold that it is of."""
    async with meeting() as (books, place, connection):
        await _held(books, connection)
        extending = asyncio.create_task(books.extend("req_1", 5))
        await connection.hears()
        connection.hangs_up()
        second = await place.comes()
        assert await second.hears(2) == [m.Resume([OPEN]), m.Extend("req_1", 5)]
        second.says(m.Refused("req_1", "away"))
        with pytest.raises(BillingUnavailable):
            await extending
        # What was held stays.
        second.hangs_up()
        assert await (await place.comes()).hears() == [m.Resume([OPEN])]


async def test_a_settlement_without_an_acknowledgement_is_said_again() -> None:
    """Until there is one. What was held for it stays set apart till then, and is forgotten with
    it.
    """
    async with meeting() as (books, place, connection):
        await _held(books, connection)
        settling = asyncio.ensure_future(books.settle(DONE))
        assert await connection.hears() == [SETTLE]
        present = connection
        for _ in range(3):
            present.hangs_up()
            present = await place.comes()
            assert await present.hears(2) == [m.Resume([OPEN]), SETTLE]
        present.says(m.Settled("req_1", 9, 0))
        assert await settling == Settled(9, 0)
        present.hangs_up()
        assert await (await place.comes()).hears() == [NOTHING]


async def test_a_settlement_while_nobody_listens_is_said_when_somebody_does() -> None:
    """Between two ledger processes nothing is lost, and holds go before settlements."""
    async with meeting() as (books, place, connection):
        await _held(books, connection)
        connection.hangs_up()
        await asyncio.sleep(0)  # the worker has not noticed, or just has
        settling = asyncio.ensure_future(books.settle(DONE))
        second = await place.comes()
        assert await second.hears(2) == [m.Resume([OPEN]), SETTLE]
        second.says(m.Settled("req_1", 9, 0))
        assert await settling == Settled(9, 0)


async def test_a_hold_that_nobody_waits_for_is_released() -> None:
    """Before its answer, and when the answer is on its way; a late answer changes nothing."""
    async with meeting() as (books, place, connection):
        holding = asyncio.ensure_future(books.hold(request()))
        assert await connection.hears() == [HOLD]
        holding.cancel()
        books.release("req_1")
        assert await connection.hears() == [m.Release("req_1")]
        connection.says(m.Held("req_1", 20))
        with pytest.raises(asyncio.CancelledError):
            await holding
        connection.hangs_up()
        assert await (await place.comes()).hears() == [NOTHING]


async def test_a_hold_that_is_answered_as_its_caller_gives_up_is_released() -> None:
    """The answer is here, but nobody takes it any more."""
    async with meeting() as (books, place, connection):
        holding = asyncio.ensure_future(books.hold(request()))
        await connection.hears()
        books.received([m.Held("req_1", 20)])
        assert holding.done()
        books.release("req_1")
        assert await connection.hears() == [m.Release("req_1")]
        connection.hangs_up()
        assert await (await place.comes()).hears() == [NOTHING]


async def test_settling_survives_its_task() -> None:
    """It is said once; who asks again waits for the same answer."""
    async with meeting() as (books, _, connection):
        await _held(books, connection)
        settling = asyncio.ensure_future(books.settle(DONE))
        assert await connection.hears() == [SETTLE]
        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling
        again = asyncio.ensure_future(books.settle(DONE))
        await asyncio.sleep(0)
        connection.says(m.Settled("req_1", 9, 0))
        assert await again == Settled(9, 0)
        await books.close()
        assert await connection.is_hung_up()


async def test_who_asks_for_a_settlement_while_another_waits_has_the_same_answer() -> None:
    """It is said once."""
    async with meeting() as (books, _, connection):
        settling = [asyncio.ensure_future(books.settle(DONE)) for _ in range(2)]
        assert await connection.hears() == [SETTLE]
        connection.says(m.Settled("req_1", 9, 0))
        assert [await each for each in settling] == [Settled(9, 0)] * 2
        await books.close()
        assert await connection.is_hung_up()


async def test_silence_is_an_error_in_time_and_the_hold_is_released() -> None:
    """A ledger that hangs keeps nobody waiting for ever."""
    async with meeting(patience_s=0.05) as (books, _, connection):
        with pytest.raises(BillingUnavailable) as told:
            await books.hold(request())
        assert told.value.retry_after_s == 5
        assert await connection.hears(2) == [HOLD, m.Release("req_1")]


async def test_nobody_is_told_before_the_time_is_over() -> None:
    """However soon after the question the next look at who has waited for too long is."""
    async with meeting(patience_s=0.3) as (books, _, _connection):
        asked_s = clock.monotonic_s()
        with pytest.raises(BillingUnavailable):
            await books.hold(request())
        assert clock.monotonic_s() - asked_s >= 0.299  # uvloop counts whole milliseconds


async def test_an_extension_that_is_not_answered_in_time_leaves_what_is_held() -> None:
    """Nothing is released by it."""
    async with meeting(patience_s=0.05) as (books, place, connection):
        await _held(books, connection)
        with pytest.raises(BillingUnavailable):
            await books.extend("req_1", 5)
        connection.hangs_up()
        assert await (await place.comes()).hears() == [m.Resume([OPEN])]


async def test_a_settlement_that_is_late_stays() -> None:
    """Its caller is told; the ledger hears of it until it has written it."""
    async with meeting(patience_s=0.05) as (books, place, connection):
        with pytest.raises(BillingUnavailable):
            await books.settle(DONE)
        assert await connection.hears() == [SETTLE]
        connection.hangs_up()
        second = await place.comes()
        assert await second.hears(2) == [NOTHING, SETTLE]
        second.says(m.Settled("req_1", 9, 0))
        second.hangs_up()
        assert await (await place.comes()).hears() == [NOTHING]


async def test_what_cannot_be_written_is_an_error_and_not_said_again() -> None:
    """It is not charged, and never will be."""
    async with meeting() as (books, place, connection):
        settling = asyncio.ensure_future(books.settle(DONE))
        await connection.hears()
        connection.says(m.NotSettled("req_1", "away"))
        with pytest.raises(BillingUnavailable):
            await settling
        connection.hangs_up()
        assert await (await place.comes()).hears() == [NOTHING]


async def test_a_call_that_cannot_be_told_of_is_refused_alone() -> None:
    """A number too large for the wire fails its own call; the others of that turn are said."""
    async with meeting() as (books, _, connection):
        wrong: Any = settlement(request_id="req_2", due_nanocredits=2**70)
        settling = [asyncio.ensure_future(books.settle(each)) for each in (DONE, wrong)]
        assert await connection.hears() == [SETTLE]
        with pytest.raises(BillingUnavailable):
            await settling[1]
        connection.says(m.Settled("req_1", 9, 0))
        assert await settling[0] == Settled(9, 0)


async def test_a_ledger_that_talks_nonsense_is_hung_up_on() -> None:
    """And the next connection is tried."""
    async with meeting() as (books, place, connection):
        await _held(books, connection)
        connection.writes(b"\xff\xff\xff\xff")
        assert await connection.is_hung_up()
        assert await (await place.comes()).hears() == [m.Resume([OPEN])]


async def test_closing_waits_for_what_is_being_settled() -> None:
    """A worker does not end with a charge that nobody has."""
    async with meeting() as (books, _, connection):
        settling = asyncio.ensure_future(books.settle(DONE))
        await connection.hears()
        closing = asyncio.create_task(books.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        connection.says(m.Settled("req_1", 9, 0))
        await closing
        assert await settling == Settled(9, 0)
        assert await connection.is_hung_up()

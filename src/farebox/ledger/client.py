"""A worker's way to the ledger process: core.ports.Books over one connection.

The connection may break at any moment, and the process at its other end be replaced: what is held,
asked and not yet written is said again on the next one, and request ids make that harmless. How
things look on the way is wire.py's business.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec
import structlog

from farebox.billing import messages as m
from farebox.billing.entry import entry_of
from farebox.core import clock
from farebox.core.ports import Budget, HoldRequest, Settled, Settlement
from farebox.errors import BillingUnavailable, FareboxError
from farebox.ledger import wire
from farebox.ledger.refusals import books_away, error_of

PATIENCE_S = 10.0  # after that, the caller is told that the books cannot be reached
_SWEEP_S = 0.25  # how much later than that it may be
_FIRST_WAIT_S = 0.01  # until the next connection: doubling, since a new process needs its time
_MOST_WAIT_S = 0.2

_log = structlog.get_logger(__name__)


class _Asked(msgspec.Struct, eq=False):
    """A hold, or more of one, that has not been answered."""

    message: m.Hold | m.Extend
    answer: asyncio.Future[int]
    until_sweep: int
    budget: Budget | None


class _Settling(msgspec.Struct, eq=False):
    """A settlement that has not been acknowledged. It stays, whether anybody waits or not."""

    message: m.Settle
    held: tuple[m.Hold, int] | None
    until_sweep: int
    answer: asyncio.Future[Settled]


class LedgerBooks:
    """core.ports.Books of one worker. To be made on its event loop, and closed at the end."""

    def __init__(self, path: str, patience_s: float = PATIENCE_S) -> None:
        """`path` is the ledger's socket; whether anybody listens there yet does not matter."""
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._patience_s = patience_s
        # Who waits counts sweeps, not seconds: two looks at the clock less for each call.
        self._sweeps = 0
        self._patience_sweeps = math.ceil(patience_s / _SWEEP_S) + 1  # the first may come at once
        self._asked: dict[str, _Asked] = {}
        self._held: dict[str, tuple[m.Hold, int]] = {}  # with how much is held altogether
        self._settling: dict[str, _Settling] = {}
        self._out: list[m.Request] = []
        self._delivered: list[str] = []  # to be said with it, in one message
        self._transport: asyncio.Transport | None = None
        self._closing: asyncio.Event | None = None  # then set when nothing is being settled
        self._hears: dict[type[m.Answer], Callable[[Any], None]] = {
            m.Held: self._held_for,
            m.Settled: self._settled,
            m.Refused: self._refused,
            m.NotSettled: self._not_settled,
            m.Recalled: lambda _: None,  # a worker recalls nothing
        }
        self._connecting = self._loop.create_task(self._stay_connected())
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    def hold(self, request: HoldRequest) -> Awaitable[int]:
        """Reserve; the nano-credits held. Raises OutOfCredit, BudgetExceeded, Unauthorized,
        BillingUnavailable.
        """
        budget = request.budget
        message = m.Hold(
            request.request_id,
            request.account_id,
            request.key_id,
            request.least_nanocredits,
            request.most_nanocredits,
            budget.limit_nanocredits if budget else None,
            budget.since_us if budget else 0,
        )
        return self._ask(message, budget)

    def release(self, request_id: str) -> None:
        """Nobody will settle what was held, or is just being held, for this call."""
        self._asked.pop(request_id, None)
        self._held.pop(request_id, None)
        self._send(m.Release(request_id))

    async def extend(self, request_id: str, more_nanocredits: int) -> int:
        """Hold so much more; what is held altogether. Raises as `hold`."""
        answer = self._ask(m.Extend(request_id, more_nanocredits), None)
        try:
            return await answer
        except asyncio.CancelledError:
            self._asked.pop(request_id, None)
            raise

    def settle(self, settlement: Settlement) -> Awaitable[Settled]:
        """Charge and write the call. Raises BillingUnavailable when it was not written in time; it
        may be later, and is then charged all the same.
        """
        request_id = settlement.request_id
        answer: asyncio.Future[Settled] = asyncio.Future(loop=self._loop)
        until_sweep = self._sweeps + self._patience_sweeps
        settling = self._settling.pop(request_id, None)
        if settling is None:
            message = m.Settle(entry_of(settlement))
            settling = _Settling(message, self._held.pop(request_id, None), until_sweep, answer)
            self._send(message)
        else:
            settling.until_sweep = until_sweep
            if settling.answer.done():  # who asked was cancelled, or told that it takes too long
                settling.answer = answer
        # Those whose time is over first are at the beginning.
        self._settling[request_id] = settling
        return settling.answer

    def delivered(self, request_id: str) -> None:
        """The client has the end of an answer that was settled as complete."""
        if self._transport is not None:
            if not (self._out or self._delivered):
                self._loop.call_soon(self._flush)
            self._delivered.append(request_id)

    async def close(self) -> None:
        """Hang up, as soon as all that was settled is written; but wait no longer than a call."""
        if self._settling:
            self._closing = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._patience_s)
        if self._settling:
            _log.error("calls_not_charged", calls=len(self._settling))
        self._connecting.cancel()
        await asyncio.wait({self._connecting})
        self._sweeping.cancel()
        self._flush()
        if self._transport is not None:
            self._transport.close()
        for asked in self._asked.values():
            _refuse(asked.answer, books_away())

    # What goes out.

    def _ask(self, message: m.Hold | m.Extend, budget: Budget | None) -> asyncio.Future[int]:
        answer: asyncio.Future[int] = asyncio.Future(loop=self._loop)
        until_sweep = self._sweeps + self._patience_sweeps
        self._asked[message.request_id] = _Asked(message, answer, until_sweep, budget)
        self._send(message)
        return answer

    def _send(self, message: m.Request) -> None:
        # Without a connection nothing need be kept: all that counts is said on the next one.
        if self._transport is not None:
            if not (self._out or self._delivered):
                self._loop.call_soon(self._flush)
            self._out.append(message)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._delivered:
            out.append(m.Delivered(self._delivered))
            self._delivered = []
        if out and self._transport is not None:
            try:
                data = wire.frames(out)
            except (msgspec.MsgspecError, ValueError, OverflowError):
                data = b"".join(self._frame_alone(message) for message in out)
            self._transport.write(data)

    def _frame_alone(self, message: m.Request) -> bytes:
        """One call that cannot be told of is refused; the others know nothing of it."""
        try:
            return wire.frames([message])
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            if isinstance(message, m.Settle):
                self.received([m.NotSettled(message.entry.request_id, str(error))])
            elif isinstance(message, m.Hold | m.Extend):
                self.received([m.Refused(message.request_id, "away")])
            return b""

    # What comes in.

    def received(self, answers: Sequence[m.Answer]) -> None:
        """What the ledger has said."""
        hears = self._hears
        for answer in answers:
            hears[type(answer)](answer)
        if self._closing is not None and not self._settling:
            self._closing.set()

    def _held_for(self, answer: m.Held) -> None:
        request_id, amount = answer.request_id, answer.amount
        asked = self._asked.pop(request_id, None)
        if asked is not None and isinstance(asked.message, m.Hold):
            self._held[request_id] = (asked.message, amount)
        elif request_id in self._held:
            self._held[request_id] = (self._held[request_id][0], amount)
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(amount)

    def _refused(self, answer: m.Refused) -> None:
        asked = self._asked.pop(answer.request_id, None)
        if asked is not None:
            _refuse(asked.answer, error_of(answer, asked.budget))

    def _settled(self, answer: m.Settled) -> None:
        settling = self._settling.pop(answer.request_id, None)
        if settling is not None and not settling.answer.done():
            settling.answer.set_result(Settled(answer.charge, answer.absorbed))

    def _not_settled(self, answer: m.NotSettled) -> None:
        settling = self._settling.pop(answer.request_id, None)
        if settling is not None:
            reason = answer.reason
            _log.error("call_not_written", request_id=answer.request_id, reason=reason)
            error = BillingUnavailable("The call could not be charged. Try again later.")
            _refuse(settling.answer, error)

    # Time, and the connection.

    def _sweep(self) -> None:
        """Tell those who have waited for too long."""
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)
        self._sweeps += 1
        while self._asked:
            request_id, asked = next(iter(self._asked.items()))
            if asked.until_sweep > self._sweeps:
                break
            if isinstance(asked.message, m.Hold):
                self.release(request_id)
            else:
                del self._asked[request_id]
            _refuse(asked.answer, books_away())
        for settling in self._settling.values():
            if settling.until_sweep > self._sweeps:
                break
            if not settling.answer.done():
                settling.answer.set_exception(books_away())

    async def _stay_connected(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            link = _Link(self)
            try:
                await self._loop.create_unix_connection(lambda link=link: link, self._path)
            except OSError:
                pass
            else:
                await link.lost.wait()
            if link.answered:
                wait_s = _FIRST_WAIT_S
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _MOST_WAIT_S)

    def connected(self, transport: asyncio.Transport) -> None:
        """There is a connection: say what counts, the oldest first."""
        self._transport = transport
        holds = list(self._held.values())
        # What is being settled stays set apart until it is, or others might take it.
        holds += [each.held for each in self._settling.values() if each.held is not None]
        self._out = [
            m.Resume([_open(*each) for each in holds]),
            *(each.message for each in self._asked.values()),
            *(each.message for each in self._settling.values()),
        ]
        self._flush()

    def disconnected(self) -> None:
        """There is no connection any more."""
        self._transport = None
        self._out, self._delivered = [], []


def _open(hold: m.Hold, amount: int) -> m.OpenHold:
    return m.OpenHold(
        hold.request_id, hold.account_id, hold.key_id, amount, hold.budget, hold.since_us
    )


def _refuse(answer: asyncio.Future[int] | asyncio.Future[Settled], error: FareboxError) -> None:
    if not answer.done():
        answer.set_exception(error)


class _Link(asyncio.Protocol):
    """One connection, for as long as it lasts."""

    def __init__(self, books: LedgerBooks) -> None:
        self._books = books
        self._reader = wire.answer_reader()
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()
        self.answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._books.connected(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            answers = self._reader.feed(data)
        except wire.WireError as error:
            _log.error("ledger_not_understood", reason=str(error))
            assert self._transport is not None
            self._transport.abort()
            return
        self.answered = True
        self._books.received(answers)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        self._books.disconnected()
        self.lost.set()


def recall_now(path: str, account_id: int, timeout_s: float) -> bool:
    """Have the ledger that listens at `path` give back what nobody needs of an account, for a
    command: whether it has. It blocks, and raises nothing.
    """
    reader = wire.answer_reader()
    until_s = clock.monotonic_s() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX) as way:
            way.settimeout(timeout_s)
            way.connect(path)
            way.sendall(wire.frames([m.Recall(account_id)]))
            while (left_s := until_s - clock.monotonic_s()) > 0:
                way.settimeout(left_s)
                data = way.recv(4096)
                if not data:
                    return False
                if m.Recalled(account_id) in reader.feed(data):
                    return True
    except (OSError, wire.WireError):
        pass
    return False

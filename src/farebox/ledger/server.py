"""The workers' connections, and the ledger between them and the committer. One loop, one thread.

What one turn of the loop brought is answered together, one write to each worker, and handed to the
committer together, unless that is busy: then it gathers. A transaction costs as much as twenty of
its rows, so where calls end by the hundred a second, they gather for a moment. What a hold or a
charge is, is billing's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import structlog

from farebox.billing import messages as m
from farebox.billing.jobs import Job, Outcome
from farebox.billing.ledger import Ledger
from farebox.billing.parties import Worker
from farebox.core import clock
from farebox.ledger import wire
from farebox.ledger.committer import MOST_JOBS

_GATHER_S = 0.005  # the ends of calls, of which clients have seen all but the last bytes
_OFTEN_S = _GATHER_S / 2  # between two of them, or less: then it is worth waiting
_SELDOM_S = 0.02  # that a pause was longer than this need not be remembered

_log = structlog.get_logger(__name__)


class Batches(Protocol):
    """The committer, as the server sees it."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Do these; `Server.done` is told of the outcomes."""
        ...


class Server:
    """See the module. Made inside the loop. `is_halted` is asked, and `watch` told how many holds
    wait, at every tick. `ask_others` is told of accounts that other hosts are to give back;
    `on_recalled` gets the tokens of their recalls that are done here.
    """

    def __init__(
        self,
        ledger: Ledger,
        committer: Batches,
        *,
        tick_s: float,
        is_halted: Callable[[], bool],
        watch: Callable[[int], None],
        ask_others: Callable[[int], None] | None = None,
        on_recalled: Callable[[str], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ledger = ledger
        self._committer = committer
        self._tick_s = tick_s
        self._is_halted = is_halted
        self._watch = watch
        self._ask_others = ask_others
        self._on_recalled = on_recalled
        self._connections: set[_Connection] = set()
        self._is_busy = False  # the committer has jobs
        self._gathering: asyncio.TimerHandle | None = None  # it is not, but is not given any yet
        self._pace_s = _SELDOM_S  # from one job's end to the next one's, of late
        self._done_s = 0.0  # when the last was done
        self._is_due = False  # a look at what the ledger wants done
        self._quiet = asyncio.Event()
        self.empty = asyncio.Event()  # nobody is connected
        self.empty.set()
        self._does: dict[type, Callable[[Any, Any, float], None]] = {
            m.Hold: ledger.hold,
            m.Extend: ledger.extend,
            m.Release: lambda _, message, now_s: ledger.release(message.request_id, now_s),
            m.Settle: ledger.settle,
            m.Delivered: lambda _, message, __: ledger.delivered(message.request_ids),
            m.Resume: lambda worker, message, now_s: ledger.resume(worker, message.holds, now_s),
            m.Recall: lambda worker, message, now_s: ledger.recall(
                message.account_id, _Asked(worker, message.account_id), now_s
            ),
        }
        self._timer = self._loop.call_later(tick_s, self._tick)

    def connection(self) -> asyncio.Protocol:
        """A protocol for a connection that was accepted."""
        return _Connection(self)

    @property
    def is_quiet(self) -> bool:
        """Nothing is being committed, or waits to be."""
        return not (self._is_busy or self._ledger.jobs)

    def recall(self, account_id: int, token: str) -> None:
        """Another host wants what nobody needs of an account; `on_recalled` gets the token."""
        self._ledger.recall(account_id, token, clock.monotonic_s())
        self.look_soon()

    def others_gave_back(self, account_id: int) -> None:
        """The other hosts have answered `ask_others`, or had the time to."""
        self._ledger.others_gave_back(account_id, clock.monotonic_s())
        self.look_soon()

    def done(self, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        """The committer's answer. To be called in the loop."""
        self._is_busy = False
        now_s = clock.monotonic_s()
        pace_s = min(_SELDOM_S, (now_s - self._done_s) / len(jobs))
        self._pace_s = (self._pace_s + pace_s) / 2
        self._done_s = now_s
        self._ledger.done(jobs, outcomes, now_s)
        self._look()

    def look_soon(self) -> None:
        """The ledger may want something done: see to it once in this turn of the loop."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._look)

    async def close(self, limit_s: float) -> bool:
        """Give back what nobody needs, and hang up; whether all of it could be, in time."""
        until_s = clock.monotonic_s() + limit_s
        while True:
            self._ledger.give_up()
            self._look()
            if self.is_quiet and self._ledger.is_empty:
                break
            left_s = until_s - clock.monotonic_s()
            if left_s <= 0:
                break
            self._quiet.clear()
            try:
                await asyncio.wait_for(self._quiet.wait(), min(left_s, self._tick_s))
            except TimeoutError:
                continue
        self._timer.cancel()
        for connection in tuple(self._connections):
            connection.close()
        return self._ledger.is_empty

    # For connections.

    def new_worker(self) -> Worker:
        """Who the ledger takes a connection for."""
        return self._ledger.come()

    def come(self, connection: _Connection) -> None:
        """A connection was made."""
        self._connections.add(connection)
        self.empty.clear()

    def received(self, connection: _Connection, messages: Sequence[m.Request]) -> None:
        """What a worker has said."""
        does, worker, now_s = self._does, connection.worker, clock.monotonic_s()
        for message in messages:
            does[type(message)](worker, message, now_s)
        self.look_soon()

    def gone(self, connection: _Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        if not self._connections:
            self.empty.set()
        self._ledger.gone(connection.worker, clock.monotonic_s())
        self.look_soon()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        self._ledger.halted = self._is_halted()
        self._ledger.tick(clock.monotonic_s())
        self._watch(self._ledger.waiting)
        self._look()

    def _look(self) -> None:
        """Send the answers, and hand on what is to be committed."""
        self._is_due = False
        ledger = self._ledger
        if ledger.recalled:
            self._tell_recalled()
        for connection in self._connections:
            if connection.worker.answers:
                connection.send_answers()
        if ledger.recalls:
            self._recall_others()
        if self._is_busy:
            return
        if not ledger.jobs:
            self._quiet.set()
        elif self._may_gather():
            if self._gathering is None:
                self._gathering = self._loop.call_later(_GATHER_S, self._submit)
        else:
            self._submit()

    def _may_gather(self) -> bool:
        """Whether others are likely to end soon, and nobody waits to begin."""
        ledger = self._ledger
        return (
            self._pace_s < _OFTEN_S
            and ledger.in_flight > 0
            and ledger.waiting == 0
            and len(ledger.jobs) < MOST_JOBS
        )

    def _submit(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        # What is not taken yet may still be withdrawn, so it stays where it is.
        jobs = self._ledger.jobs[:MOST_JOBS]
        del self._ledger.jobs[:MOST_JOBS]
        if jobs:
            self._is_busy = True
            self._committer.submit(jobs)
        else:
            self._quiet.set()

    def _recall_others(self) -> None:
        recalls, self._ledger.recalls = self._ledger.recalls, []
        for account_id in recalls:
            if self._ask_others is not None:
                self._ask_others(account_id)
            else:
                self.others_gave_back(account_id)

    def _tell_recalled(self) -> None:
        recalled, self._ledger.recalled = self._ledger.recalled, []
        for token in recalled:
            if isinstance(token, _Asked):
                token.by.answers.append(m.Recalled(token.account_id))
            elif self._on_recalled is not None:
                self._on_recalled(str(token))


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who recalled what, by a message."""

    by: Worker
    account_id: int


class _Connection(asyncio.Protocol):
    """One worker's, or a command's."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.worker = server.new_worker()
        self._reader = wire.request_reader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.come(self)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except wire.WireError as error:
            _log.error("worker_not_understood", reason=str(error))
            if self._transport is not None:
                self._transport.abort()
            return
        self._server.received(self, messages)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        self._transport = None
        self._server.gone(self)

    def send_answers(self) -> None:
        """Say what the ledger has for this worker, if there is still somebody to say it to."""
        answers, self.worker.answers = self.worker.answers, []
        if self._transport is not None:
            self._transport.write(wire.frames(answers))

    def close(self) -> None:
        """Hang up when all that was said is sent."""
        if self._transport is not None:
            self._transport.close()

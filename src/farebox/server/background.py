"""Responses in the background: run by this process, written down as they come.

Reading them, from whichever process, is replay.py's and stored_responses.py's; what is written is
kept by the store.

begin > _Run (a task: the relay) > Recorder (the relay's client: events into the store)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import msgspec
import structlog
from starlette.responses import Response

from farebox import relay
from farebox.admission import admit
from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.ports import (
    Books,
    Exchange,
    HoldRequest,
    Settled,
    Settlement,
    Upstream,
    UpstreamRequest,
)
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.responses_shell import Shell
from farebox.errors import FareboxError, Internal, Overloaded, TooManyRequests
from farebox.server import replay
from farebox.server.answers import raw_json_answer
from farebox.server.kept import TRUE, Resolved, reading
from farebox.server.recorder import Recorder
from farebox.server.state import State
from farebox.telemetry import logs
from farebox.telemetry.record import Record, set_record

_MOST_OF_ONE = 100  # of one account in one process: each has an upstream connection and memory
_AFTER_END_S = 5.0  # for those that were told to end to write so
_ROUTE = "background"  # in the access lines: a background response is no request of its own

_log = structlog.get_logger(__name__)


class Background:
    """The background responses that this process runs. Belongs to one event loop."""

    def __init__(self, owner: str, most_of_one: int = _MOST_OF_ONE) -> None:
        """`owner`: under which the store knows this process."""
        self.owner = owner
        self._most_of_one = most_of_one
        self._runs: dict[str, Running] = {}

    def add(self, response_id: str, run: Running) -> None:
        """One more. Raises TooManyRequests for more than one account may have."""
        others = sum(each.account_id == run.account_id for each in self._runs.values())
        if others >= self._most_of_one:
            raise TooManyRequests(
                f"{others} responses of this account run in the background, as many as may. Wait"
                " for one to end, or cancel one.",
                retry_after_s=10,
            )
        self._runs[response_id] = run

    def remove(self, response_id: str) -> None:
        """It has ended; who follows it is told to look."""
        self._runs.pop(response_id).recorder.changed.set()

    @property
    def idle(self) -> bool:
        """Whether none runs in this process."""
        return not self._runs

    def runs(self, response_id: str) -> bool:
        """Whether it runs in this process."""
        return response_id in self._runs

    def next_change(self, response_id: str) -> asyncio.Event | None:
        """What is set with the next events of one that runs in this process."""
        run = self._runs.get(response_id)
        return None if run is None else run.recorder.changed

    def cancel(self, response_id: str) -> None:
        """End it now, if it runs here; the store tells the others' owners."""
        run = self._runs.get(response_id)
        if run is not None:
            run.recorder.cancel()

    async def finish(self, timeout_s: float) -> None:
        """Let them end until then; the others fail, and their clients learn that by asking."""
        runs = {run.task: run for run in self._runs.values() if run.task is not None}
        if not runs:
            return
        _, late = await asyncio.wait(runs, timeout=timeout_s)
        for task in late:
            if not runs[task].recorder.is_ending:  # its charge is written, its end is about to be
                task.cancel()
        if late:
            await asyncio.wait(late, timeout=_AFTER_END_S)


class Running(Protocol):
    """What the table of those that run knows of one."""

    task: asyncio.Task[None] | None
    recorder: Recorder

    @property
    def account_id(self) -> int: ...


async def begin(state: State, caller: Caller, resolved: Resolved) -> Response:
    """Start the response and answer with it, or with its events if a stream was asked for.

    It is on its way to an upstream then, and what it may cost is held. Raises FareboxError for
    whatever stands against it before.
    """
    if state.ending:
        raise Overloaded("This process is ending. Connect again, and try again.", retry_after_s=1)
    wants_stream = resolved.call.stream
    # Always a stream to the relay: events are written as they come, and a cancel loses little.
    fields = {**resolved.call.fields, "stream": TRUE}
    call = msgspec.structs.replace(resolved.call, stream=True, fields=fields)
    admit(state.gateway.catalogue, state.gateway.memory, caller, call)  # before anything is written
    run = _Run(state, caller, replace(resolved, call=call))
    state.background.add(run.shell.id, run)
    try:
        await run.start()
    except BaseException:
        if run.task is None:
            state.background.remove(run.shell.id)
        raise
    if wants_stream:
        return replay.stream(state, caller.account.id, run.shell.id, -1)
    return raw_json_answer(run.recorder.queued)


class _Run:
    """One background response, from its row in the store to its end."""

    def __init__(self, state: State, caller: Caller, resolved: Resolved) -> None:
        gateway = state.gateway
        self._state = state
        self._caller = caller
        self._resolved = resolved
        around = Circumstances(
            caller.account.id, clock.now_s(), gateway.seal, gateway.recall, clock.now_s
        )
        self.shell = Shell(resolved.call, around)
        self.recorder = Recorder(state, caller, resolved, self.shell)
        self.task: asyncio.Task[None] | None = None
        self._sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def account_id(self) -> int:
        """Who pays."""
        return self._caller.account.id

    async def start(self) -> None:
        """Write it down, and return when it was sent. Raises FareboxError if it was not."""
        try:
            await reading(self.recorder.begin)
        except FareboxError:
            with suppress(Exception):  # then nothing was written
                await asyncio.to_thread(self.recorder.forget)
            raise
        self.task = asyncio.create_task(self._ride())
        await asyncio.shield(self._sent)

    async def _ride(self) -> None:
        call, started_s = self._resolved.call, clock.monotonic_s()
        record = Record(call.request_id, "POST", self._caller.account.name, self._caller.key.id)
        set_record(record)
        try:
            await self._serve(record)
        finally:
            self._state.background.remove(self.shell.id)
            logs.access.write(record, _ROUTE, 200, clock.monotonic_s() - started_s)

    async def _serve(self, record: Record) -> None:
        upstream = _Announcing(self._state.gateway.upstream, self._sent)
        books = _Deferring(self._state.gateway.books)
        gateway = replace(self._state.gateway, upstream=upstream, books=books)
        pump = asyncio.create_task(self.recorder.pump())
        failure: FareboxError | None = None
        try:
            await relay.serve(gateway, self._caller, self._resolved.call, self.recorder)
        except FareboxError as error:
            failure = error
        except asyncio.CancelledError:
            failure = Internal("The gateway is shutting down. Try again.", code="server_shutdown")
        except Exception:  # noqa: BLE001 (whoever waits for it must be told)
            _log.exception("background_failed", request_id=self._resolved.call.request_id)
            failure = Internal("The gateway failed; the request id finds the reason in its log.")
        finally:
            self.recorder.stop()
            await pump
        if failure is not None:
            record.error = failure.code or failure.type
        if self._sent.done():
            if await self.recorder.finish(failure):
                books.tell()
        else:
            assert failure is not None  # nothing is answered before it is sent
            try:
                await asyncio.to_thread(self.recorder.forget)
            except Exception:  # noqa: BLE001 (the store may be what failed; who waits must be told)
                _log.exception("response_not_forgotten", response_id=self.shell.id)
            finally:
                self._sent.set_exception(failure)
                self._sent.exception()  # whoever waited for it may have gone


class _Announcing:
    """The upstreams, which tell when a call is sent: what stands against it would have by then."""

    def __init__(self, upstream: Upstream, sent: asyncio.Future[None]) -> None:
        self._upstream = upstream
        self._sent = sent

    def open(self, request: UpstreamRequest) -> Exchange:
        """As the upstreams; told when it is the first."""
        if not self._sent.done():
            self._sent.set_result(None)
        return self._upstream.open(request)


class _Deferring:
    """The books, which hear that an answer was delivered when its end is written down: the relay
    says so when it has only been taken down.
    """

    def __init__(self, books: Books) -> None:
        self._books = books
        self._request_id: str | None = None

    def hold(self, request: HoldRequest) -> Awaitable[int]:
        """As the books."""
        return self._books.hold(request)

    def release(self, request_id: str) -> None:
        """As the books."""
        self._books.release(request_id)

    async def extend(self, request_id: str, more_nanocredits: int) -> int:
        """As the books."""
        return await self._books.extend(request_id, more_nanocredits)

    def settle(self, settlement: Settlement) -> Awaitable[Settled]:
        """As the books."""
        return self._books.settle(settlement)

    def delivered(self, request_id: str) -> None:
        """The end has been taken down."""
        self._request_id = request_id

    def tell(self) -> None:
        """It is written down."""
        if self._request_id is not None:
            self._books.delivered(self._request_id)

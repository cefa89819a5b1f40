"""Events of a background response from the store to a client, in whichever process it runs.

Writing them is recorder.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

import msgspec
from starlette.responses import Response, StreamingResponse

from farebox.core import clock
from farebox.core.kept import KeptResponse
from farebox.server.kept import RUNNING, TERMINAL, read_event, reading
from farebox.server.state import State

# How often the store is asked for more where another process writes it, and while nothing comes.
_LOOK_S, _SLOWEST_LOOK_S = 0.1, 0.5
_EVENTS_AT_ONCE = 200
# How often the whole response is looked at while no events come: it may have ended without one,
# with the process that ran it. It may be large, so this becomes less often.
_FIRST_CHECK_S = 1.0
_SLOWEST_CHECK_S = 5.0
_OWNER_ENDED = "The gateway process that ran this response ended before it was complete. Try again."
_DELETED = "The response was deleted."

_SIGN = "keepalive"
_FAILED = "response.failed"
_ERROR = "error"  # a silent end would pass for a broken connection, and be asked for again

_encode = msgspec.json.encode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def stream(
    state: State,
    account_id: int,
    response_id: str,
    after: int,
    known: KeptResponse | None = None,
) -> Response:
    """An answer that gives the response's events above that sequence number, to its end.

    `known`: the response as it was found, if it was looked for.
    """
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    watch = _Watch(state, account_id, response_id, known)
    events = _follow(state, watch, after)
    return StreamingResponse(events, headers=headers, media_type="text/event-stream")


def shown(response: KeptResponse) -> bytes:
    """The response object with the status that it has by now."""
    fields = _read_fields(response.body)
    if fields["status"] == msgspec.Raw(_encode(response.status)):
        return response.body
    error = None
    if response.status == "failed":
        error = {"code": "server_error", "message": _OWNER_ENDED}
    return _encode({**fields, "status": response.status, "error": error})


class _Watch:
    """Looks for a response's end, which may come without an event: with the process that ran it."""

    def __init__(
        self, state: State, account_id: int, response_id: str, known: KeptResponse | None
    ) -> None:
        self.account_id = account_id
        self.response_id = response_id
        self._state = state
        self._last: KeptResponse | None = known
        self._is_over = known is not None and known.status not in RUNNING
        self._pause_s = _FIRST_CHECK_S
        self._next_s = clock.monotonic_s() + self._pause_s

    async def is_over(self) -> bool:
        """Whether all of its events are in the store."""
        if self._is_over or self._state.background.runs(self.response_id):
            return self._is_over
        if clock.monotonic_s() >= self._next_s:
            find = self._state.kept.find_response
            now_us = clock.now_us()
            self._last = await reading(find, self.response_id, self.account_id, now_us)
            self._is_over = self._last is None or self._last.status not in RUNNING
            self._pause_s = min(2 * self._pause_s, _SLOWEST_CHECK_S)
            self._next_s = clock.monotonic_s() + self._pause_s
        return self._is_over

    def missing_end(self, number: int) -> bytes:
        """The event that nobody was left to write; nothing where there was somebody."""
        if self._last is None:
            told = {"code": None, "message": _DELETED, "param": None}
            return _event(_ERROR, _encode({"type": _ERROR, "sequence_number": number, **told}))
        if (response := shown(self._last)) == self._last.body:
            return b""
        raw = msgspec.Raw(response)
        fields = {"type": _FAILED, "sequence_number": number, "response": raw}
        return _event(_FAILED, _encode(fields))


async def _follow(state: State, watch: _Watch, since: int) -> AsyncIterator[bytes]:
    after = since
    sign_s, pause_s = clock.monotonic_s(), _LOOK_S
    read = partial(state.kept.events_after, watch.response_id, watch.account_id)
    while True:
        # Both before the events are read, so that nothing can come unseen.
        change = state.background.next_change(watch.response_id)
        is_over = await watch.is_over()
        events = await reading(read, after, _EVENTS_AT_ONCE)
        parts: list[bytes] = []
        for number, data in events:
            after, kind = number, read_event(data).type
            parts.append(_event(kind, data))
            if kind in TERMINAL:
                yield b"".join(parts)
                return
        if parts:
            sign_s, pause_s = clock.monotonic_s(), _LOOK_S
            yield b"".join(parts)
            continue
        if is_over:
            yield watch.missing_end(after + 1)
            return
        if clock.monotonic_s() >= sign_s + state.settings.keepalive_s:
            sign_s = clock.monotonic_s()
            # It bears the last number, so that a client that goes on from it misses nothing.
            yield _event(_SIGN, _encode({"type": _SIGN, "sequence_number": max(0, after)}))
        await _wait(change, state.settings.keepalive_s if change is not None else pause_s)
        pause_s = min(1.5 * pause_s, _SLOWEST_LOOK_S)


async def _wait(change: asyncio.Event | None, limit_s: float) -> None:
    if change is None:
        await asyncio.sleep(limit_s)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await change.wait()


def _event(kind: str, data: bytes) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

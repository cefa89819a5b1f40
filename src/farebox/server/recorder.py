"""The relay's client of a background response: what it is sent becomes numbered events in the
store, and at last the response as it is kept.

When a response runs is background.py's business; who reads it, replay.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog

from farebox.core.account import Caller
from farebox.core.call import Headers
from farebox.core.kept import KeptResponse
from farebox.dialects.responses_shell import Object, Shell, error_of
from farebox.dialects.sse import Splitter
from farebox.errors import FareboxError, Internal
from farebox.server.items import with_ids
from farebox.server.kept import (
    TERMINAL,
    Resolved,
    expiry_us,
    kept_response,
    read_event,
    read_response,
)
from farebox.server.state import State

_BATCH_S = 0.1  # how far the store is behind, at most
_BATCH_BYTES = 64 * 1024  # the same; more than this waiting lets the upstream wait
_ASK_S = 0.5  # how often the store is asked for a cancel while nothing is written
# Between attempts to write the end. For an hour: without it, clients would ask for it for ever.
_RETRY_S = (0.2, 1.0, 3.0, *(10.0,) * 360)
_NO_LIMIT = 1 << 62  # what comes is our own, and was limited where it came in
# Given out by this file itself when the response begins.
_BEGUN = "response.created"
_SIGN = "keepalive"  # whoever reads has signs of life of their own

_log = structlog.get_logger(__name__)
_encode = msgspec.json.encode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Recorder:
    """One response's record. `cancel()` ends the call; until then this client never goes."""

    drains = False  # who cancels has said that the rest is not wanted

    def __init__(self, state: State, caller: Caller, resolved: Resolved, shell: Shell) -> None:
        self._kept = state.kept
        self._settings = state.settings
        self._owner = state.background.owner
        self._caller = caller
        self._resolved = resolved
        self._shell = shell
        self._created_us = 0
        self.queued = b""  # the response object as it is at first
        self.gone = False
        self._callback: Callable[[], None] | None = None
        self._splitter = Splitter(_NO_LIMIT)
        self._sequence = 0
        self._waiting: list[tuple[int, bytes]] = []
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()  # set, and another put in its place, with each write
        self._final: bytes | None = None

    # The relay's client.

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call this when the response is cancelled."""
        if callback is not None and self.gone:
            callback()
            return
        self._callback = callback

    async def send_head(self, status: int, headers: Headers) -> None:
        """Nobody reads it."""

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Events of the response, waiting for the store while much is to be written."""
        events = self._splitter.feed(data)
        if last:
            events += self._splitter.close()
        for _, event_data in events:
            if event_data is not None:
                self._note(event_data)
        self._wake.set()
        if self._waiting_bytes > _BATCH_BYTES and not last:
            await self._flush()

    def send_now(self, data: bytes) -> bool:
        """Never: see send()."""
        del data
        return False

    def answer_now(self, status: int, headers: Headers, body: bytes) -> bool:
        """Never: see send()."""
        del status, headers, body
        return False

    def cancel(self) -> None:
        """End the call."""
        if self.gone:
            return
        self.gone = True
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    # Writing; `begin` and `forget` block.

    def begin(self) -> None:
        """Write the response down as queued."""
        response = self._shell.object("queued", output=[])
        self._created_us = response["created_at"] * 1_000_000
        self.queued = _encode(response)
        self._kept.keep_response(
            KeptResponse(
                id=self._shell.id,
                account_id=self._caller.account.id,
                created_us=self._created_us,
                expires_us=expiry_us(self._settings, self._created_us),
                status="queued",
                background=True,
                previous_id=self._resolved.previous_id,
                input=tuple(with_ids(self._resolved.items, self._resolved.call.request_id)),
                output=(),
                body=self.queued,
                owner=self._owner,
            )
        )
        self._add(_BEGUN, {"response": msgspec.Raw(self.queued)})
        self._add("response.queued", {"response": msgspec.Raw(self.queued)})
        events, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._append(events, "queued")

    def forget(self) -> None:
        """Leave no trace: it was refused, or could not be written down whole."""
        # A row of what runs is emptied first, and goes with its end.
        self._kept.delete_response(self._shell.id, self._caller.account.id, 0)
        self._append([], "failed")

    async def pump(self) -> None:
        """Write what comes, and ask for a cancel, until it is stopped."""
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_ASK_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if self._waiting:
                    await self._pause(_BATCH_S)
                    await self._flush()
                elif await asyncio.to_thread(self._kept.cancel_requested, self._shell.id):
                    self.cancel()
            except Exception:  # noqa: BLE001 (the store has a bad moment: what waits is written later)
                _log.warning("events_not_written", response_id=self._shell.id, exc_info=True)
                await self._pause(_ASK_S)

    @property
    def is_ending(self) -> bool:
        """Whether all has come, and only its end is to be written."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End the pump; what waits is written by `finish`."""
        self._stopped.set()
        self._wake.set()

    async def _pause(self, limit_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._stopped.wait()

    async def finish(self, failure: FareboxError | None) -> bool:
        """The end: the response as it is from now on; whether it could be written. `failure`: why
        there was none from the relay.
        """
        kept = await asyncio.to_thread(self._end, failure)  # its input may be large
        ends = kept.status if kept.status in ("completed", "incomplete") else "failed"
        end = _encode(
            {
                "response": msgspec.Raw(kept.body),
                "type": f"response.{ends}",
                "sequence_number": self._sequence,
            }
        )
        return await self._write_end(kept, end)

    def _end(self, failure: FareboxError | None) -> KeptResponse:
        if self._final is not None:
            try:
                kept = self._kept_as(self._final)
                failure = Internal("The response is larger than what this gateway keeps.")
            except Exception:  # noqa: BLE001 (whatever an upstream made of it: it must have an end)
                _log.exception("response_not_readable", response_id=self._shell.id)
                kept, failure = None, Internal("The response could not be read, so none is kept.")
            if kept is not None:
                return kept
            _log.warning("response_not_kept_whole", response_id=self._shell.id)
        error = error_of(failure or Internal("The response has no end."))
        usage = _read_fields(self._final).get("usage") if self._final is not None else None
        failed = self._shell.object("failed", output=[], error=error)
        kept = self._kept_as(_encode({**failed, "usage": usage}))
        assert kept is not None  # its input was small enough to begin with
        return kept

    def _kept_as(self, body: bytes) -> KeptResponse | None:
        if self.gone and read_response(body).status == "failed":
            body = _changed(body, {"status": "cancelled", "error": None})
        return kept_response(self._resolved, self._caller, self._settings, body)

    async def _write_end(self, kept: KeptResponse, end: bytes) -> bool:
        # Both in the same moment: whoever has read the last event finds the response that it shows.
        events = [(self._sequence, end)]
        for pause_s in (*_RETRY_S, None):
            try:
                await self._flush()
                await asyncio.to_thread(self._kept.keep_response, kept, events)
            except Exception:  # noqa: BLE001 (tried again, and told at last)
                if pause_s is None:
                    _log.exception("response_not_kept", response_id=self._shell.id)
                    return False
                await asyncio.sleep(pause_s)
            else:
                self._tell()
                return True
        return False

    def _note(self, data: bytes) -> None:
        event = read_event(data)
        if event.type in (_BEGUN, _SIGN):
            return
        if event.type in TERMINAL:
            self._final = _changed(event.response, {"created_at": self._created_us // 1_000_000})
            return  # it is written when all is known of the end
        fields: Object = dict(_read_fields(data))
        if "response" in fields:
            created = {"created_at": self._created_us // 1_000_000}
            fields["response"] = msgspec.Raw(_changed(event.response, created))
        self._add(event.type, fields)

    def _add(self, type: str, fields: Object) -> None:
        numbered = _encode({**fields, "type": type, "sequence_number": self._sequence})
        self._waiting.append((self._sequence, numbered))
        self._waiting_bytes += len(numbered)
        self._sequence += 1

    async def _flush(self) -> None:
        """Write what waits. Whoever is cut off in this leaves it going on: a write of the past
        must not come behind one of the end.
        """
        while self._writing is not None:
            await asyncio.wait({self._writing})
        if self._waiting:
            self._writing = asyncio.create_task(self._write())
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        try:
            events = self._waiting[:]  # they wait until they are written: else it is repeated
            cancelled = await asyncio.to_thread(self._append, events, "in_progress")
            del self._waiting[: len(events)]
            self._waiting_bytes -= sum(len(data) for _, data in events)
            self._tell()
        finally:
            self._writing = None
        if cancelled:
            self.cancel()

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _append(self, events: list[tuple[int, bytes]], status: str) -> bool:
        account_id = self._caller.account.id
        return self._kept.append_events(self._shell.id, account_id, events, status)


def _changed(response: msgspec.Raw | bytes, values: Object) -> bytes:
    """A response object with other values."""
    return _encode({**_read_fields(response), **values})

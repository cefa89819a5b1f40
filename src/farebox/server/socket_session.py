"""One WebSocket's session: frames become responses, one at a time, until somebody ends it.

Handshakes are websocket.py's business. Source: OpenAI's guide "WebSocket mode".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from farebox import relay
from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.call import Call
from farebox.core.ids import new_request_id
from farebox.core.usage import Usage
from farebox.dialects.body import LARGE_BYTES, read_field
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.responses import read_items
from farebox.dialects.responses_shell import Shell, usage_object
from farebox.errors import BadRequest, FareboxError, Internal, Unauthorized
from farebox.server.client import AsgiClient
from farebox.server.items import heads
from farebox.server.kept import keeping, resolve
from farebox.server.reply import Message, Receive, Send
from farebox.server.socket_client import Frames
from farebox.server.socket_frames import Create, read_call, read_create
from farebox.server.socket_history import History, Items
from farebox.server.socket_protocol import DRAIN
from farebox.server.state import State
from farebox.telemetry import logs
from farebox.telemetry.record import Record, set_record

ROUTE = "/v1/responses"
_METHOD = "WS"  # in access lines: a response on a socket, which has no method
_DONE, _REFUSED, _RESTART = 1000, 1008, 1012  # close codes; the last makes clients connect again


class SessionOver(BadRequest):
    """The socket has been open for as long as sockets are."""

    code = "websocket_connection_limit_reached"


@dataclass(frozen=True, slots=True)
class Opening:
    """What the handshake said that counts for each response."""

    headers: Mapping[bytes, bytes]  # with the key
    hops: tuple[str, ...]


class Session:
    """One socket. Two tasks work on it: one reads frames, all the time, so that a client that goes
    is noticed; the other, which is run()'s, answers them.
    """

    def __init__(
        self, state: State, history: History, opening: Opening, receive: Receive, send: Send
    ) -> None:
        self._state = state
        self._history = history
        self._opening = opening
        self._receive = receive
        self._send = send
        self._inbox: asyncio.Queue[Create | None] = asyncio.Queue()  # None: no more will come
        self._busy = False  # a response was asked for, and its last frame is not on its way
        self._gone = asyncio.Event()

    async def run(self) -> None:
        """Serve it to its end. Raises OSError when the client has gone before a goodbye."""
        reader = asyncio.create_task(self._read())
        try:
            await self._answer_all()
        finally:
            reader.cancel()

    # Reading.

    async def _read(self) -> None:
        try:
            while (message := await self._receive())["type"] != "websocket.disconnect":
                if message["type"] == DRAIN:
                    self._inbox.put_nowait(None)
                elif message["type"] == "websocket.receive":
                    await self._take(message)
        finally:
            self._gone.set()
            self._inbox.put_nowait(None)

    async def _take(self, message: Message) -> None:
        """A frame: something to answer, or refused at once."""
        try:
            text: str | None = message.get("text")
            if text is None:
                raise BadRequest("Binary frames are not read here. Send JSON in text frames.")
            data = text.encode()
            is_large = len(data) > LARGE_BYTES
            create = await asyncio.to_thread(read_create, data) if is_large else read_create(data)
            if self._busy:
                raise BadRequest(
                    "A response is still being made on this socket. Wait for it to end, or open "
                    "another socket. Nothing was charged for this frame.",
                    code="response_in_progress",
                )
        except FareboxError as error:
            await self._frames().error(error)
            return
        self._busy = True
        self._inbox.put_nowait(create)

    async def _until_gone(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    # Answering.

    async def _answer_all(self) -> None:
        loop = asyncio.get_running_loop()
        limit_s = self._state.settings.responses_websocket_limit_s
        ends_s = loop.time() + limit_s
        while True:
            try:
                async with asyncio.timeout_at(ends_s):
                    create = await self._inbox.get()
            except TimeoutError:
                error = SessionOver(
                    f"This socket has been open for {limit_s / 60:g} minutes. Open another one."
                )
                await self._frames().error(error)
                await self._close(_DONE)
                return
            if self._gone.is_set():
                return
            if create is None:
                await self._close(_RESTART)
                return
            if not await self._answer(create):
                return

    async def _answer(self, create: Create) -> bool:
        """One response, or the error in its place; whether the socket goes on."""
        state, started_s = self._state, clock.monotonic_s()
        record = Record(new_request_id(clock.now_ns()), _METHOD)
        set_record(record)
        frames = self._frames(create.stream_id, self._on_last)
        state.metrics.request_started()
        try:
            await self._respond(create, record.request_id, frames)
        except Unauthorized as error:
            record.error = error.code or error.type
            await frames.error(error)
            await self._close(_REFUSED)
            return False
        except FareboxError as error:
            record.error = error.code or error.type
            if error.fault == "us" and error.__cause__ is not None:
                logs.log.warning("refused", code=error.code, exc_info=error)
            if not self._gone.is_set():
                await frames.error(error)
        except Exception as error:  # noqa: BLE001 (the last line of defence: everything is answered)
            logs.log.error("defect", exc_info=error)
            message = "The gateway failed; the request id finds the reason in its log."
            await frames.error(Internal(message))
        finally:
            duration_s = clock.monotonic_s() - started_s
            state.metrics.request_finished(ROUTE, frames.status, duration_s)
            logs.access.write(record, ROUTE, frames.status, duration_s)
        return not self._gone.is_set()

    async def _respond(self, create: Create, request_id: str, frames: Frames) -> None:
        state = self._state
        # Again each time: the key may have been revoked, or the account closed.
        caller = await state.directory.authenticate(self._opening.headers)
        is_large = len(create.data) > LARGE_BYTES
        read = (read_call, create.data, request_id, self._opening.hops)
        call = await asyncio.to_thread(*read) if is_large else read_call(*read[1:])
        resolved = await resolve(state, caller, call, self._recall(call))
        call = resolved.call
        if create.generate:
            stall_s = state.settings.idle_timeout_s
            with AsgiClient(self._until_gone, frames, stall_s) as client:
                kept = keeping(client, state, caller, resolved)
                try:
                    await relay.serve(state.gateway, caller, call, kept)
                finally:
                    if client.gone:
                        self._gone.set()
        else:
            await self._warm_up(caller, call, frames)
        # What is kept is found in the store, also when it is gone on from here: kept with all that
        # was before, each response of a long conversation would fill the store with it again.
        if frames.output is not None and not (resolved.keeps and create.generate):
            response_id = "resp_" + request_id.removeprefix("req_")
            self._history.remember(response_id, _conversation(call, frames.output))

    def _recall(self, call: Call) -> list[msgspec.Raw] | None:
        """The conversation that the call goes on from, if this socket remembers it."""
        previous_id = read_field(call.fields, "previous_response_id", str, "a response's id")
        items = None if previous_id is None else self._history.find(previous_id)
        return None if items is None else [msgspec.Raw(item) for item in items]

    async def _warm_up(self, caller: Caller, call: Call, frames: Frames) -> None:
        """A response without an answer, whose input is remembered. Nothing is asked or charged."""
        gateway = self._state.gateway
        around = Circumstances(
            caller.account.id, clock.now_s(), gateway.seal, gateway.recall, clock.now_s
        )
        shell = Shell(call, around)
        await frames.send_head(200, ())
        usage = usage_object(Usage(), 0)
        await frames.send(shell.open() + shell.finish("completed", usage=usage), last=True)

    # Saying.

    def _frames(
        self, stream_id: str | None = None, on_last: Callable[[], None] | None = None
    ) -> Frames:
        limit_bytes = self._state.settings.max_answer_bytes
        return Frames(self._send, stream_id, limit_bytes, on_last)

    def _on_last(self) -> None:
        # Clients that have the end of one response ask for the next, while the relay may still be
        # waiting for the upstream to end: theirs is answered when it has.
        self._busy = False

    async def _close(self, code: int) -> None:
        await self._send({"type": "websocket.close", "code": code})


def _conversation(call: Call, output: Items) -> Items:
    """What the next response goes on from: all input and the output. A summary stands for all that
    was before it.
    """
    kinds = [head.type for head in heads(map(msgspec.Raw, output))]
    if "compaction" in kinds:
        return output
    return (*map(bytes, read_items(call.fields)), *output)

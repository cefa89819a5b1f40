"""GET /v1/responses: the Responses API over a WebSocket, one response at a time.

Frames and their limits are socket_protocol.py's, answering is the relay's. Source: OpenAI's guide
"WebSocket mode".
"""

from __future__ import annotations

from contextlib import suppress

from farebox.core import clock
from farebox.core.ids import new_request_id
from farebox.dialects import chat
from farebox.errors import BadRequest, FareboxError
from farebox.server.heads import Head
from farebox.server.hops import read_hops
from farebox.server.reply import Receive, Reply, Request, Scope, Send, error_headers
from farebox.server.socket_history import Histories
from farebox.server.socket_session import ROUTE, Opening, Session
from farebox.server.state import State
from farebox.telemetry import logs
from farebox.telemetry.record import Record, set_record


class UpgradeRequired(BadRequest):
    """426: this is only had over a WebSocket."""

    status = 426


async def serve(
    state: State, histories: Histories, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer a handshake, then serve the socket to its end."""
    started_s = clock.monotonic_s()
    record = Record(new_request_id(clock.now_ns()), "GET")
    set_record(record)
    head = Head(scope["headers"])
    status = 101
    state.metrics.request_started()
    try:
        hops = read_hops(head.hops, state.gateway.instance_id)
        await state.directory.authenticate(head.fields)
    except FareboxError as error:
        status, record.error = error.status, error.code or error.type
        await _refuse(send, error, record.request_id)
        return
    finally:
        duration_s = clock.monotonic_s() - started_s
        state.metrics.request_finished(ROUTE, status, duration_s)
        logs.access.write(record, ROUTE, status, duration_s)
    own = (b"x-request-id", record.request_id.encode())
    await send({"type": "websocket.accept", "headers": [own]})
    history = histories.open()
    try:
        with suppress(OSError):  # the client had gone when it was to be told goodbye
            await Session(state, history, Opening(head.fields, hops), receive, send).run()
    finally:
        history.clear()


async def _refuse(send: Send, error: FareboxError, request_id: str) -> None:
    data = chat.error_body(error)
    headers = (*error_headers(error, len(data)), (b"x-request-id", request_id.encode()))
    await send(
        {
            "type": "websocket.http.response.start",
            "status": error.status,
            "headers": list(headers),
        }
    )
    await send({"type": "websocket.http.response.body", "body": data})


async def refuse_plain(state: State, _request: Request, reply: Reply) -> None:
    """GET without a handshake, or with one that is wrong or not wanted: 426, which makes clients
    use POST.
    """
    if state.settings.responses_websocket:
        message = (
            "GET /v1/responses is served to WebSocket clients, whose handshake names version 13. "
            "Without one, use POST."
        )
    else:
        message = "This gateway does not serve WebSockets. Use POST /v1/responses."
    # RFC 9110, 15.5.22: the answer must say what to upgrade to.
    upgrade = (
        (b"upgrade", b"websocket"),
        (b"connection", b"upgrade"),
        (b"sec-websocket-version", b"13"),
    )
    await reply.error(UpgradeRequired(message), upgrade)


async def probe(state: State, request: Request, reply: Reply) -> None:
    """HEAD: whether the key is good. Codex asks it when it is to find out what is wrong."""
    await state.directory.authenticate(request.head.fields)
    await reply.send_head(200, ((b"content-length", b"0"),))
    await reply.send(b"", last=True)

"""The ASGI application of a worker: which handler serves a request, and what every answer carries.

Hot routes are found by one look-up and have no framework between; the rest is a Starlette router.
Whatever fails before an answer began becomes an error in the route's form; after that, the
connection is closed without a proper end, so that no client takes a torn answer for a whole one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Router

from farebox.core import clock
from farebox.core.ids import new_request_id
from farebox.errors import BadRequest, FareboxError, Internal, MethodNotAllowed, NotFound
from farebox.server import chat, cold, compact, counting, messages, responses, websocket
from farebox.server.body import ClientGone
from farebox.server.forms import form_of
from farebox.server.reply import Receive, Reply, Scope, Send
from farebox.server.socket_history import Histories
from farebox.server.state import State
from farebox.telemetry import logs
from farebox.telemetry.record import Record, current_record

Handler = Callable[[State, Scope, Receive, Reply], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

HOT: dict[tuple[str, str], Handler] = {
    ("POST", "/v1/chat/completions"): chat.complete,
    ("POST", "/v1/messages"): messages.create,
    ("POST", "/v1/messages/count_tokens"): counting.count_tokens,
    ("POST", "/v1/responses"): responses.create,
    ("POST", "/v1/responses/input_tokens"): counting.input_tokens,
    ("POST", "/v1/responses/compact"): compact.compact,
    ("GET", "/v1/responses"): websocket.refuse_plain,
    ("HEAD", "/v1/responses"): websocket.probe,
}
UNMATCHED = "unmatched"
_SLASHES = re.compile("//+")
_SHOWN_PATH_CHARS = 200


def application(state: State, pages: Sequence[BaseRoute] = ()) -> Asgi:
    """The application of one worker. `pages` are routes of other rooms, such as the price page."""
    return _Application(state, pages)


class _Application:
    def __init__(self, state: State, pages: Sequence[BaseRoute]) -> None:
        self._state = state
        self._histories = Histories(state.settings.max_body_bytes)
        hot_methods: dict[str, list[str]] = {}
        for method, path in HOT:
            hot_methods.setdefault(path, []).append(method)
        self._router = Router(
            [*cold.routes(state, hot_methods), *pages],
            redirect_slashes=False,
            default=_no_route,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await websocket.serve(self._state, self._histories, scope, receive, send)
        else:
            await _lifespan(receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = self._state
        started_s = clock.monotonic_s()
        path = scope["path"] = _plain_path(scope["path"])
        form = form_of(path, scope["headers"])
        reply = Reply(send, new_request_id(clock.now_us()), form, close=state.draining)
        receive = reply.noting(receive)
        record = Record(reply.request_id, scope["method"])
        current_record.set(record)
        state.metrics.request_started()
        handler = HOT.get((scope["method"], path))
        try:
            if handler is not None:
                await handler(state, scope, receive, reply)
            else:
                scope["app"] = self  # so that the router raises its refusals instead of answering
                await self._router(scope, receive, reply)
        except ClientGone:
            pass
        except Exception as error:  # noqa: BLE001 (the last line of defence: everything is answered)
            await _answer_failure(scope, receive, reply, error, record)
        finally:
            duration_s = clock.monotonic_s() - started_s
            route = path if handler else _route_of(scope)
            state.metrics.request_finished(route, reply.status, duration_s)
            logs.access(record, route, reply.status, duration_s)


async def _answer_failure(
    scope: Scope, receive: Receive, reply: Reply, error: Exception, record: Record
) -> None:
    if isinstance(error, HTTPException) and reply.status is None:
        await _answer_refusal(scope, receive, reply, error)
    elif isinstance(error, FareboxError) and reply.status is None:
        record.error = error.code or error.type
        if error.fault == "us" and error.__cause__ is not None:
            logs.log.warning("refused", code=error.code, exc_info=error)
        await reply.error(error, receive)
    else:
        logs.log.error("defect", exc_info=error)
        if reply.status is None:
            message = "The gateway failed; the request id finds the reason in its log."
            await reply.error(Internal(message), receive)


async def _answer_refusal(
    scope: Scope, receive: Receive, reply: Reply, error: HTTPException
) -> None:
    """What the router raised: no such method, or what a page refuses."""
    if error.status_code != 405:
        refusal = NotFound if error.status_code == 404 else BadRequest
        await reply.error(refusal(str(error.detail)), receive)
        return
    methods = {name.strip() for name in (error.headers or {}).get("Allow", "").split(",")}
    allow = ", ".join(sorted(methods | {"OPTIONS"}))
    headers = ((b"allow", allow.encode()),)
    if scope["method"] == "OPTIONS":
        await reply.head(204, headers)
        await reply.body(b"", last=True)
        return
    message = f"{scope['method']} is not served at {_shown(scope)}, only {allow}."
    await reply.error(MethodNotAllowed(message), receive, headers)


async def _no_route(scope: Scope, _receive: Receive, _send: Send) -> None:
    message = f"Invalid URL ({scope['method']} {_shown(scope)})"
    if scope["path"].startswith("/v1/v1/"):
        message += ". Your client adds '/v1' to the base URL by itself: leave it out there."
    elif (scope["method"], f"/v1{scope['path']}") in HOT:
        message += ". Your client does not add '/v1' to the base URL: put it there."
    raise NotFound(message)


async def _lifespan(receive: Receive, send: Send) -> None:
    # The worker starts and ends its parts itself; servers that ask are told that all is well.
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return


def _plain_path(path: str) -> str:
    """Without doubled slashes and one at the end: base URLs are often written with one."""
    if "//" in path:
        path = _SLASHES.sub("/", path)
    return path.rstrip("/") or "/"


def _route_of(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", UNMATCHED)


def _shown(scope: Scope) -> str:
    path: str = scope["path"]
    return path if len(path) <= _SHOWN_PATH_CHARS else path[:_SHOWN_PATH_CHARS] + "…"

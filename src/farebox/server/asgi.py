"""The ASGI application of a worker: which handler serves a request, under any ASGI server.

Hot routes are found by one look-up; the rest is a Starlette router.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Router

from farebox.core import clock
from farebox.core.ids import new_request_id
from farebox.errors import BadRequest, MethodNotAllowed, NotFound
from farebox.server import cold, websocket
from farebox.server.asgi_reply import AsgiReply, AsgiRequest
from farebox.server.forms import form_of
from farebox.server.reply import Asgi, Receive, Scope, Send
from farebox.server.serving import HOT, serve
from farebox.server.socket_history import Histories
from farebox.server.state import State

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
        scope["path"] = _plain_path(scope["path"])
        request = AsgiRequest(scope, receive)
        form = form_of(request.path, request.head.headers)
        request_id = new_request_id(clock.now_ns())
        reply = AsgiReply(request, send, request_id, form, close=state.draining)
        handle = HOT.get((request.method, request.path))
        if handle is not None:
            await serve(state, request, reply, handle)
            return

        async def route_it(*_: object) -> None:
            await self._route(request, reply)

        await serve(state, request, reply, route_it, lambda: _route_of(scope))

    async def _route(self, request: AsgiRequest, reply: AsgiReply) -> None:
        scope = request.scope
        scope["app"] = self  # so that the router raises its refusals instead of answering
        try:
            await self._router(scope, request.receive, reply)
        except HTTPException as error:
            if reply.status is not None:
                raise
            await _answer_refusal(scope, reply, error)


async def _answer_refusal(scope: Scope, reply: AsgiReply, error: HTTPException) -> None:
    """What the router raised: no such method, or what a page refuses."""
    if error.status_code != 405:
        refusal = NotFound if error.status_code == 404 else BadRequest
        await reply.error(refusal(str(error.detail)))
        return
    methods = {name.strip() for name in (error.headers or {}).get("Allow", "").split(",")}
    allow = ", ".join(sorted(methods | {"OPTIONS"}))
    headers = ((b"allow", allow.encode()),)
    if scope["method"] == "OPTIONS":
        await reply.send_head(204, headers)
        await reply.send(b"", last=True)
        return
    message = f"{scope['method']} is not served at {_shown(scope)}, only {allow}."
    await reply.error(MethodNotAllowed(message), headers)


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

"""The table of routes that are not hot, over Starlette; what they do is in the files beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from farebox.core.account import Caller
from farebox.server import models, money, ops, stored_responses
from farebox.server.state import State

Endpoint = Callable[[State], Awaitable[Response]]
OwnEndpoint = Callable[[State, Request, Caller], Awaitable[Response]]

PUBLIC: dict[str, Endpoint] = {
    "/healthz": ops.healthz,
    "/readyz": ops.readyz,
    "/metrics": ops.metrics,
}
OWN: dict[str, dict[str, OwnEndpoint]] = {  # for callers with a key, by method
    "/v1/models": {"GET": models.listing},
    "/v1/models/{id:path}": {"GET": models.one},
    "/v1/credits": {"GET": money.balance},
    "/v1/receipts/{id}": {"GET": money.receipt},
    "/v1/responses/{id}": {"GET": stored_responses.one, "DELETE": stored_responses.delete},
    "/v1/responses/{id}/cancel": {"POST": stored_responses.cancel},
    "/v1/responses/{id}/input_items": {"GET": stored_responses.input_items},
}


def routes(state: State, hot: Mapping[str, Sequence[str]]) -> list[Route]:
    """Every cold route of this room, and what the hot paths answer to methods other than theirs."""
    table = [Route(path, _public(state, endpoint)) for path, endpoint in PUBLIC.items()]
    # Before those with an id in them, which is not to be taken for a hot path's last word.
    table += [Route(path, _never, methods=list(methods)) for path, methods in hot.items()]
    table += [Route(path, _own(state, by), methods=list(by)) for path, by in OWN.items()]
    return [*table, Route("/", _home)]


def _public(state: State, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def serve(_request: Request) -> Response:
        return await endpoint(state)

    return serve


def _own(
    state: State, endpoints: Mapping[str, OwnEndpoint]
) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        endpoint = endpoints["GET" if request.method == "HEAD" else request.method]
        caller = await state.directory.authenticate(dict(request.headers.raw))
        return await endpoint(state, request, caller)

    return serve


async def _never(_request: Request) -> Response:
    raise AssertionError("A hot route is matched before the router is asked.")


async def _home(request: Request) -> Response:
    if request.method == "HEAD":  # Claude Code asks it first, and wants to hear that all is well
        return Response()
    return RedirectResponse("/pricing", status_code=307)

"""The table of routes that are not hot, over Starlette; what they do is in the files beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from farebox.core.account import Caller
from farebox.server import models, money, ops
from farebox.server.state import State

Endpoint = Callable[[State], Awaitable[Response]]
OwnEndpoint = Callable[[State, Request, Caller], Awaitable[Response]]

PUBLIC: dict[str, Endpoint] = {
    "/healthz": ops.healthz,
    "/readyz": ops.readyz,
    "/metrics": ops.metrics,
}
OWN: dict[str, OwnEndpoint] = {  # for callers with a key
    "/v1/models": models.listing,
    "/v1/models/{id:path}": models.one,
    "/v1/credits": money.balance,
    "/v1/receipts/{id}": money.receipt,
}


def routes(state: State, hot: Mapping[str, Sequence[str]]) -> list[Route]:
    """Every cold route of this room, and what the hot paths answer to methods other than theirs."""
    table = [Route(path, _public(state, endpoint)) for path, endpoint in PUBLIC.items()]
    table += [Route(path, _own(state, endpoint)) for path, endpoint in OWN.items()]
    table += [Route(path, _never, methods=list(methods)) for path, methods in hot.items()]
    return [*table, Route("/", _home)]


def _public(state: State, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def serve(_request: Request) -> Response:
        return await endpoint(state)

    return serve


def _own(state: State, endpoint: OwnEndpoint) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        authorization = request.headers.get("authorization", "").encode("latin-1")
        caller = await state.directory.authenticate(authorization)
        return await endpoint(state, request, caller)

    return serve


async def _never(_request: Request) -> Response:
    raise AssertionError("A hot route is matched before the router is asked.")


async def _home(_request: Request) -> Response:
    return RedirectResponse("/pricing", status_code=307)

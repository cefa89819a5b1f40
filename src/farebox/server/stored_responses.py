"""GET, DELETE and cancel of /v1/responses/{id}, and its input_items: what is kept of an account.

Another account's response is answered exactly like one that there never was. Making responses is
responses.py's business. Source: OpenAI's OpenAPI document, "Responses".
"""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.kept import KeptResponse
from farebox.errors import BadRequest, NotFound
from farebox.server import replay
from farebox.server.answers import json_answer, raw_json_answer
from farebox.server.kept import RUNNING, reading
from farebox.server.query import SHOWN_CHARS, number
from farebox.server.state import State

_DEFAULT_ITEMS, _MOST_ITEMS = 20, 100
_CANCEL_S = 2.0  # for the owner, wherever it runs, to end the call; it asks twice a second
_LOOK_S = 0.05


async def one(state: State, request: Request, caller: Caller) -> Response:
    """The response as it is now; with `stream=true` the events of one in the background."""
    response = await _find(state, request, caller)
    query = request.query_params
    if query.get("stream", "false").lower() != "true":
        return raw_json_answer(replay.shown(response))
    if not response.background:
        raise BadRequest(
            f"Response with id {_id(request)!r} cannot be streamed: it was not made with"
            " background=true. Leave 'stream' out.",
            param="stream",
            code="unsupported_value",
        )
    after = number(query, "starting_after", -1, 0, (1 << 63) - 1)
    return replay.stream(state, caller.account.id, response.id, after, response)


async def delete(state: State, request: Request, caller: Caller) -> Response:
    """Delete it, with all that is kept of it; a call that still runs for it is ended."""
    response_id = _id(request)
    delete = state.kept.delete_response
    if not await reading(delete, response_id, caller.account.id, clock.now_us()):
        raise _not_found(response_id)
    state.background.cancel(response_id)
    return json_answer({"id": response_id, "object": "response", "deleted": True})


async def cancel(state: State, request: Request, caller: Caller) -> Response:
    """End a response in the background, wherever it runs; one that has ended stays as it is."""
    response_id, account_id = _id(request), caller.account.id
    response: KeptResponse | None = await reading(
        state.kept.request_cancel, response_id, account_id, clock.now_us()
    )
    if response is None:
        raise _not_found(response_id)
    if not response.background:
        raise BadRequest(
            f"Response with id {response_id!r} cannot be cancelled: it was not made with"
            " background=true."
        )
    state.background.cancel(response_id)
    until_s = clock.monotonic_s() + _CANCEL_S
    while response.status in RUNNING and clock.monotonic_s() < until_s:
        await asyncio.sleep(_LOOK_S)
        response = await _find(state, request, caller)
    if response.status in RUNNING:  # its owner is slow to hear of it, or to write it
        shown = msgspec.json.decode(response.body, type=dict[str, msgspec.Raw])
        return json_answer({**shown, "status": "cancelled"})
    return raw_json_answer(replay.shown(response))


async def input_items(state: State, request: Request, caller: Caller) -> Response:
    """The items that the response's request brought, newest first unless told otherwise."""
    limit = number(request.query_params, "limit", _DEFAULT_ITEMS, 1, _MOST_ITEMS)
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise BadRequest(
            f"'order' must be 'asc' or 'desc', not {order[:SHOWN_CHARS]!r}.",
            param="order",
            code="invalid_value",
        )
    response = await _find(state, request, caller)
    items = response.input if order == "asc" else response.input[::-1]
    after = request.query_params.get("after")
    if after is not None:
        ids = [item.id for item in items]
        if after not in ids:
            raise BadRequest(
                f"'after' names no item of this response: {after[:SHOWN_CHARS]!r}.",
                param="after",
                code="invalid_value",
            )
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    return json_answer(
        {
            "object": "list",
            "data": [msgspec.Raw(item.data) for item in page],
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
            "has_more": len(items) > limit,
        }
    )


async def _find(state: State, request: Request, caller: Caller) -> KeptResponse:
    response_id = _id(request)
    find = state.kept.find_response
    response = await reading(find, response_id, caller.account.id, clock.now_us())
    if response is None:
        raise _not_found(response_id)
    return response


def _id(request: Request) -> str:
    return str(request.path_params["id"])


def _not_found(response_id: str) -> NotFound:
    return NotFound(f"Response with id {response_id[:SHOWN_CHARS]!r} not found.")

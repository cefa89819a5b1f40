"""GET /v1/credits, /v1/receipts/{id}: an account's own money, and its own calls' receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from farebox.core.account import Caller
from farebox.errors import BillingUnavailable, FareboxError
from farebox.server.answers import json_answer
from farebox.server.state import State


async def balance(state: State, _request: Request, caller: Caller) -> Response:
    """The money fields of the caller's account."""
    return json_answer(await _read(state.reads.money, caller.account.id))


async def receipt(state: State, request: Request, caller: Caller) -> Response:
    """The itemised receipt of a call of this account. Raises NotFound for any other."""
    request_id: str = request.path_params["id"]
    return json_answer(await _read(state.reads.receipt, request_id, caller.account.id))


async def _read(read: Callable[..., Mapping[str, object]], *what: object) -> Mapping[str, object]:
    """One read of the store. Raises BillingUnavailable for whatever keeps it from being read."""
    try:
        return await asyncio.to_thread(read, *what)
    except FareboxError:
        raise
    except Exception as error:
        message = "The books cannot be read at the moment. Try again later."
        raise BillingUnavailable(message) from error

"""GET /v1/credits, /v1/receipts/{id}: an account's own money, and its own calls' receipts."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from farebox.core.account import Caller
from farebox.server.answers import json_answer
from farebox.server.state import State


async def balance(state: State, _request: Request, caller: Caller) -> Response:
    """The money fields of the caller's account."""
    return json_answer(await asyncio.to_thread(state.reads.money, caller.account.id))


async def receipt(state: State, request: Request, caller: Caller) -> Response:
    """The itemised receipt of a call of this account. Raises NotFound for any other."""
    request_id: str = request.path_params["id"]
    return json_answer(await asyncio.to_thread(state.reads.receipt, request_id, caller.account.id))

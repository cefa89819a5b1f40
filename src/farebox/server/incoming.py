"""What every route that makes a call does first and last: who calls, the body, the relay.

What the body says is the dialects' business, which hops there may be hops.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from farebox import relay
from farebox.core.account import Caller
from farebox.core.call import Call
from farebox.core.ports import Client
from farebox.dialects.body import LARGE_BYTES
from farebox.errors import FareboxError
from farebox.server.body import read_body
from farebox.server.hops import read_hops
from farebox.server.reply import ClientGone, Reply, Request
from farebox.server.state import State

Parse = Callable[[bytes, str, tuple[str, ...]], Call]


async def receive_call(
    state: State,
    request: Request,
    reply: Reply,
    parse: Parse,
    *,
    large_bytes: int = LARGE_BYTES,
) -> tuple[Caller, Call]:
    """Who calls, and the call; a body larger than that is parsed in a thread. Raises FareboxError;
    ClientGone when the client hangs up.
    """
    hops = read_hops(request.head.hops, state.gateway.instance_id)
    # Before the body is read: a stranger may not make the gateway read anything.
    caller = await state.directory.authenticate(request.head.fields)
    body = await read_body(request, state.settings)
    if len(body) <= large_bytes:
        return caller, parse(body, reply.request_id, hops)
    return caller, await asyncio.to_thread(parse, body, reply.request_id, hops)


async def answer_call(
    state: State,
    caller: Caller,
    call: Call,
    reply: Reply,
    *,
    around: Callable[[Client], Client] = lambda client: client,
) -> None:
    """Have the relay serve a call; it answers what `around` makes of the HTTP client. Raises
    FareboxError while nothing has been sent, ClientGone when nobody is there to be told.
    """
    async with reply.client(state.settings.idle_timeout_s) as client:
        try:
            await relay.serve(state.gateway, caller, call, around(client))
        except FareboxError as error:
            if client.gone:
                raise ClientGone from error
            raise

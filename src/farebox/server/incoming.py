"""What every route that makes a call does first: who calls, and the body.

What the body says is the dialects' business, which hops there may be hops.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from farebox.core.account import Caller
from farebox.core.call import Call
from farebox.dialects.body import LARGE_BYTES
from farebox.server.body import read_body
from farebox.server.hops import read_hops
from farebox.server.reply import Reply, Request
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
    head = request.head
    hops = read_hops(head.hops, state.gateway.instance_id) if head.hops else ()
    # Before the body is read: a stranger may not make the gateway read anything.
    caller = await state.directory.authenticate(head.fields)
    body = await read_body(request, state.settings)
    if len(body) <= large_bytes:
        return caller, parse(body, reply.request_id, hops)
    return caller, await asyncio.to_thread(parse, body, reply.request_id, hops)

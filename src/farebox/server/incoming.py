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


def call_at_hand(
    state: State, request: Request, reply: Reply, parse: Parse
) -> tuple[Caller, Call] | None:
    """As receive_call(), for nearly every call: one of which nothing has to be waited for, looked
    up or inflated. Else None, and nothing of it is taken. Raises FareboxError.
    """
    head, length_bytes = request.head, request.length_bytes
    if not head.is_plain or head.hops or length_bytes is None or length_bytes > LARGE_BYTES:
        return None
    caller = state.directory.known(head.keys)
    if caller is None or length_bytes > state.settings.max_body_bytes:
        return None
    body = request.whole()
    return None if body is None else (caller, parse(body, reply.request_id, ()))


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

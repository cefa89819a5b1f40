"""POST /v1/chat/completions: from a request's head to the relay. Answering is the relay's."""

from __future__ import annotations

import asyncio

from farebox import relay
from farebox.dialects import chat
from farebox.dialects.body import LARGE_BYTES
from farebox.errors import FareboxError
from farebox.server.body import ClientGone, read_body
from farebox.server.client import AsgiClient
from farebox.server.hops import read_hops
from farebox.server.reply import Receive, Reply, Scope
from farebox.server.state import State


async def complete(state: State, scope: Scope, receive: Receive, reply: Reply) -> None:
    """Serve one call. Raises FareboxError while nothing has been sent."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    hops = read_hops(scope, state.gateway.instance_id)
    # Before the body is read: a stranger may not make the gateway read anything.
    caller = await state.directory.authenticate(headers.get(b"authorization"))
    body = await read_body(headers, receive, state.settings)
    if len(body) <= LARGE_BYTES:
        call = chat.parse(body, reply.request_id, hops)
    else:
        call = await asyncio.to_thread(chat.parse, body, reply.request_id, hops)
    async with AsgiClient(receive, reply, state.settings.idle_timeout_s) as client:
        try:
            await relay.serve(state.gateway, caller, call, client)
        except FareboxError as error:
            if client.gone:
                raise ClientGone from error
            raise

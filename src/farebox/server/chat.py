"""POST /v1/chat/completions: from a request's head to the relay. Answering is the relay's."""

from __future__ import annotations

import asyncio

from farebox import relay
from farebox.dialects import chat
from farebox.dialects.body import LARGE_BYTES
from farebox.errors import FareboxError, LoopDetected
from farebox.server.body import ClientGone, read_body
from farebox.server.client import AsgiClient
from farebox.server.reply import Receive, Reply, Scope
from farebox.server.state import State

_HOP = b"x-farebox-hop"
_MAX_HOPS = 8  # gateways in a row; nobody has use for more than two or three
_MAX_HOP_CHARS = 64  # an id has 16


async def complete(state: State, scope: Scope, receive: Receive, reply: Reply) -> None:
    """Serve one call. Raises FareboxError while nothing has been sent."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    hops = _hops(scope) if _HOP in headers else ()
    if state.gateway.instance_id in hops:
        raise LoopDetected(
            "This request came from this gateway itself: a channel's base URL, or the "
            "environment's OPENAI_BASE_URL, points back to it. Nothing was charged."
        )
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


def _hops(scope: Scope) -> tuple[str, ...]:
    """The instances that a request came through, as they wrote themselves into its header."""
    values = (value for name, value in scope["headers"] if name == _HOP)
    names = b",".join(values).decode("latin-1").split(",")
    hops = tuple(name.strip() for name in names if name.strip())
    # It is sent on with the call, so that a caller must not be able to fill it with anything.
    if len(hops) > _MAX_HOPS or max(map(len, hops), default=0) > _MAX_HOP_CHARS:
        raise LoopDetected(
            f"This request came through more than {_MAX_HOPS} gateways, or its header "
            "x-farebox-hop was not written by one. Nothing was charged."
        )
    return hops

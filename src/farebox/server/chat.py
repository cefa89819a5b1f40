"""POST /v1/chat/completions: from a request's head to the relay. Answering is the relay's."""

from __future__ import annotations

from collections.abc import Awaitable

from farebox import relay
from farebox.dialects import chat
from farebox.server.incoming import call_at_hand, receive_call
from farebox.server.reply import Reply, Request
from farebox.server.state import State


def complete(state: State, request: Request, reply: Reply) -> Awaitable[None]:
    """Serve one call. Raises FareboxError while nothing has been sent.

    No coroutine of its own, if nothing is waited for here: each wait of the relay's would go
    through it.
    """
    at_hand = call_at_hand(state, request, reply, chat.parse)
    if at_hand is None:
        return _receive_and_complete(state, request, reply)
    caller, call = at_hand
    client = reply.client(state.settings.idle_timeout_s)
    return relay.serve(state.gateway, caller, call, client)


async def _receive_and_complete(state: State, request: Request, reply: Reply) -> None:
    caller, call = await receive_call(state, request, reply, chat.parse)
    client = reply.client(state.settings.idle_timeout_s)
    await relay.serve(state.gateway, caller, call, client)

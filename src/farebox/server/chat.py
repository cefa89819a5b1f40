"""POST /v1/chat/completions: from a request's head to the relay. Answering is the relay's."""

from __future__ import annotations

from farebox import relay
from farebox.dialects import chat
from farebox.server.incoming import call_at_hand, receive_call
from farebox.server.reply import Reply, Request
from farebox.server.state import State


async def complete(state: State, request: Request, reply: Reply) -> None:
    """Serve one call. Raises FareboxError while nothing has been sent."""
    at_hand = call_at_hand(state, request, reply, chat.parse)
    caller, call = at_hand or await receive_call(state, request, reply, chat.parse)
    with reply.client(state.settings.idle_timeout_s) as client:
        await relay.serve(state.gateway, caller, call, client)

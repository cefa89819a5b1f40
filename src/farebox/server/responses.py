"""POST /v1/responses: from a request's head to the relay, with what is kept resolved and kept.

Answering is the relay's; reading what is kept is stored_responses.py's.
"""

from __future__ import annotations

from farebox import relay
from farebox.dialects import responses
from farebox.server import background
from farebox.server.incoming import call_at_hand, receive_call
from farebox.server.kept import TRUE, keeping, resolve
from farebox.server.reply import Reply, Request
from farebox.server.state import State


async def create(state: State, request: Request, reply: Reply) -> None:
    """Serve one call. Raises FareboxError while nothing has been sent."""
    at_hand = call_at_hand(state, request, reply, responses.parse)
    caller, call = at_hand or await receive_call(state, request, reply, responses.parse)
    resolved = await resolve(state, caller, call)
    if call.fields.get("background") == TRUE:
        await reply.respond(await background.begin(state, caller, resolved))
        return
    client = reply.client(state.settings.idle_timeout_s)
    kept = keeping(client, state, caller, resolved)
    await relay.serve(state.gateway, caller, resolved.call, kept)

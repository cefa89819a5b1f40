"""POST /v1/responses: from a request's head to the relay, with what is kept resolved and kept.

Answering is the relay's; reading what is kept is stored_responses.py's.
"""

from __future__ import annotations

from functools import partial

from farebox.dialects import responses
from farebox.server import background
from farebox.server.incoming import answer_call, receive_call
from farebox.server.kept import TRUE, keeping, resolve
from farebox.server.reply import Receive, Reply, Scope
from farebox.server.state import State


async def create(state: State, scope: Scope, receive: Receive, reply: Reply) -> None:
    """Serve one call. Raises FareboxError while nothing has been sent."""
    caller, call = await receive_call(state, scope, receive, reply, responses.parse)
    resolved = await resolve(state, caller, call)
    if call.fields.get("background") == TRUE:
        answer = await background.begin(state, caller, resolved)
        await answer(scope, receive, reply)
        return
    around = partial(keeping, state=state, caller=caller, resolved=resolved)
    await answer_call(state, caller, resolved.call, receive, reply, around=around)

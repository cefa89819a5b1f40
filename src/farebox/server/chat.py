"""POST /v1/chat/completions: from a request's head to the relay. Answering is the relay's."""

from __future__ import annotations

from farebox.dialects import chat
from farebox.server.incoming import answer_call, receive_call
from farebox.server.reply import Receive, Reply, Scope
from farebox.server.state import State


async def complete(state: State, scope: Scope, receive: Receive, reply: Reply) -> None:
    """Serve one call. Raises FareboxError while nothing has been sent."""
    caller, call = await receive_call(state, scope, receive, reply, chat.parse)
    await answer_call(state, caller, call, receive, reply)

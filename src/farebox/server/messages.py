"""POST /v1/messages: from a request's head to the relay. Answering is the relay's.

Errors of this route are in Anthropic's shape, which forms.py says. Source: Anthropic's reference,
"Create a Message", "Versions" and "Beta headers".
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from farebox import relay
from farebox.core.call import Headers
from farebox.dialects import messages
from farebox.errors import BadRequest
from farebox.server.forms import ANTHROPIC_VERSION
from farebox.server.incoming import call_at_hand, receive_call
from farebox.server.reply import Reply, Request
from farebox.server.state import State

_PASSED = (ANTHROPIC_VERSION, b"anthropic-beta")
_UNPRINTABLE = re.compile(rb"[^ -~]")
_MAX_VALUE_BYTES = 4096  # Claude Code names some fifteen betas, of thirty letters each


async def create(state: State, request: Request, reply: Reply) -> None:
    """Serve one call. Raises FareboxError while nothing has been sent."""
    at_hand = call_at_hand(state, request, reply, messages.parse)
    caller, call = at_hand or await receive_call(state, request, reply, messages.parse)
    call = replace(call, passed_headers=_passed_headers(request))
    client = reply.client(state.settings.idle_timeout_s)
    await relay.serve(state.gateway, caller, call, client)


def _passed_headers(request: Request) -> Headers:
    """What an upstream that speaks this dialect is told of the client's head. Raises BadRequest."""
    passed: list[tuple[bytes, bytes]] = []
    for name in _PASSED:
        values = [value.strip() for key, value in request.head.headers if key == name]
        joined = b",".join(filter(None, values))
        if len(joined) > _MAX_VALUE_BYTES or _UNPRINTABLE.search(joined):
            raise BadRequest(
                f"The header {name.decode()} is longer than {_MAX_VALUE_BYTES} bytes, or has "
                "something other than printable ASCII in it."
            )
        if joined:
            passed.append((name, joined))
    return tuple(passed)

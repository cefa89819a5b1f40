"""POST /v1/responses/input_tokens and /v1/messages/count_tokens: how many tokens a call's input
has. Free, so nothing is held, charged or written; what limits it is the size of a body and a number
of requests a minute (allowance.py).

How it is counted is count.py's business.
"""

from __future__ import annotations

from functools import partial

from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.call import Call
from farebox.dialects import messages, responses
from farebox.routing.catalogue import Model
from farebox.routing.select import choose_model
from farebox.server.answers import json_answer
from farebox.server.count import OFF_LOOP_BYTES, Count, prepare
from farebox.server.incoming import receive_call
from farebox.server.kept import off_loop, resolve
from farebox.server.models import group_of
from farebox.server.reply import Reply, Request
from farebox.server.state import State


async def input_tokens(state: State, request: Request, reply: Reply) -> None:
    """OpenAI's route. The conversation that `previous_response_id` stands for counts too."""
    caller, call = await receive_call(
        state, request, reply, responses.parse, large_bytes=OFF_LOOP_BYTES
    )
    model = _model(state, caller, call)
    resolved = await resolve(state, caller, call)
    count = await _count(state, caller, model, resolved.call)
    await _answer(count, {"object": "response.input_tokens"}, reply)


async def count_tokens(state: State, request: Request, reply: Reply) -> None:
    """Anthropic's route."""
    caller, call = await receive_call(
        state, request, reply, messages.parse_count, large_bytes=OFF_LOOP_BYTES
    )
    count = await _count(state, caller, _model(state, caller, call), call)
    await _answer(count, {}, reply)


def _model(state: State, caller: Caller, call: Call) -> Model:
    """Raises TooManyRequests; NotFound and ModelNotAllowed as the call itself would."""
    state.allowance.take(caller.key.id)
    catalogue = state.gateway.catalogue
    group = group_of(catalogue, caller)
    return choose_model(catalogue, group, caller.key.models, call.model, clock.now_us())


async def _count(state: State, caller: Caller, model: Model, call: Call) -> Count:
    size_bytes = sum(map(len, call.fields.values()))
    work = partial(prepare, state.gateway, caller.account.id, model, call)
    prepared = await off_loop(size_bytes, work, large_bytes=OFF_LOOP_BYTES)
    return await state.counting.ask(prepared)


async def _answer(count: Count, shape: dict[str, object], reply: Reply) -> None:
    answer = json_answer({**shape, "input_tokens": count.tokens})
    if not count.exact:
        answer.headers["x-token-count"] = "estimated"
    await reply.respond(answer)

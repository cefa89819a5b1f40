"""POST /v1/responses/input_tokens: how many tokens a call's input has. Free, so nothing is held,
charged or written; what limits it is the size of a body and a number of requests a minute.

How a text is counted is estimate.py's business.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

from farebox.core import clock
from farebox.core.call import Call
from farebox.dialects import responses
from farebox.errors import TooManyRequests
from farebox.routing.select import choose_model
from farebox.server.answers import json_answer
from farebox.server.estimate import estimate
from farebox.server.incoming import receive_call
from farebox.server.kept import off_loop, resolve
from farebox.server.models import group_of
from farebox.server.reply import Receive, Reply, Scope
from farebox.server.state import State

COUNTS_A_MINUTE = 600  # of one key in one process: agents ask before each turn, some for each part
_KEYS_KEPT = 100_000


class Counter(Protocol):
    """Counts the tokens of a call's input for one model."""

    @property
    def exact(self) -> bool:
        """Whether the upstream will count the same."""
        ...

    def count(self, call: Call) -> int:
        """Tokens. Pure; for a large call it runs in a thread."""
        ...


class _Estimate:
    exact = False

    def count(self, call: Call) -> int:
        return estimate(call)


_ESTIMATE = _Estimate()


def counter_for(_model: str) -> Counter:
    """The best that there is for a model, by its canonical id: an estimate for all, so far."""
    return _ESTIMATE


class Allowance:
    """How often each key may ask: so many at once, and as many again in each minute."""

    def __init__(self, a_minute: int = COUNTS_A_MINUTE) -> None:
        self._pause_s = 60.0 / a_minute
        self._full_s: dict[str, float] = {}  # when a key's allowance is whole again, monotonic

    def take(self, key_id: str) -> None:
        """One of this key's. Raises TooManyRequests."""
        now_s = clock.monotonic_s()
        full_s = max(now_s, self._full_s.get(key_id, now_s)) + self._pause_s
        wait_s = full_s - now_s - 60.0
        if wait_s > 0:
            raise TooManyRequests(
                f"Tokens are counted {round(60 / self._pause_s)} times a minute for one key. Try"
                f" again in {math.ceil(wait_s)} s.",
                retry_after_s=math.ceil(wait_s),
            )
        if len(self._full_s) >= _KEYS_KEPT:
            self._full_s.clear()  # forgetting is the cheaper mistake
        self._full_s[key_id] = full_s


async def input_tokens(state: State, scope: Scope, receive: Receive, reply: Reply) -> None:
    """Answer with the count; `x-token-count: estimated` where it is not exact."""
    caller, call = await receive_call(state, scope, receive, reply, responses.parse)
    state.counting.take(caller.key.id)
    catalogue = state.gateway.catalogue
    group = group_of(catalogue, caller)
    model = choose_model(catalogue, group, caller.key.models, call.model, clock.now_us())
    resolved = await resolve(state, caller, call)
    counter = counter_for(model.id)
    size_bytes = sum(map(len, resolved.call.fields.values()))
    tokens = await off_loop(size_bytes, partial(counter.count, resolved.call))
    answer = json_answer({"object": "response.input_tokens", "input_tokens": tokens})
    if not counter.exact:
        answer.headers["x-token-count"] = "estimated"
    await answer(scope, receive, reply)

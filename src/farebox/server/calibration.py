"""Counts held against what upstreams report, while somebody counts: `farebox usage --calibration`.

A call is looked at when its answer has been sent, never before, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from farebox.core import clock
from farebox.core.call import Call
from farebox.core.measured import Measured
from farebox.counting.factors import Factors
from farebox.errors import BadRequest, TooLarge
from farebox.passage import Passage
from farebox.server.count import Counting, prepare

IN_USE_S = 600.0  # since a client last asked for a count; then the process is there anyway
FIRST_CALLS = 20  # of each model, all of which are looked at
PAUSE_S = 10.0  # between calls after these
MOST_BYTES = 256 * 1024  # of a call; larger ones would take seconds of a core

_PPM = 1_000_000
_log = structlog.get_logger(__name__)


class Calibration:
    """One worker's samples. `keep` adds one to the sums of the store, and blocks."""

    def __init__(
        self, counting: Counting, factors: Factors, keep: Callable[[Measured, int], None]
    ) -> None:
        self._counting = counting
        self._factors = factors
        self._keep = keep
        self._taken: dict[str, int] = {}
        self._next_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def sample(self, passage: Passage) -> None:
        """Look at a call that is over, if it is one to look at and its turn. Returns at once."""
        asked_s = self._counting.asked_s
        if asked_s is None or clock.monotonic_s() >= asked_s + IN_USE_S:
            return  # nobody counts
        if not _is_reported(passage):
            return
        if self._task is not None and not self._task.done():
            return
        model, now_s = passage.admitted.model.id, clock.monotonic_s()
        taken = self._taken.get(model, 0)
        if taken >= FIRST_CALLS and now_s < self._next_s:
            return
        self._taken[model] = taken + 1
        self._next_s = now_s + PAUSE_S
        self._task = asyncio.create_task(self._measure(passage))

    async def _measure(self, passage: Passage) -> None:
        gateway, account_id = passage.gateway, passage.caller.account.id
        model, call, reported = passage.admitted.model, passage.call, passage.usage.input_total
        try:
            prepared = await asyncio.to_thread(prepare, gateway, account_id, model, call)
            count = await self._counting.count(prepared)
            if count.by_vocabulary is None:
                return
            if not prepared.rule.own:
                self._factors.add(model.id, 1, count.by_vocabulary, reported)
            measured = Measured(
                model.id,
                prepared.rule.vocabulary,
                count.exact,
                count.by_vocabulary,
                reported,
                abs(count.tokens - reported) * _PPM // reported,
            )
            await asyncio.to_thread(self._keep, measured, clock.now_us())
        except (BadRequest, TooLarge):
            pass  # a call that only upstreams of another dialect take
        except Exception:  # noqa: BLE001 (nobody waits for it, and the next call is another chance)
            _log.warning("call_not_measured", exc_info=True)

    async def aclose(self) -> None:
        """Give up the call that is being looked at."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


def _is_reported(passage: Passage) -> bool:
    """Whether its upstream gave all of its answer, and said itself how long the input was."""
    return (
        passage.complete
        and "estimated" not in passage.flags
        and passage.usage.input_total > 0
        and _size_bytes(passage.call) <= MOST_BYTES
    )


def _size_bytes(call: Call) -> int:
    return sum(map(len, call.fields.values()))

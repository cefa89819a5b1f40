"""How many tokens a call's input has for a model: its chat form, counted by the counting process.

prepare > Prepared > Counting.ask > Count
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from farebox.core import clock
from farebox.core.call import Call
from farebox.counting import wire
from farebox.counting.client import Counter
from farebox.counting.factors import Factors
from farebox.counting.rules import Rule, rule_for
from farebox.counting.tally import Tally, tally, tally_loosely
from farebox.dialects.registry import DIALECTS
from farebox.errors import BadRequest, TooLarge
from farebox.passage import Gateway
from farebox.routing.catalogue import Model
from farebox.routing.select import candidates

OFF_LOOP_BYTES = 8 * 1024  # of a body; to translate more takes a millisecond, at worst seconds
# Where a model is shown something, by the field's name in any dialect.
_SHOWN = ("system", "instructions", "messages", "input", "tools", "text", "response_format")
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """An input that is ready to be counted."""

    model: str
    rule: Rule
    tally: Tally
    payload: bytes  # of a question to the counting process


@dataclass(frozen=True, slots=True)
class Count:
    """`exact`: the upstream will count the same. `by_vocabulary` is the count before any factor;
    None: there was none, and the tokens are estimated without.
    """

    tokens: int
    exact: bool
    by_vocabulary: int | None


def prepare(gateway: Gateway, account_id: int, model: Model, call: Call) -> Prepared:
    """Translate and tally; for large calls it is for a thread. Raises BadRequest as the call itself
    would, TooLarge.
    """
    rule = rule_for([*(route.model for route in model.routes), model.id])
    # A new interpreter: what is asked of a call's own decides how its answer is read.
    around = gateway.circumstances(account_id, clock.now_s())
    interpreter = DIALECTS[call.dialect](call, around)
    try:
        outgoing = interpreter.outgoing("chat")
    except BadRequest as refusal:
        if all(each.wire == "chat" for each in candidates(gateway.catalogue, model, call.wires)):
            raise
        try:  # some upstream takes it as it is
            counted = tally_loosely(call.fields, _SHOWN, rule)
        except (msgspec.DecodeError, RecursionError):
            raise refusal from None  # nobody can read it
    else:
        counted = tally(outgoing.call.fields, rule)
        if outgoing.adjusted:
            counted = Tally(counted.texts, counted.fixed_tokens, exact=False)
    payload = wire.pack(rule.vocabulary, counted.texts)
    if len(payload) > wire.MAX_TEXT_BYTES:
        raise TooLarge(
            f"Tokens are counted of up to {wire.MAX_TEXT_BYTES // 1024**2} MiB of text, which is"
            " more than any model takes. Send less."
        )
    return Prepared(model.id, rule, counted, payload)


class Counting:
    """What counts in one worker."""

    def __init__(self, counter: Counter, factors: Factors) -> None:
        self._counter = counter
        self._factors = factors
        self.asked_s: float | None = None  # when a client last did, by the monotonic clock

    async def ask(self, prepared: Prepared) -> Count:
        """The count for a client who asked for it."""
        self.asked_s = clock.monotonic_s()
        return await self.count(prepared)

    async def text(self, model: Model, texts: Sequence[str]) -> int | None:
        """The tokens of what a model wrote; None: they cannot be counted."""
        rule = rule_for([*(route.model for route in model.routes), model.id])
        if sum(map(len, texts)) <= OFF_LOOP_BYTES:
            payload = wire.pack(rule.vocabulary, texts)
        else:
            payload = await asyncio.to_thread(wire.pack, rule.vocabulary, texts)
        counted = await self._counter.count(payload)
        if counted is None or rule.own:
            return counted
        ppm = self._factors.ppm(model.id, rule.factor_ppm)
        return (counted * ppm + _PPM // 2) // _PPM

    async def count(self, prepared: Prepared) -> Count:
        """The best that can be had in time."""
        counted = await self._counter.count(prepared.payload)
        rule, tally = prepared.rule, prepared.tally
        if counted is None:
            if len(prepared.payload) <= OFF_LOOP_BYTES:
                return Count(tally.estimate(), exact=False, by_vocabulary=None)
            estimate = await asyncio.to_thread(tally.estimate)
            return Count(estimate, exact=False, by_vocabulary=None)
        counted += tally.fixed_tokens
        if rule.own:
            return Count(counted, tally.exact, counted)
        ppm = self._factors.ppm(prepared.model, rule.factor_ppm)
        return Count((counted * ppm + _PPM // 2) // _PPM, exact=False, by_vocabulary=counted)

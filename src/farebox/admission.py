"""What is decided before anything is sent: the model, its price, the channels, the cap, the hold.

Sending and settling are the relay's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from farebox.billing.charge import is_priced_tier
from farebox.billing.hold import (
    LEAST_OUTPUT_TOKENS,
    UNKNOWN_MAX_OUTPUT,
    Bound,
    InputEstimate,
    bound,
)
from farebox.billing.limits import Hangups, Seldom
from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.call import Call
from farebox.core.ports import Budget, HoldRequest
from farebox.core.price import Price
from farebox.errors import BadRequest, Internal, Overloaded, TooManyRequests
from farebox.routing.catalogue import Candidate, Catalogue, Model
from farebox.routing.select import candidates, find_offer


@dataclass(slots=True)
class Memory:
    """What a worker remembers of calls: their density of tokens, who hung up early, whose refusal
    was written of late, and which channels report usage.
    """

    estimate: InputEstimate = field(default_factory=InputEstimate)
    hangups: Hangups = field(default_factory=Hangups)
    refusals: Seldom = field(default_factory=Seldom)
    reporting: set[str] = field(default_factory=set[str])


class Admitted(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A call that may be sent, with everything that its settlement needs of the moment of
    admission.
    """

    call: Call  # without the hosted tools that cannot be had
    at_us: int
    price_version: int
    model: Model
    price: Price
    rate_ppm: int
    channels: tuple[Candidate, ...]
    wires: frozenset[str]  # that they are spoken to in
    bound: Bound
    output_cap: int  # tokens an answer; what is sent is at most this
    clamped: bool  # the client asked for more than the model gives

    def hold_request(self, caller: Caller, cap: int) -> HoldRequest:
        """What to reserve for answers of up to `cap` tokens: all of it if the client has named the
        cap; else as much as there is for it.
        """
        call, key = self.call, caller.key
        if cap < LEAST_OUTPUT_TOKENS and "responses" in self.wires:
            cap = LEAST_OUTPUT_TOKENS  # which that API takes for less
        least = most = self.bound.nanocredits(cap)
        if call.output_cap is None:
            least = self.bound.nanocredits(min(self.output_cap, LEAST_OUTPUT_TOKENS))
        budget = None
        if key.budget_nanocredits is not None:
            since_us = clock.period_start_us(key.budget_period, self.at_us)
            budget = Budget(key.budget_nanocredits, key.budget_period, since_us)
        return HoldRequest(call.request_id, caller.account.id, key.id, least, most, budget)

    def cap_for(self, held_nanocredits: int) -> int:
        """The output cap that a hold pays for: what is held is what is sent."""
        affordable = self.bound.affordable_tokens(held_nanocredits)
        return self.output_cap if affordable is None else min(self.output_cap, affordable)


def admit(catalogue: Catalogue, memory: Memory, caller: Caller, call: Call) -> Admitted:
    """Decide all of it. Raises the FareboxError of whatever stands against the call."""
    at_us = clock.now_us()
    account, key = caller.account, caller.key
    group = catalogue.groups.get(account.group)
    if group is None:
        raise Internal(
            f"The group {account.group!r} of your account does not exist any more."
            " Ask the operator to give the account another one."
        )
    offer = find_offer(catalogue, group, key.models, call.model, call.wires, at_us)
    model, price, channels = offer.model, offer.price, offer.channels
    if call.service_tier is not None or call.hosted_tools:
        call = _priced(call, price, model.id)
    if key.id in memory.hangups.keys:
        _refuse_hangups(memory.hangups, key.id)
    if not channels:
        _refuse_dialect(catalogue, model, call)
        raise Overloaded(
            f"No channel serves the model {model.id!r} now. Try again later.", retry_after_s=5
        )
    rate_ppm = group.rate_ppm if account.rate_ppm is None else account.rate_ppm
    tokens = memory.estimate.tokens(call, account.id, key.id, model.id, at_us)
    if model.context is not None and tokens > model.context:
        tokens = model.context  # more is refused by the vendor, or cut off
    output_cap = _output_cap(memory, key.id, call, model)
    return Admitted(
        call,
        at_us,
        catalogue.version,
        model,
        price,
        rate_ppm,
        channels,
        offer.wires,
        bound(call, price, rate_ppm, tokens, at_us),
        output_cap,
        call.output_cap is not None and output_cap < call.output_cap,
    )


def _refuse_hangups(hangups: Hangups, key_id: str) -> None:
    """Raises TooManyRequests if this key has to wait."""
    wait_s = hangups.wait_s(key_id, clock.monotonic_s())
    if wait_s:
        raise TooManyRequests(
            "Too many calls of this key were hung up before their answer began. Try again in"
            f" {wait_s} s, and wait for answers.",
            retry_after_s=wait_s,
        )


_ROUTES = {
    "chat": "POST /v1/chat/completions",
    "responses": "POST /v1/responses",
    "messages": "POST /v1/messages",
}


def _refuse_dialect(catalogue: Catalogue, model: Model, call: Call) -> None:
    """Raises BadRequest if the open channels speak nothing that this call can be told in."""
    others = [wire for wire in _ROUTES if wire not in call.wires]
    elsewhere = candidates(catalogue, model, others)
    if elsewhere and call.output_cap == 0:
        raise BadRequest(
            "'max_tokens' is 0, which only fills a cache. No upstream of the model "
            f"{model.id!r} can be asked for that: ask for 1 or more.",
            param="max_tokens",
            code="unsupported_value",
        )
    if elsewhere:
        routes = " or ".join(dict.fromkeys(_ROUTES[each.wire] for each in elsewhere))
        raise BadRequest(
            f"No upstream of the model {model.id!r} can be asked for this call. It is served at"
            f" {routes}.",
            param="model",
            code="unsupported_value",
        )


def _priced(call: Call, price: Price, model: str) -> Call:
    """The call without hosted tools that have no price and may be left out. Raises BadRequest for
    whatever else has none.
    """
    if not is_priced_tier(price, call.service_tier):
        raise BadRequest(
            f"The service tier {call.service_tier!r} has no price for {model!r}."
            " Leave service_tier (or speed) out, or use a tier of GET /v1/models.",
            param="service_tier",
            code="unsupported_value",
        )
    if not call.hosted_tools:
        return call
    priced = price.tool_prices
    without = [tool for tool in call.hosted_tools if tool not in priced]
    if without and not call.may_drop_tools:
        raise BadRequest(
            f"The tool {without[0]!r}, which the vendor runs, has no price for {model!r}."
            " Use function tools, or ask the operator to price it.",
            param="tools",
            code="unsupported_value",
        )
    if not without:
        return call
    return replace(call, hosted_tools=tuple(t for t in call.hosted_tools if t in priced))


def _output_cap(memory: Memory, key_id: str, call: Call, model: Model) -> int:
    """Tokens an answer may have: as many as the client asked for, if the model gives them."""
    most = model.max_output
    if call.output_cap is not None:
        return call.output_cap if most is None or most > call.output_cap else most
    cap = most or UNKNOWN_MAX_OUTPUT
    if model.context is not None:
        # Servers that check input and cap against the context refuse a cap that cannot be reached.
        room = model.context - memory.estimate.likely_tokens(call, key_id, model.id)
        if cap > room:
            cap = max(min(cap, LEAST_OUTPUT_TOKENS), room)
    return cap

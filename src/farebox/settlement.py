"""What a call owes when it is over, and writing it into the books. Nothing is sent from here."""

from __future__ import annotations

import asyncio

import structlog

from farebox.admission import Admitted
from farebox.billing.charge import charge, fold_images, is_priced_tier
from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.call import Call
from farebox.core.ports import Settled, Settlement
from farebox.core.usage import Usage
from farebox.dialects.said import Said
from farebox.dialects.usage import BYTES_A_TOKEN, NO_READING, Reading, read_usage
from farebox.errors import (
    BillingUnavailable,
    BudgetExceeded,
    FareboxError,
    Internal,
    OutOfCredit,
    UpstreamFailed,
    UpstreamRefused,
)
from farebox.passage import Gateway, Passage

_COUNT_LIMIT_S = 5.0  # for a count, once an answer is whole; the first one starts a process
_MOST_TIER_CHARS = 64
_NOTHING = Usage()
_DEFECT = "The gateway failed; the request id finds the reason in its log."
_log = structlog.get_logger(__name__)


async def settle(passage: Passage, failure: FareboxError | None) -> FareboxError | None:
    """Charge what is due, release the rest. What the client must be told went wrong, if anything
    did.
    """
    gateway, request_id = passage.gateway, passage.call.request_id
    if passage.holding.grows:
        passage.holding.close()
    try:
        reading = _reading(passage, failure)
        if reading is not None and reading.usage is None:
            reading = await _estimate(passage, reading.flags)
        settlement = _reckon(passage, failure, reading)
    except Exception:  # noqa: BLE001 (a defect must not leave a hold behind)
        _log.exception("call_not_reckoned", request_id=request_id)
        failure = failure or Internal(_DEFECT)
        settlement = _blank(
            passage.caller, passage.call, passage.admitted, "upstream_failed", ("not_reckoned",)
        )
    passage.usage, passage.flags = settlement.usage, settlement.flags
    passage.answer = None  # many calls wait for their charge at once; what leaves, the dialect has
    try:
        try:
            settled = await gateway.books.settle(settlement)
        except asyncio.CancelledError:
            # The worker ends while the charge is being written. It is written once, however often
            # one asks, and who pays for a whole answer gets its end.
            settled = await gateway.books.settle(settlement)
    except BillingUnavailable as error:
        # It is written when it can be, and is then charged all the same.
        due = settlement.due_nanocredits
        _log.error("charge_not_confirmed", due_nanocredits=due, request_id=request_id)
        return failure or error
    except Exception:  # noqa: BLE001 (the client must be told, whatever it was)
        due = settlement.due_nanocredits
        _log.exception("call_not_charged", due_nanocredits=due, request_id=request_id)
        return failure or Internal(_DEFECT)
    if settled.absorbed_nanocredits:
        gateway.memory.estimate.distrust(settlement.account_id, settlement.created_us)
    gateway.observe(settlement, settled)
    return failure


async def refuse(
    gateway: Gateway,
    caller: Caller,
    call: Call,
    admitted: Admitted,
    error: OutOfCredit | BudgetExceeded,
) -> FareboxError:
    """The error for a call that was not held for: nothing was sent, nothing is due. Its receipt is
    written if none of the key's was within the minute, so that nobody fills the books with them.
    """
    settlement = _blank(caller, call, admitted, "refused")
    settled = Settled(0, 0)
    if gateway.memory.refusals.is_due(caller.key.id, clock.monotonic_s()):
        try:
            settled = await gateway.books.settle(settlement)
        except BillingUnavailable:
            _log.warning("refusal_not_written", request_id=call.request_id)
    gateway.observe(settlement, settled)
    return type(error)(error.message, status=gateway.settings.out_of_credit_status)


def _blank(
    caller: Caller, call: Call, admitted: Admitted, outcome: str, flags: tuple[str, ...] = ()
) -> Settlement:
    return Settlement(
        request_id=call.request_id,
        account_id=caller.account.id,
        key_id=caller.key.id,
        model=admitted.model.id,
        channel=None,
        dialect=call.dialect,
        stream=call.stream,
        outcome=outcome,
        created_us=admitted.at_us,
        price_version=admitted.price_version,
        rate_ppm=admitted.rate_ppm,
        usage=Usage(),
        due_nanocredits=0,
        hold_nanocredits=0,
        flags=flags,
    )


def _reckon(passage: Passage, failure: FareboxError | None, reading: Reading | None) -> Settlement:
    """What is charged for, and the whole nano-credits due for it."""
    caller, call, admitted = passage.caller, passage.call, passage.admitted
    price = admitted.price
    usage, flags, tier, tool_calls = _NOTHING, (), None, ()
    if reading is not None:
        assert reading.usage is not None  # else it was estimated
        usage, flags = reading.usage, reading.flags
        given, tool_calls = passage.answer or passage.stream, None
        if given is not None:
            tier, tool_calls = given.service_tier, given.tool_calls
        if passage.holding.fell_short:
            flags = (*flags, "not_covered")
        if tier is not None and not is_priced_tier(price, tier):
            flags = (*flags, "unpriced_tier")
            if not (tier.isprintable() and len(tier) <= _MOST_TIER_CHARS):
                tier = None  # not every store could keep that text; the price is the same
        if tool_calls is None:  # then each counts once that was asked for
            asked = call.hosted_tools
            tool_calls = tuple([(name, 1) for name in asked]) if asked else ()
    due_nanocredits = charge(usage, price, admitted.rate_ppm, admitted.at_us, tier, tool_calls)
    if usage.image_input:
        usage = fold_images(usage, price)
    ms, ttft_ms = passage.times_ms(passage.started_s)
    # In their order: to name twenty fields of a tuple takes as long as to make it.
    return Settlement(
        call.request_id,
        caller.account.id,
        caller.key.id,
        admitted.model.id,
        passage.channel.id if passage.answered and passage.channel else None,
        call.dialect,
        call.stream,
        _outcome(passage, failure),
        admitted.at_us,
        admitted.price_version,
        admitted.rate_ppm,
        usage,
        due_nanocredits,
        passage.holding.nanocredits,
        tier,
        tool_calls,
        flags,
        passage.attempts,
        ms,
        ttft_ms,
    )


def _outcome(passage: Passage, failure: FareboxError | None) -> str:
    if passage.client.gone:
        return "client_gone"
    if failure is None:
        return "complete"
    if failure.fault == "client" and (passage.holding.fell_short or not passage.delivered):
        return "refused"  # if not all of it, then the rest
    return "upstream_failed"


def _is_no_answer(failure: FareboxError | None) -> bool:
    """Whether the upstream's 200 turned out to be an error, or nothing that is an answer."""
    return isinstance(failure, UpstreamRefused) or (
        isinstance(failure, UpstreamFailed) and failure.reason == "bad_answer"
    )


def _reading(passage: Passage, failure: FareboxError | None) -> Reading | None:
    """The usage as reported, which is learnt from; without usage where it is to be estimated. None
    for a call that nothing is charged for.
    """
    if not (passage.complete or passage.delivered or _has_begun(passage, failure)):
        return None
    given = passage.answer or passage.stream
    if given is None or given.usage is None or passage.holding.fell_short:
        return NO_READING  # what came last did not leave, whatever the upstream says of it
    memory, model = passage.gateway.memory, passage.admitted.model
    reading = read_usage(given.usage, model.context)
    usage = reading.usage
    if usage is not None:
        memory.estimate.learn(passage.call, passage.caller.key.id, model.id, usage.input_total)
        if passage.channel is not None:
            memory.reporting.add(passage.channel.id)
    return reading


def _has_begun(passage: Passage, failure: FareboxError | None) -> bool:
    """Whether an answer of which nothing left for the client had begun when the client went. A
    call that goes before that is noted as one.
    """
    if not passage.client.gone:
        return False
    if not passage.answered:
        passage.gateway.memory.hangups.note(passage.caller.key.id, clock.monotonic_s())
        return False
    return not _is_no_answer(failure)


async def _estimate(passage: Passage, flags: tuple[str, ...]) -> Reading:
    """The usage of an answer that none was reported of: by what really came, and flagged."""
    call, memory, model_id = passage.call, passage.gateway.memory, passage.admitted.model.id
    given, holding = passage.answer or passage.stream, passage.holding
    text_bytes, counted = 0, None
    if given is not None and holding.fell_short:
        text_bytes = holding.covered_bytes
    elif given is not None:
        text_bytes, said = given.text_bytes, given.said
        if said is not None:
            counted = await _count(passage, said)
    if passage.complete and passage.channel is not None:
        memory.reporting.discard(passage.channel.id)
    if counted is None:
        counted = -(-text_bytes // BYTES_A_TOKEN)
    usage = Usage(
        uncached_input=memory.estimate.likely_tokens(call, passage.caller.key.id, model_id),
        # An estimate is ours, so nobody pays by it for more than was asked, and held, for.
        output=min(holding.most_output_tokens, counted),
    )
    return Reading(usage, (*flags, "estimated"))


async def _count(passage: Passage, said: Said) -> int | None:
    """The tokens of an answer without usage, by the model's vocabulary; None: they cannot be had
    in time.
    """
    if not said.texts:
        return None
    try:
        async with asyncio.timeout(_COUNT_LIMIT_S):
            tokens = await passage.gateway.count_text(passage.admitted.model, said.texts)
    except (TimeoutError, asyncio.CancelledError):
        return None  # the client waits for its end; or the worker ends, and what came is charged
    return None if tokens is None else tokens + -(-said.rest_bytes // BYTES_A_TOKEN)

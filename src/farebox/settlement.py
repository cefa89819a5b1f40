"""What a call owes when it is over, and writing it into the books. Nothing is sent from here."""

from __future__ import annotations

import asyncio

import msgspec
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
_DEFECT = "The gateway failed; the request id finds the reason in its log."
_log = structlog.get_logger(__name__)


class _Told(msgspec.Struct, frozen=True):
    """What the upstream said of its answer, and how much of it there was. None: no answer that
    anything is due for.
    """

    reading: Reading
    service_tier: str | None = None
    text_bytes: int = 0
    said: Said | None = None
    tool_calls: tuple[tuple[str, int], ...] | None = None


async def settle(passage: Passage, failure: FareboxError | None) -> FareboxError | None:
    """Charge what is due, release the rest. What the client must be told went wrong, if anything
    did.
    """
    gateway, request_id = passage.gateway, passage.call.request_id
    if passage.holding.grows:
        passage.holding.close()
    try:
        told, counted = _told(passage, failure), None
        if told is not None and told.said is not None:
            counted = await _count(passage, told.said)
        settlement = _reckon(passage, failure, told, counted)
    except Exception:  # noqa: BLE001 (a defect must not leave a hold behind)
        _log.exception("call_not_reckoned", request_id=request_id)
        failure = failure or Internal(_DEFECT)
        settlement = _blank(
            passage.caller, passage.call, passage.admitted, "upstream_failed", ("not_reckoned",)
        )
    passage.usage, passage.flags = settlement.usage, settlement.flags
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


_NOTHING = Usage()


def _reckon(
    passage: Passage, failure: FareboxError | None, told: _Told | None, counted: int | None
) -> Settlement:
    """What is charged for, and the whole nano-credits due for it."""
    if told is None:
        return _settlement(passage, failure, _NOTHING, 0, None, (), ())
    admitted = passage.admitted
    price = admitted.price
    usage, flags = _usage(passage, told, counted)
    if passage.holding.fell_short:
        flags = (*flags, "not_covered")
    tier = told.service_tier
    if tier is not None and not is_priced_tier(price, tier):
        flags = (*flags, "unpriced_tier")
        if not (tier.isprintable() and len(tier) <= _MOST_TIER_CHARS):
            tier = None  # no name, nor a text that every store could keep; the price is the same
    tool_calls = told.tool_calls
    if tool_calls is None:  # then each counts once that was asked for
        asked = passage.call.hosted_tools
        tool_calls = tuple([(name, 1) for name in asked]) if asked else ()
    due_nanocredits = charge(usage, price, admitted.rate_ppm, admitted.at_us, tier, tool_calls)
    if usage.image_input:
        usage = fold_images(usage, price)
    return _settlement(passage, failure, usage, due_nanocredits, tier, tool_calls, flags)


def _settlement(  # noqa: PLR0917 (what was given, what it costs, and what is said of it)
    passage: Passage,
    failure: FareboxError | None,
    usage: Usage,
    due_nanocredits: int,
    service_tier: str | None,
    tool_calls: tuple[tuple[str, int], ...],
    flags: tuple[str, ...],
) -> Settlement:
    caller, call, admitted = passage.caller, passage.call, passage.admitted
    channel = passage.channel.id if passage.answered and passage.channel else None
    ms, ttft_ms = passage.times_ms(passage.started_s)
    # In their order: to name twenty fields of a tuple takes as long as to make it.
    return Settlement(
        call.request_id,
        caller.account.id,
        caller.key.id,
        admitted.model.id,
        channel,
        call.dialect,
        call.stream,
        _outcome(passage, failure),
        admitted.at_us,
        admitted.price_version,
        admitted.rate_ppm,
        usage,
        due_nanocredits,
        passage.holding.nanocredits,
        service_tier,
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


def _told(passage: Passage, failure: FareboxError | None) -> _Told | None:
    if not (passage.complete or passage.delivered or _has_begun(passage, failure)):
        return None
    given = passage.answer or passage.stream
    if given is None:
        return _Told(NO_READING)
    holding, tier, tool_calls = passage.holding, given.service_tier, given.tool_calls
    if holding.fell_short:  # what came last did not leave, whatever the upstream says of it
        return _Told(NO_READING, tier, holding.covered_bytes, None, tool_calls)
    reading = NO_READING
    if given.usage is not None:
        reading = read_usage(given.usage, passage.admitted.model.context)
    if reading.usage is not None:
        return _Told(reading, tier, 0, None, tool_calls)
    return _Told(reading, tier, given.text_bytes, given.said, tool_calls)


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


def _usage(passage: Passage, told: _Told, counted: int | None) -> tuple[Usage, tuple[str, ...]]:
    """The usage that counts: as reported; else an estimate from what really came, flagged."""
    call, key_id, model = passage.call, passage.caller.key.id, passage.admitted.model
    memory, reading = passage.gateway.memory, told.reading
    if reading.usage is not None:
        memory.estimate.learn(call, key_id, model.id, reading.usage.input_total)
        if passage.channel is not None:
            memory.reporting.add(passage.channel.id)
        return reading.usage, reading.flags
    if passage.complete and passage.channel is not None:
        memory.reporting.discard(passage.channel.id)
    if counted is None:
        counted = -(-told.text_bytes // BYTES_A_TOKEN)
    usage = Usage(
        uncached_input=memory.estimate.likely_tokens(call, key_id, model.id),
        # An estimate is ours, so nobody pays by it for more than was asked, and held, for.
        output=min(passage.holding.most_output_tokens, counted),
    )
    return usage, (*reading.flags, "estimated")

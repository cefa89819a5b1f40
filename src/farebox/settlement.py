"""What a call owes when it is over, and writing it into the books. Nothing is sent from here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import msgspec
import structlog

from farebox.admission import Admitted
from farebox.billing.charge import bill, fold_images, is_priced_tier
from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.call import Call
from farebox.core.ports import Books, Settled, Settlement
from farebox.core.usage import Usage
from farebox.dialects.usage import BYTES_A_TOKEN, Reading, read_usage
from farebox.errors import (
    BillingUnavailable,
    FareboxError,
    Internal,
    UpstreamFailed,
    UpstreamRefused,
)
from farebox.passage import Gateway, Passage

_DEFECT = "The gateway failed; the request id finds the reason in its log."
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Reported:
    """What the upstream said of its answer, and how much of it there was."""

    usage: msgspec.Raw | None = None
    service_tier: str | None = None
    text_bytes: int = 0
    tool_calls: tuple[tuple[str, int], ...] | None = None


async def settle(passage: Passage, failure: FareboxError | None) -> FareboxError | None:
    """Charge what is due, release the rest. What the client must be told went wrong, if anything
    did.
    """
    gateway, named = passage.gateway, {"request_id": passage.call.request_id}
    try:
        settlement = _reckon(passage, failure)
    except Exception:  # noqa: BLE001 (a defect must not leave a hold behind)
        _log.exception("call_not_reckoned", **named)
        failure = failure or Internal(_DEFECT)
        settlement = _blank(passage.caller, passage.call, passage.admitted)
        settlement = replace(settlement, outcome="upstream_failed", flags=("not_reckoned",))
    passage.usage, passage.flags = settlement.usage, settlement.flags
    try:
        settled = await _write(gateway.books, settlement)
    except BillingUnavailable as error:
        _log.error("call_not_charged", due_nanocredits=settlement.due_nanocredits, **named)
        return failure or error
    except Exception:  # noqa: BLE001 (the client must be told, whatever it was)
        _log.exception("call_not_charged", due_nanocredits=settlement.due_nanocredits, **named)
        return failure or Internal(_DEFECT)
    if settled.absorbed_nanocredits:
        gateway.memory.estimate.distrust(settlement.account_id, settlement.created_us)
    gateway.observe(settlement, settled)
    return failure


async def _write(books: Books, settlement: Settlement) -> Settled:
    try:
        return await books.settle(settlement)
    except asyncio.CancelledError:
        # The worker ends while the charge is being written. It is written once, however often one
        # asks, and who pays for a whole answer gets its end.
        return await books.settle(settlement)


async def write_refusal(gateway: Gateway, caller: Caller, call: Call, admitted: Admitted) -> None:
    """A receipt for a call that the balance did not cover: nothing was sent, nothing is due."""
    settlement = _blank(caller, call, admitted)
    try:
        gateway.observe(settlement, await gateway.books.settle(settlement))
    except BillingUnavailable:
        _log.warning("refusal_not_written", request_id=call.request_id)


def _blank(caller: Caller, call: Call, admitted: Admitted) -> Settlement:
    return Settlement(
        request_id=call.request_id,
        account_id=caller.account.id,
        key_id=caller.key.id,
        model=admitted.model.id,
        channel=None,
        dialect=call.dialect,
        stream=call.stream,
        outcome="refused",
        created_us=admitted.at_us,
        price_version=admitted.price_version,
        rate_ppm=admitted.rate_ppm,
        usage=Usage(),
        due_nanocredits=0,
        hold_nanocredits=0,
    )


def _reckon(passage: Passage, failure: FareboxError | None) -> Settlement:
    admitted = passage.admitted
    gone = passage.client.gone
    if gone and not passage.answered:
        passage.gateway.memory.hangups.note(passage.caller.key.id, clock.monotonic_s())
    settlement = replace(
        _blank(passage.caller, passage.call, admitted),
        channel=passage.channel.id if passage.answered and passage.channel else None,
        outcome=_outcome(passage, failure),
        hold_nanocredits=passage.held_nanocredits,
        attempts=tuple(passage.attempts),
        ms=passage.ms,
        ttft_ms=passage.ttft_ms,
    )
    begun = passage.answered and not _is_no_answer(failure)
    if not (passage.complete or passage.delivered or (gone and begun)):
        return settlement
    reported = _reported(passage)
    usage, flags = _usage(passage, reported)
    tier = reported.service_tier
    if not is_priced_tier(admitted.price, tier):
        flags = (*flags, "unpriced_tier")
    tool_calls = reported.tool_calls
    if tool_calls is None:  # then each counts once that was asked for
        tool_calls = tuple((name, 1) for name in passage.call.hosted_tools)
    due = bill(
        usage,
        admitted.price,
        admitted.rate_ppm,
        admitted.at_us,
        service_tier=tier,
        tool_calls=tool_calls,
    )
    return replace(
        settlement,
        usage=fold_images(usage, admitted.price),
        due_nanocredits=due.due_nanocredits,
        service_tier=tier,
        tool_calls=tool_calls,
        flags=flags,
    )


def _outcome(passage: Passage, failure: FareboxError | None) -> str:
    if passage.client.gone:
        return "client_gone"
    if failure is None:
        return "complete"
    return "refused" if failure.fault == "client" and not passage.delivered else "upstream_failed"


def _is_no_answer(failure: FareboxError | None) -> bool:
    """Whether the upstream's 200 turned out to be an error, or nothing that is an answer."""
    return isinstance(failure, UpstreamRefused) or (
        isinstance(failure, UpstreamFailed) and failure.reason == "bad_answer"
    )


def _reported(passage: Passage) -> _Reported:
    if passage.answer is not None:
        answer = passage.answer
        return _Reported(answer.usage, answer.service_tier, answer.text_bytes, answer.tool_calls)
    if passage.stream is not None:
        stream = passage.stream
        return _Reported(stream.usage, stream.service_tier, stream.text_bytes, stream.tool_calls)
    return _Reported()


def _usage(passage: Passage, reported: _Reported) -> tuple[Usage, tuple[str, ...]]:
    """The usage that counts: as reported; else an estimate from what really came, flagged."""
    call, key_id, model = passage.call, passage.caller.key.id, passage.admitted.model
    estimate = passage.gateway.memory.estimate
    reading = Reading(None)
    if reported.usage is not None:
        reading = read_usage(reported.usage, model.context)
    if reading.usage is not None:
        estimate.learn(call, key_id, model.id, reading.usage.input_total)
        return reading.usage, reading.flags
    # An estimate is ours, so nobody pays by it for more than was asked for.
    most = passage.output_cap * call.choices
    usage = Usage(
        uncached_input=estimate.likely_tokens(call, key_id, model.id),
        output=min(most, -(-reported.text_bytes // BYTES_A_TOKEN)),
    )
    return usage, (*reading.flags, "estimated")

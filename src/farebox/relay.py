"""The story of one call, from admission to settlement.

serve > admit > hold > _try_channels > _attempt > _stream_to_client | _take_whole > settle > send
"""

from __future__ import annotations

import asyncio

import structlog

from farebox.admission import admit
from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.call import Call
from farebox.core.channel import Channel
from farebox.core.ports import Client, Exchange, UpstreamHead, UpstreamRequest
from farebox.dialects.body import LARGE_BYTES
from farebox.dialects.registry import DIALECTS
from farebox.errors import (
    BadRequest,
    BudgetExceeded,
    FareboxError,
    Internal,
    OutOfCredit,
    UpstreamFailed,
    UpstreamRefused,
    broke_off,
)
from farebox.holding import NOT_COVERED, first_tokens, held
from farebox.passage import Gateway, Passage
from farebox.routing.catalogue import Candidate
from farebox.settlement import refuse, settle
from farebox.vendors.base import Vendor

__all__ = ["Gateway", "serve"]

_ERROR_BODY_BYTES = 256 * 1024  # more of an upstream's error is not read

_log = structlog.get_logger(__name__)


async def serve(gateway: Gateway, caller: Caller, call: Call, client: Client) -> None:
    """Answer one call and charge it. Raises FareboxError only while nothing was sent to the
    client.
    """
    started_s = clock.monotonic_s()
    books = gateway.books
    admitted = admit(gateway.catalogue, gateway.memory, caller, call)
    call = admitted.call
    tokens = admitted.output_cap
    if call.stream:
        tokens = first_tokens(admitted, gateway.find_vendor)
    wanted = admitted.hold_request(caller, tokens)
    try:
        nanocredits = await books.hold(wanted)
    except (OutOfCredit, BudgetExceeded) as error:
        raise await refuse(gateway, caller, call, admitted, error) from error
    except asyncio.CancelledError:
        books.release(call.request_id)
        raise
    around = gateway.circumstances(caller.account.id, admitted.at_us // 1_000_000)
    now_s = clock.monotonic_s()
    passage = Passage(
        gateway,
        caller,
        call,
        client,
        DIALECTS[call.dialect](call, around),
        admitted,
        held(books, admitted, tokens, wanted, nanocredits),
        started_s,
        now_s,
        now_s,
    )
    client.on_gone(passage.note_gone)
    try:
        failure = await _try_channels(passage)
        client.on_gone(None)
        # Whatever happened, the hold ends here; and only after the commit does the answer end.
        failure = await settle(passage, failure)
        if failure is None:
            await passage.send(passage.interpreter.tail(passage.usage), last=True)
            # Also to who has hung up since the charge: it is theirs, as any hang-up's is.
            books.delivered(call.request_id)
        else:
            await passage.send(_error_end(passage, failure), last=True)
        gateway.sample(passage)
        if call.stream:
            await passage.read_last_bytes()
    finally:
        passage.close()


async def _try_channels(passage: Passage) -> FareboxError | None:
    """Ask one channel after the other, until one has answered, up to the tail, or has begun to.
    What went wrong, if anything did.
    """
    failure: FareboxError | None = None
    for candidate in passage.admitted.channels:
        passage.begin_attempt(candidate.channel)
        try:
            await _attempt(passage, candidate)
        except UpstreamFailed as error:
            passage.note_attempt(error)
            passage.close()
            failure = error
            elsewhere = not isinstance(error, UpstreamRefused) or error.retry_elsewhere
            if passage.delivered or passage.client.gone or not elsewhere:
                break
        except BadRequest as error:
            # This upstream cannot be asked for it; one that speaks otherwise perhaps can.
            failure = failure or error
        except FareboxError as error:
            if isinstance(error, NOT_COVERED):  # no more of it could be held for
                passage.note_attempt(cut_off="not_covered")
                passage.close()
            failure = error
            break
        except asyncio.CancelledError:
            # The worker ends. What was delivered is charged, and the client learns that it was not
            # all.
            passage.note_attempt(cut_off="shutdown")
            failure = Internal("The gateway is shutting down. Try again.", code="server_shutdown")
            break
        except Exception:  # noqa: BLE001 (a defect must not leave a hold behind)
            _log.exception("call_failed", request_id=passage.call.request_id)
            passage.note_attempt(cut_off="defect")
            failure = Internal("The gateway failed; the request id finds the reason in its log.")
            break
        else:
            passage.note_attempt()
            return None
    assert failure is not None  # admission gives at least one channel
    return failure


async def _attempt(passage: Passage, candidate: Candidate) -> None:
    gateway, client, channel = passage.gateway, passage.client, candidate.channel
    vendor = gateway.find_vendor(channel.vendor)
    call = passage.call
    if call.text_bytes > LARGE_BYTES or (call.table_tokens and _is_large(call)):
        request = await asyncio.to_thread(_prepare, passage, candidate, vendor)
    else:
        request = _prepare(passage, candidate, vendor)
    if client.gone:  # while the hold was made, perhaps: then nobody asks the upstream for anything
        raise UpstreamFailed("The client has gone.", reason="client_gone")
    exchange = passage.exchange = gateway.upstream.open(request)
    del request  # its body may be megabytes, and the answer take minutes
    while (head := await exchange.head(passage.patience_s())) is None:
        await passage.ping_if_quiet()
    passage.heard = True
    if head.status != 200:
        body = await _read_all(passage, exchange, _ERROR_BODY_BYTES)
        raise vendor.refused(channel, head, body)
    passage.answered = True
    if call.stream and _is_event_stream(head):
        await _stream_to_client(passage, exchange, vendor, channel)
    else:
        # All of it is tail: it is kept until the charge is committed. Most come in one read;
        # an empty one goes the long way, as those in parts do.
        limit_bytes = gateway.settings.max_answer_bytes
        body = exchange.whole(limit_bytes) or await _read_all(passage, exchange, limit_bytes)
        passage.close()  # its connection can carry the next call while this one is charged
        _take_whole(passage, body, vendor, channel)


def _is_large(call: Call) -> bool:
    """Whether work on its fields is for a thread, though its text is not so long."""
    return sum(map(len, call.fields.values())) > LARGE_BYTES


def _prepare(passage: Passage, candidate: Candidate, vendor: Vendor) -> UpstreamRequest:
    """The request for one attempt; what was changed for it is noted. Raises BadRequest."""
    channel, wire, call = candidate.channel, candidate.wire, passage.call
    # Who is understood there without translation says himself what to cache.
    marks = wire != call.dialect and vendor.takes_cache_control(channel)
    outgoing = passage.interpreter.outgoing(wire, cache_control=marks)
    prepared = vendor.prepare(
        channel,
        candidate.model,
        outgoing.call,
        passage.holding.output_cap,
        passage.gateway.instance_id,
        passage.caller.account.name,
    )
    passage.adjusted = outgoing.adjusted + prepared.adjusted
    if passage.admitted.clamped:
        passage.adjusted = ("max_tokens=clamped", *passage.adjusted)
    return prepared.request


def _is_event_stream(head: UpstreamHead) -> bool:
    return (head.headers.get(b"content-type") or b"").lower().startswith(b"text/event-stream")


async def _stream_to_client(
    passage: Passage, exchange: Exchange, vendor: Vendor, channel: Channel
) -> None:
    """Pass events on as they arrive, up to the tail; read on when the client has gone, for the
    usage.
    """
    stream = passage.begin_stream(vendor)
    while not (passage.at_end or stream.finished or passage.has_waited_enough()):
        try:
            await exchange.pump(passage.pass_on, passage.patience_s())
        except UpstreamFailed:
            if passage.usage_s is None:
                raise
            break  # all of the answer had come; how the connection ends is of no interest
        await passage.holding.cover(stream)
        if passage.leaving:
            await passage.send_leaving()
        else:
            await passage.ping_if_quiet()
    if stream.failure is not None:
        raise stream.failure
    if stream.error is not None:
        raise vendor.error_event(channel, stream.error)
    if not stream.ending:
        raise broke_off("no_finish")
    passage.complete = True


def _take_whole(passage: Passage, body: bytes, vendor: Vendor, channel: Channel) -> None:
    """Understand a JSON answer."""
    answer = passage.interpreter.answer(body, vendor.endings)
    if answer.error is not None:
        raise vendor.error_event(channel, answer.error)
    if passage.call.stream:
        raise UpstreamFailed(
            "The upstream answered a stream with one JSON body.", reason="bad_answer"
        )
    passage.answer, passage.complete, passage.first_s = answer, True, clock.monotonic_s()


async def _read_all(passage: Passage, exchange: Exchange, limit_bytes: int) -> bytes:
    passage.begin_body(limit_bytes)
    while True:
        await exchange.pump(passage.keep, passage.patience_s())
        if passage.room_bytes < 0:
            raise UpstreamFailed(
                "The upstream's answer is larger than the gateway takes.", reason="answer_too_large"
            )
        if passage.at_end:
            return passage.take_body()
        if passage.has_waited_enough():
            raise broke_off("drain_timeout")
        await passage.ping_if_quiet()


def _error_end(passage: Passage, failure: FareboxError) -> bytes:
    """The error in place of the tail: never a clean end to an answer that has none. Raises it while
    nothing was sent.
    """
    if not passage.head_sent:
        raise failure
    return passage.interpreter.error_event(failure, passage.usage)

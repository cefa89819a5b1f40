"""Responses that are kept: what a call says of earlier ones is resolved, and its own is kept.

How they are kept is the store's business; those that run in the background are background.py's.

resolve > the call with all of its conversation > keeping(client, …) > the relay
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.call import Call, Headers
from farebox.core.kept import ChainTooLong, KeptResponse
from farebox.core.ports import Client
from farebox.core.settings import Settings
from farebox.dialects.body import LARGE_BYTES, read_field
from farebox.dialects.responses import with_input
from farebox.dialects.sse import Splitter
from farebox.errors import BadRequest, BillingUnavailable, FareboxError
from farebox.server.client import Wrapped
from farebox.server.items import MOST_ADDED_BYTES, heads, replaced, split, with_ids
from farebox.server.state import KeptStore, State

RUNNING = ("queued", "in_progress")
TERMINAL = {f"response.{status}" for status in ("completed", "incomplete", "failed")}
TRUE, FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")
_DAY_US = 86_400_000_000
_ADJUSTED = b"x-farebox-adjusted"
_TRIGGER = "compaction_trigger"

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Event(msgspec.Struct, frozen=True):
    """What is read of an event of a response's stream."""

    type: str = ""
    response: msgspec.Raw = msgspec.Raw(b"null")


class ResponseObject(msgspec.Struct, frozen=True):
    """What is read of a response object."""

    id: str
    status: str
    output: list[msgspec.Raw] = []


read_event = msgspec.json.Decoder(Event).decode
read_response = msgspec.json.Decoder(ResponseObject).decode


@dataclass(frozen=True, slots=True)
class Resolved:
    """A call with all of its conversation as input, and what is to be kept of it."""

    call: Call
    items: tuple[msgspec.Raw, ...]  # what this call brings to the conversation
    previous_id: str | None  # the kept response that those items follow upon
    keeps: bool
    adjusted: tuple[str, ...] = ()  # what was changed of what the client asked for
    before: tuple[msgspec.Raw, ...] = ()  # the conversation up to that kept response

    @property
    def conversation(self) -> tuple[msgspec.Raw, ...]:
        """All items that the model is given."""
        return (*self.before, *self.items)


async def resolve(
    state: State, caller: Caller, call: Call, recalled: Sequence[msgspec.Raw] | None = None
) -> Resolved:
    """Put what the call names of kept responses into its place: the conversation up to its
    `previous_response_id`, and items that it references. `store` becomes what will be done.

    `recalled`: that conversation where the caller of this function remembers it; it is then kept
    with this response's own items. Raises BadRequest (previous_response_not_found,
    item_not_found), BillingUnavailable.
    """
    settings = state.settings
    size_bytes = sum(map(len, call.fields.values()))
    if recalled is not None:
        size_bytes += sum(map(len, recalled))
    wish = read_field(call.fields, "store", bool, "true or false")
    previous_id = read_field(call.fields, "previous_response_id", str, "a response's id")
    items, references = await off_loop(size_bytes, lambda: split(call))
    wanted = [each for each in references if each is not None]
    before: Sequence[msgspec.Raw] = recalled or ()
    account_id, limit_bytes = caller.account.id, settings.max_body_bytes
    if wanted:
        found = await reading(state.kept.find_items, wanted, account_id, clock.now_us())
        items = replaced(items, references, found)
    if previous_id is not None and recalled is None:
        before = await reading(_conversation, state.kept, previous_id, account_id, limit_bytes)
    if before or wanted:
        whole = [*before, *items]
        whole_bytes = sum(map(len, whole))
        if whole_bytes > limit_bytes:
            raise _too_long(f"The conversation is larger than {limit_bytes} bytes.")
        call = await off_loop(whole_bytes, lambda: with_input(call, whole))
    if recalled is not None:
        before, items, previous_id = (), [*recalled, *items], None
    keeps = wish is not False and _may_keep(settings, size_bytes, items)
    if not keeps and call.fields.get("background") == TRUE:
        raise _background_needs_store(settings)
    call = replace(call, fields={**call.fields, "store": TRUE if keeps else FALSE})
    adjusted = ("store=dropped",) if wish and not keeps else ()
    return Resolved(call, tuple(items), previous_id, keeps, adjusted, tuple(before))


def _may_keep(settings: Settings, size_bytes: int, items: Sequence[msgspec.Raw]) -> bool:
    # As they will be kept: references are whole items by now, and small items grow most.
    kept_bytes = sum(map(len, items)) + MOST_ADDED_BYTES * len(items)
    most_bytes = settings.responses_max_kept_bytes
    return settings.responses_store and max(size_bytes, kept_bytes) <= most_bytes


async def off_loop(size_bytes: int, work: Callable[[], T], large_bytes: int = LARGE_BYTES) -> T:
    """What the work gives, done in a thread if it is about many bytes."""
    return work() if size_bytes <= large_bytes else await asyncio.to_thread(work)


async def reading(read: Callable[..., T], *what: object) -> T:
    """What a blocking method of the store gives. Raises BillingUnavailable if it cannot be used."""
    try:
        return await asyncio.to_thread(read, *what)
    except ChainTooLong as error:
        raise _too_long(str(error)) from None
    except FareboxError:
        raise
    except Exception as error:
        message = "The responses that are kept cannot be read now. Try again in a few seconds."
        raise BillingUnavailable(message) from error


def _conversation(
    kept: KeptStore, previous_id: str, account_id: int, limit_bytes: int
) -> list[msgspec.Raw]:
    try:
        chain = kept.response_chain(previous_id, account_id, clock.now_us(), limit_bytes)
    except LookupError as error:
        raise previous_not_found(previous_id, str(error.args[0])) from None
    if chain[-1].status in RUNNING:
        raise BadRequest(
            f"The response {previous_id!r} is still {chain[-1].status}. Wait until it has ended, or"
            f" cancel it: POST /v1/responses/{previous_id}/cancel.",
            param="previous_response_id",
            code="invalid_value",
        )
    items: list[msgspec.Raw] = []
    for link in chain:
        items += [msgspec.Raw(item.data) for item in link.input]
        output = [msgspec.Raw(item.data) for item in link.output]
        if any(head.type == "compaction" for head in heads(output)):
            items = []  # its summary stands for all that was before
        items += output
    return [item for item, head in zip(items, heads(items), strict=True) if head.type != _TRIGGER]


def previous_not_found(previous_id: str, missing_id: str | None = None) -> BadRequest:
    """The answer for an id that is unknown, expired, deleted, or another account's."""
    told = f"Previous response with id {previous_id[:100]!r} not found."
    if missing_id not in (None, previous_id):
        told = (
            f"The response {previous_id!r} goes back to {missing_id!r}, which is not kept any "
            "more. Send the conversation as input."
        )
    return BadRequest(told, param="previous_response_id", code="previous_response_not_found")


def _too_long(message: str) -> BadRequest:
    return BadRequest(message, param="input", code="context_length_exceeded")


def _background_needs_store(settings: Settings) -> BadRequest:
    why = "this gateway keeps none. Leave 'background' out."
    if settings.responses_store:
        why = f"this one is larger than {settings.responses_max_kept_bytes} bytes. Send less."
    return BadRequest(
        f"'background' needs the response to be kept, and {why}",
        param="background",
        code="unsupported_value",
    )


def expiry_us(settings: Settings, created_us: int) -> int:
    """Until when a response is kept."""
    return created_us + settings.responses_keep_days * _DAY_US


def kept_response(
    resolved: Resolved, caller: Caller, settings: Settings, body: bytes
) -> KeptResponse | None:
    """A response whose object is `body` as it is kept; None if it is too large for that."""
    response = read_response(body)
    request_id = resolved.call.request_id
    now_us = clock.now_us()  # the object's own time may be an upstream's
    kept = KeptResponse(
        id=response.id,
        account_id=caller.account.id,
        created_us=now_us,
        expires_us=expiry_us(settings, now_us),
        status=response.status,
        background=resolved.call.fields.get("background") == TRUE,
        previous_id=resolved.previous_id,
        input=tuple(with_ids(resolved.items, request_id)),
        output=tuple(with_ids(response.output, request_id, "o")),
        body=body,
        owner="",
    )
    size_bytes = sum(len(item.data) for item in (*kept.input, *kept.output))
    return None if size_bytes > settings.responses_max_kept_bytes else kept


def final_object(data: bytes) -> bytes | None:
    """The response object of the event that ends a stream, if these bytes hold that event."""
    splitter = Splitter(len(data))
    for _, event_data in (*splitter.feed(data), *splitter.close()):
        if event_data is not None:
            event = read_event(event_data)
            if event.type in TERMINAL:
                return bytes(event.response)
    return None


def keeping(client: Client, state: State, caller: Caller, resolved: Resolved) -> Client:
    """The client for the relay to answer, so that the response is kept before its end leaves."""
    if not resolved.keeps and not resolved.adjusted:
        return client
    return _KeepingClient(client, state, caller, resolved)


class _KeepingClient(Wrapped):
    """A client whose response is kept, also when it has gone and the answer came whole."""

    __slots__ = ("_caller", "_resolved", "_state")

    def __init__(self, client: Client, state: State, caller: Caller, resolved: Resolved) -> None:
        super().__init__(client)
        self._state = state
        self._caller = caller
        self._resolved = resolved

    async def send_head(self, status: int, headers: Headers) -> None:
        """The head; what was changed of the request is named there."""
        await self._client.send_head(status, with_adjusted(headers, self._resolved.adjusted))

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Part of the body. The response is in the store before its end leaves."""
        if last and self._resolved.keeps:
            try:
                await asyncio.to_thread(self._keep, data)
            except Exception:  # noqa: BLE001 (an answer that was charged leaves, kept or not)
                _log.exception("response_not_kept", request_id=self._resolved.call.request_id)
        await self._client.send(data, last=last)

    def send_now(self, data: bytes) -> bool:
        """Part of the body, of which none before the last is looked at."""
        return self._client.send_now(data)

    def _keep(self, data: bytes) -> None:
        call = self._resolved.call
        body = final_object(data) if call.stream else data
        if body is None:
            return
        kept = kept_response(self._resolved, self._caller, self._state.settings, body)
        if kept is None:
            _log.warning("response_too_large_to_keep", request_id=call.request_id)
            return
        self._state.kept.keep_response(kept)


def with_adjusted(headers: Headers, adjusted: tuple[str, ...]) -> Headers:
    """The headers, with these changes of the request named in `x-farebox-adjusted`."""
    if not adjusted:
        return headers
    values = [value.encode() for value in adjusted]
    values += [value for name, value in headers if name == _ADJUSTED]
    others = tuple(pair for pair in headers if pair[0] != _ADJUSTED)
    return (*others, (_ADJUSTED, b", ".join(values)))

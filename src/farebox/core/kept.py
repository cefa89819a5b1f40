"""What the gateway keeps of a response for later calls. How it is kept is store/'s business."""

from dataclasses import dataclass

MAX_CHAIN_LINKS = 1_000  # responses that one previous_response_id may lead back through


class ChainTooLong(ValueError):
    """What a call asks for from the store is more than one call may hold; a sentence."""


@dataclass(frozen=True, slots=True)
class KeptItem:
    """One item of a response's input or output."""

    id: str
    data: bytes  # the item as JSON, its id included


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """One response as it is at one moment."""

    id: str  # resp_…
    account_id: int
    created_us: int
    expires_us: int
    status: str  # queued | in_progress | completed | incomplete | failed | cancelled
    background: bool
    previous_id: str | None
    input: tuple[KeptItem, ...]  # what this call brought, not what stands in the chain before it
    output: tuple[KeptItem, ...]
    body: bytes  # the response object as JSON, as it is now
    owner: str  # the worker process that runs it, `w0-…`; "" when nobody does
    cancel_requested: bool = False

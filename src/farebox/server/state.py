"""What the routes are handed: settings, the gateway, who may call, the store, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from farebox.core.kept import KeptItem, KeptResponse
from farebox.core.settings import Settings
from farebox.server.allowance import Allowance
from farebox.server.auth import Directory
from farebox.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from farebox.relay import Gateway
    from farebox.server.background import Background
    from farebox.server.count import Counting


@dataclass(frozen=True, slots=True)
class Reads:
    """The reads of the store that routes need; each blocks, so routes call it in a thread.

    `receipt(request_id, account_id)` raises errors.NotFound for an unknown id and for another
    account's alike. `money(account_id)` gives the money fields of an account. `check()` raises
    whatever it likes when the store cannot be read.
    """

    receipt: Callable[[str, int], Mapping[str, object]]
    money: Callable[[int], Mapping[str, object]]
    check: Callable[[], object]


class KeptStore(Protocol):
    """Where responses are kept. Every method blocks, may be called from any thread, and raises
    whatever it likes when the store cannot be used. Another account's response is one that is not
    there.
    """

    def keep_response(
        self, response: KeptResponse, events: Sequence[tuple[int, bytes]] = ()
    ) -> None:
        """Keep it, in place of what is kept under its id, and add these events in the same moment:
        (sequence number, data).
        """
        ...

    def find_response(self, response_id: str, account_id: int, now_us: int) -> KeptResponse | None:
        """The response of that id, if there is one."""
        ...

    def response_chain(
        self, response_id: str, account_id: int, now_us: int, max_bytes: int
    ) -> tuple[KeptResponse, ...]:
        """It and those before it, oldest first. Raises LookupError with the id that is missing,
        core.kept.ChainTooLong.
        """
        ...

    def find_items(
        self, item_ids: Sequence[str], account_id: int, now_us: int
    ) -> dict[str, KeptItem]:
        """Those of these items that are kept. Raises core.kept.ChainTooLong."""
        ...

    def delete_response(self, response_id: str, account_id: int, now_us: int) -> bool:
        """Delete it with all of its content; whether it was there."""
        ...

    def append_events(
        self,
        response_id: str,
        account_id: int,
        events: Sequence[tuple[int, bytes]],
        status: str,
        body: bytes | None = None,
    ) -> bool:
        """Add (sequence number, data) of a stream; whether the response is to be cancelled."""
        ...

    def events_after(
        self, response_id: str, account_id: int, sequence: int, limit: int
    ) -> tuple[tuple[int, bytes], ...]:
        """Up to `limit` events above that sequence number, in order."""
        ...

    def request_cancel(self, response_id: str, account_id: int, now_us: int) -> KeptResponse | None:
        """Ask the owner of a background response that runs to end it; the response as it is."""
        ...

    def cancel_requested(self, response_id: str) -> bool:
        """Whether its owner is to end it."""
        ...


@dataclass(slots=True)
class State:
    """One worker's state."""

    settings: Settings
    gateway: Gateway
    directory: Directory
    reads: Reads
    metrics: Metrics
    kept: KeptStore
    background: Background
    counting: Counting
    allowance: Allowance  # of counts
    draining: bool = False  # told to end: clients are asked to use another connection next time
    ending: bool = False  # and so is the gateway: nothing may be begun any more

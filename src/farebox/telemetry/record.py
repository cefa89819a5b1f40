"""What is remembered of the request being served, for its access line. Nothing here writes."""

from __future__ import annotations

from contextvars import ContextVar

import msgspec
from msgspec import UNSET, UnsetType

from farebox.core.ports import Settled, Settlement


class Record(msgspec.Struct, eq=False):
    """One request. Whoever learns something of it fills it in; the server writes the line."""

    request_id: str
    method: str
    account: str | UnsetType = UNSET  # by name
    key: str | UnsetType = UNSET  # its id
    error: str | UnsetType = UNSET  # the code or type that the client was told
    call: tuple[Settlement, Settled] | None = None  # that was settled


# A context variable, so that the relay needs no word of access lines: a request is one task, and
# tasks started by it share the record.
current_record: ContextVar[Record | None] = ContextVar("current_record", default=None)
# Kept, since a method of a thing that was imported is made anew for each call.
get_record, set_record = current_record.get, current_record.set

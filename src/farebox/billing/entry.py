"""What is written of a finished call, in the form in which it travels: from the worker that served
it to the ledger process, into the store or the spool. It is built once, and nobody builds it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from farebox.core.ports import Settlement
from farebox.core.usage import CLASSES


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A settlement, flat: the fields are columns of the store's `usage` and keep their order there.

    Times are microseconds since the Unix epoch, amounts nano-credits. `tool_calls`, `flags` and
    `attempts` are JSON lists: `[[tool, count], …]`, `[flag, …]` and the fields of core.call.Attempt
    in order.
    """

    request_id: str
    account_id: int
    key_id: str
    model: str
    channel: str | None
    dialect: str
    stream: int
    outcome: str
    created_us: int
    price_version: int
    rate_ppm: int
    uncached_input: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    audio_input: int
    image_input: int
    output: int
    audio_output: int
    due: int
    hold: int
    service_tier: str | None
    tool_calls: str
    flags: str
    attempts: str
    ms: int
    ttft_ms: int | None

    def tokens(self) -> tuple[int, ...]:
        """The counts by class, in the order of ENTRY_CLASSES."""
        return (
            self.uncached_input,
            self.cache_read,
            self.cache_write,
            self.cache_write_1h,
            self.audio_input,
            self.image_input,
            self.output,
            self.audio_output,
        )


ENTRY_FIELDS: tuple[str, ...] = Entry.__struct_fields__
ENTRY_CLASSES: tuple[str, ...] = ENTRY_FIELDS[11:19]
assert set(ENTRY_CLASSES) == set(CLASSES)
_ENCODER = msgspec.json.Encoder()


def entry_of(settlement: Settlement) -> Entry:
    """The settlement as it is written."""
    usage = settlement.usage
    return Entry(
        settlement.request_id,
        settlement.account_id,
        settlement.key_id,
        settlement.model,
        settlement.channel,
        settlement.dialect,
        int(settlement.stream),
        settlement.outcome,
        settlement.created_us,
        settlement.price_version,
        settlement.rate_ppm,
        usage.uncached_input,
        usage.cache_read,
        usage.cache_write,
        usage.cache_write_1h,
        usage.audio_input,
        usage.image_input,
        usage.output,
        usage.audio_output,
        settlement.due_nanocredits,
        settlement.hold_nanocredits,
        settlement.service_tier,
        _json(settlement.tool_calls),
        _json(settlement.flags),
        _json(settlement.attempts),
        settlement.ms,
        settlement.ttft_ms,
    )


def _json(values: Sequence[Any]) -> str:
    return _ENCODER.encode(values).decode() if values else "[]"

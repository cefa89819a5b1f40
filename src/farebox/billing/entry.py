"""What is written of a finished call, in the form in which it travels: from the worker that served
it to the ledger process, into the store or the spool. It is built once, and nobody builds it again.
"""

from __future__ import annotations

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
_encode = msgspec.json.Encoder().encode


def entry_of(settlement: Settlement) -> Entry:
    """The settlement as it is written."""
    call, usage = settlement, settlement.usage
    return Entry(
        call.request_id,
        call.account_id,
        call.key_id,
        call.model,
        call.channel,
        call.dialect,
        1 if call.stream else 0,
        call.outcome,
        call.created_us,
        call.price_version,
        call.rate_ppm,
        usage.uncached_input,
        usage.cache_read,
        usage.cache_write,
        usage.cache_write_1h,
        usage.audio_input,
        usage.image_input,
        usage.output,
        usage.audio_output,
        call.due_nanocredits,
        call.hold_nanocredits,
        call.service_tier,
        _encode(call.tool_calls).decode() if call.tool_calls else "[]",
        _encode(call.flags).decode() if call.flags else "[]",
        _encode(call.attempts).decode() if call.attempts else "[]",
        call.ms,
        call.ttft_ms,
    )

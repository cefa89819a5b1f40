"""A settled call for tests of whatever writes, reads, counts or logs one."""

from __future__ import annotations

from typing import Any

import msgspec

from farebox.core.ports import Settlement
from farebox.core.usage import Usage

NOON_US = 1_795_435_200_000_000  # 2026-11-23T12:00:00Z
_PLAIN = Settlement(
    request_id="req_1",
    account_id=1,
    key_id="key_1",
    model="m-1",
    channel="main",
    dialect="chat",
    stream=True,
    outcome="complete",
    created_us=NOON_US,
    price_version=1,
    rate_ppm=1_000_000,
    usage=Usage(uncached_input=10, output=5),
    due_nanocredits=0,
    hold_nanocredits=0,
)


def settlement(**more: Any) -> Settlement:
    """A streamed call of account 1 that went well and cost nothing, but for what is said."""
    return msgspec.structs.replace(_PLAIN, **more)

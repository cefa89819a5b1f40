"""Reading what calls left behind: one call with its attempts, and sums by hour. Changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from farebox.core.call import Attempt
from farebox.core.ports import Settled, Settlement
from farebox.core.usage import CLASSES, Usage
from farebox.store.engine import StoreBase
from farebox.store.schema import accounts, sealed_hours, usage, usage_hours

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A settled call as it was written, and what became of it."""

    account: str  # the account's name
    settlement: Settlement
    settled: Settled
    settled_us: int
    lease_id: int | None  # what was charged; none where nothing was


@dataclass(frozen=True, slots=True)
class Total:
    """Calls of one model, key or day. `of` is the id, or the day's start in microseconds."""

    of: str | int
    calls: int
    tokens: dict[str, int]  # by class
    charge_nanocredits: int
    absorbed_nanocredits: int


@dataclass(frozen=True, slots=True)
class UndeliveredCall:
    """A call that was charged and whose end its client did not get."""

    request_id: str
    account: str
    key_id: str
    model: str
    created_us: int
    charge_nanocredits: int


_BY = {
    "model": usage_hours.c.model,
    "key": usage_hours.c.key_id,
    "day": usage_hours.c.hour_us - usage_hours.c.hour_us % DAY_US,
}
_SUMS = ("calls", "charge", "absorbed", *CLASSES)


class Reports(StoreBase):
    """What the store can tell of calls."""

    def call(self, request_id: str) -> StoredCall | None:
        """The settled call of that id."""
        query = (
            sa.select(usage, accounts.c.name.label("account_name"))
            .join(accounts, accounts.c.id == usage.c.account_id)
            .where(usage.c.request_id == request_id)
        )
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        return _stored(row) if row else None

    def is_dropped(self, created_us: int) -> bool:
        """Whether the single calls of that time were dropped, at the end of theirs."""
        query = sa.select(sealed_hours.c.dropped_us).where(
            sealed_hours.c.hour_us == created_us // HOUR_US * HOUR_US
        )
        with self._reading() as connection:
            return connection.execute(query).scalar() is not None

    def undelivered(self, since_us: int, until_us: int) -> list[UndeliveredCall]:
        """Calls admitted in [since, until) that were charged and not delivered, oldest first."""
        calls = usage.c
        query = (
            sa.select(
                calls.request_id,
                accounts.c.name,
                calls.key_id,
                calls.model,
                calls.created_us,
                calls.charge,
            )
            .join(accounts, accounts.c.id == calls.account_id)
            .where(
                # As text, so that the partial index is seen to be the right one.
                sa.literal_column("outcome = 'undelivered'"),
                calls.created_us >= since_us,
                calls.created_us < until_us,
            )
            .order_by(calls.created_us, calls.request_id)
        )
        with self._reading() as connection:
            return [UndeliveredCall(*row) for row in connection.execute(query)]

    def usage_totals(
        self, by: Literal["model", "key", "day"], since_us: int, until_us: int
    ) -> list[Total]:
        """Sums of the hours that begin in [since, until), in the order of what they are of."""
        of = _BY[by].label("of")
        hours = usage_hours.c
        query = (
            sa.select(
                of,
                *(sa.func.sum(hours[name]).label(name) for name in _SUMS),
            )
            .where(hours.hour_us >= since_us, hours.hour_us < until_us)
            .group_by(of)
            .order_by(of)
        )
        with self._reading() as connection:
            return [_total(row) for row in connection.execute(query).mappings()]


def _total(row: sa.RowMapping) -> Total:
    # PostgreSQL's sums of integers are decimals.
    sums = {name: int(row[name]) for name in _SUMS}
    tokens = {name: sums[name] for name in CLASSES}
    return Total(row["of"], sums["calls"], tokens, sums["charge"], sums["absorbed"])


def _stored(row: sa.RowMapping) -> StoredCall:
    settlement = Settlement(
        request_id=row["request_id"],
        account_id=row["account_id"],
        key_id=row["key_id"],
        model=row["model"],
        channel=row["channel"],
        dialect=row["dialect"],
        stream=bool(row["stream"]),
        outcome=row["outcome"],
        created_us=row["created_us"],
        price_version=row["price_version"],
        rate_ppm=row["rate_ppm"],
        usage=Usage(**{name: row[name] for name in CLASSES}),
        due_nanocredits=row["due"],
        hold_nanocredits=row["hold"],
        service_tier=row["service_tier"],
        tool_calls=tuple((name, count) for name, count in json.loads(row["tool_calls"])),
        flags=tuple(json.loads(row["flags"])),
        attempts=tuple(Attempt(*fields) for fields in json.loads(row["attempts"])),
        ms=row["ms"],
        ttft_ms=row["ttft_ms"],
    )
    settled = Settled(row["charge"], row["absorbed"])
    return StoredCall(row["account_name"], settlement, settled, row["settled_us"], row["lease_id"])

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
from farebox.store.schema import accounts, attempts, usage, usage_hours

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A settled call as it was written, and what became of it."""

    account: str  # the account's name
    settlement: Settlement
    settled: Settled


@dataclass(frozen=True, slots=True)
class Total:
    """Calls of one model, key or day. `of` is the id, or the day's start in microseconds."""

    of: str | int
    calls: int
    tokens: dict[str, int]  # by class
    charge_nanocredits: int


_BY = {
    "model": usage_hours.c.model,
    "key": usage_hours.c.key_id,
    "day": usage_hours.c.hour_us - usage_hours.c.hour_us % DAY_US,
}


class Reports(StoreBase):
    """What the store can tell of calls."""

    def call(self, request_id: str) -> StoredCall | None:
        """The settled call of that id."""
        with self._reading() as connection:
            found = connection.execute(
                sa.select(usage, accounts.c.name.label("account_name"))
                .join(accounts, accounts.c.id == usage.c.account_id)
                .where(usage.c.request_id == request_id)
            )
            row = found.mappings().first()
            if row is None:
                return None
            tries = connection.execute(
                sa.select(attempts)
                .where(attempts.c.request_id == request_id)
                .order_by(attempts.c.n)
            )
            return _stored(row, tuple(Attempt(*values) for _, *values in tries))

    def usage_totals(
        self, by: Literal["model", "key", "day"], since_us: int, until_us: int
    ) -> list[Total]:
        """Sums of the hours that begin in [since, until), in the order of what they are of."""
        of = _BY[by].label("of")
        hours = usage_hours.c
        query = (
            sa.select(
                of,
                *(sa.func.sum(hours[name]).label(name) for name in ("calls", "charge", *CLASSES)),
            )
            .where(hours.hour_us >= since_us, hours.hour_us < until_us)
            .group_by(of)
            .order_by(of)
        )
        with self._reading() as connection:
            return [
                Total(row["of"], row["calls"], {name: row[name] for name in CLASSES}, row["charge"])
                for row in connection.execute(query).mappings()
            ]


def _stored(row: sa.RowMapping, tries: tuple[Attempt, ...]) -> StoredCall:
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
        attempts=tries,
        ms=row["ms"],
        ttft_ms=row["ttft_ms"],
    )
    return StoredCall(row["account_name"], settlement, Settled(row["charge"], row["absorbed"]))

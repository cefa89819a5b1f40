"""Asks the store what contradicts itself, hour by hour and as a whole, and seals hours that don't.

The statements are audit_sql.py's. What a call should have cost is not known here: admin/audit.py
prices each row again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from farebox.core.usage import CLASSES, Usage
from farebox.store import audit_sql as sql
from farebox.store.engine import StoreBase
from farebox.store.leases import LIVE_US
from farebox.store.reports import HOUR_US
from farebox.store.schema import sealed_hours, usage, usage_hours

OPEN_AFTER_US = 300_000_000  # beyond an owner's life, and somebody should have noticed
_SOME_ROWS = 1000  # of an hour's calls in memory at a time
_IN_TURN_US = 300_000_000

Row = dict[str, Any]


@dataclass(slots=True)
class Found:
    """Rows that break an invariant: the first of them, and how many there are."""

    rows: list[Row] = field(default_factory=list[Row])
    total: int = 0

    def add(self, rows: Iterable[Row], total: int) -> None:
        """Note more of them."""
        for row in rows:
            if len(self.rows) < sql.ROWS:
                self.rows.append(row)
        self.total += total


class Priced(NamedTuple):
    """What one call was priced by, and what was paid for it."""

    request_id: str
    account_id: int
    model: str
    created_us: int
    price_version: int
    rate_ppm: int
    service_tier: str | None
    tool_calls: str  # JSON
    due: int
    charge: int
    absorbed: int
    usage: Usage


_CLASSES = len(CLASSES)
_PRICED = [usage.c[name] for name in (*Priced._fields[:-1], *CLASSES)]


class Hour:
    """One hour of calls in one snapshot; see Audits.hour."""

    def __init__(self, connection: sa.Connection, hour_us: int) -> None:
        self._connection = connection
        self.hour_us = hour_us

    def broken(self) -> dict[str, Found]:
        """What contradicts in this hour: leases (I3) and roll-ups (I5)."""
        found = {"I3": Found(), "I5": Found()}
        for name, statement in (("I3", sql.LEASE_HOUR), ("I5", sql.HOUR)):
            _look(found[name], self._connection, statement, self.hour_us)
        return found

    def calls(self, settled_since_us: int = 0) -> Iterator[Priced]:
        """What the hour's calls were priced by, a few in memory at a time."""
        query = sa.select(*_PRICED).where(
            usage.c.created_us >= self.hour_us,
            usage.c.created_us < self.hour_us + HOUR_US,
            usage.c.settled_us >= settled_since_us,
        )
        result = self._connection.execution_options(yield_per=_SOME_ROWS).execute(query)
        for some in result.partitions():
            for row in some:
                yield Priced._make((*row[:-_CLASSES], Usage(*row[-_CLASSES:])))

    def seal(self) -> Seal:
        """What its roll-ups are."""
        return _seal(self._connection, self.hour_us)


@dataclass(frozen=True, slots=True)
class Seal:
    """The roll-ups of one hour, so that a change of them can be told."""

    hour_us: int
    calls: int
    charge: int
    checksum: str


class Audits(StoreBase):
    """What the store can tell of its own soundness."""

    def broken_books(self, *, full: bool) -> dict[str, Found]:
        """What contradicts in accounts, leases and sums, each by one snapshot. `full`: also whether
        the index of calls is sound.
        """
        checks: list[tuple[str, sa.TextClause, dict[str, int]]] = [
            ("I1", sql.ACCOUNTS, {}),
            ("I1", sql.NO_ACCOUNT, {}),
            ("I2", sql.FLOORS, {}),
            ("I3", sql.LEASES, {}),
            ("I3", sql.NO_LEASE, {}),
            ("I4", sql.REJECTED, {}),
            ("I5", sql.NO_KEY, {}),
            ("I6", sql.REVENUE, {}),
        ]
        if full:
            checks.append(("I4", sql.TWICE, {}))
        if self.is_postgresql:
            checks.append(("I7", sql.OVERDUE, {"patience_us": LIVE_US + OPEN_AFTER_US}))
        found: dict[str, Found] = {}
        for name, statement, parameters in checks:
            with self._reading() as connection:
                _add(found.setdefault(name, Found()), connection.execute(statement, parameters))
        return found

    def draining_leases(self) -> Found:
        """Leases that wait for the last charges of an owner that has gone, or is going."""
        found = Found()
        with self._reading() as connection:
            _add(found, connection.execute(sql.DRAINING))
        return found

    def hours_to_audit(self, *, full: bool) -> list[int]:
        """Beginnings of hours that have calls or roll-ups and are not sealed; `full`: that have
        not been dropped. Oldest first.
        """
        with self._reading() as connection:
            seals = connection.execute(sa.select(sealed_hours.c.hour_us, sealed_hours.c.dropped_us))
            done = {row.hour_us for row in seals if not full or row.dropped_us is not None}
            hours = {*_hours_of(connection, usage_hours.c.hour_us)}
            hours.update(_hours_of(connection, usage.c.created_us))
        return sorted(hours - done)

    @contextmanager
    def hour(self, hour_us: int) -> Generator[Hour]:
        """One hour, to be looked at in one snapshot."""
        with self._reading() as connection:
            yield Hour(connection, hour_us)

    def seal_hour(self, seal: Seal, now_us: int) -> bool:
        """Seal an hour that was found right, unless something has come to it since."""
        with self._writing() as connection:
            if self.is_postgresql:
                # A charge that is being written takes the seal away, once this lets it.
                connection.execute(sa.text("LOCK TABLE sealed_hours IN SHARE ROW EXCLUSIVE MODE"))
            if _seal(connection, seal.hour_us) != seal:
                return False
            known = connection.execute(
                sa.select(sealed_hours.c.hour_us).where(sealed_hours.c.hour_us == seal.hour_us)
            )
            if known.first() is None:
                connection.execute(
                    sa.insert(sealed_hours).values(
                        hour_us=seal.hour_us,
                        calls=seal.calls,
                        charge=seal.charge,
                        checksum=seal.checksum,
                        sealed_us=now_us,
                    )
                )
        return True

    def unseal_unfinished(self, now_us: int) -> None:
        """Take the seals of hours away that are not over. A clock that was ahead made them, and
        calls that come now leave them as they are.
        """
        early = sealed_hours.c.hour_us > now_us - HOUR_US, sealed_hours.c.dropped_us.is_(None)
        with self._reading() as connection:
            if connection.execute(sa.select(sealed_hours.c.hour_us).where(*early)).first() is None:
                return
        with self._writing() as connection:
            connection.execute(sa.delete(sealed_hours).where(*early))

    def broken_seals(self, most: int | None, now_us: int) -> Found:
        """Sealed hours whose roll-ups are not what they were.

        Calls and charges are compared for all of them, whatever else is in the roll-ups for `most`
        of them (None: all) whose turn it is at this time.
        """
        found = Found()
        with self._reading() as connection:
            seals = connection.execute(sql.SEALED).mappings().all()
            first = now_us // _IN_TURN_US * (most or 0)
            turn = {(first + n) % len(seals) for n in range(most or 0)} if seals else set[int]()
            for n, row in enumerate(seals):
                sums = int(row["rolled_calls"]), int(row["rolled_charge"])
                if most is not None and n not in turn and sums == (row["calls"], row["charge"]):
                    continue
                statement = sql.ROLL_UPS if row["dropped_us"] is None else sql.ROLL_UPS_LESS_CALLS
                now = _seal(connection, row["hour_us"], statement)
                if now != Seal(row["hour_us"], row["calls"], row["charge"], row["checksum"]):
                    found.add([_broken_seal(row, now)], 1)
        return found


def _broken_seal(row: sa.RowMapping, now: Seal) -> Row:
    return {
        "sealed_hour_us": now.hour_us,
        "calls_when_sealed": row["calls"],
        "charge_when_sealed_nanocredits": row["charge"],
        "calls": now.calls,
        "charge_nanocredits": now.charge,
    }


def _look(found: Found, connection: sa.Connection, statement: sa.TextClause, hour_us: int) -> None:
    _add(found, connection.execute(statement, _span(hour_us)), hour_us=hour_us)


def _span(hour_us: int) -> dict[str, int]:
    return {"hour_us": hour_us, "until_us": hour_us + HOUR_US}


def _add(found: Found, result: sa.CursorResult[Any], **more: int) -> None:
    rows = [{name: _plain(value) for name, value in row.items()} for row in result.mappings()]
    total = rows[0].pop("total") if rows else 0
    for row in rows[1:]:
        del row["total"]
    found.add([more | row for row in rows], total)


def _plain(value: Any) -> Any:
    # PostgreSQL's sums of integers are decimals.
    return int(value) if isinstance(value, Decimal) else value


def _hours_of(connection: sa.Connection, column: sa.Column[int]) -> Iterator[int]:
    """The hours that a column of times has, by its index: one look an hour, not one a row."""
    after_us = 0
    query = sa.select(sa.func.min(column)).where(column >= sa.bindparam("after_us"))
    while (found := connection.execute(query, {"after_us": after_us}).scalar()) is not None:
        hour_us = found // HOUR_US * HOUR_US
        yield hour_us
        after_us = hour_us + HOUR_US


def _seal(connection: sa.Connection, hour_us: int, statement: sa.TextClause = sql.ROLL_UPS) -> Seal:
    found = connection.execute(statement, _span(hour_us))
    # Sorted here: databases do not agree on the order of texts.
    rows = sorted([_plain(value) for value in row] for row in found)
    checksum = hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
    return Seal(hour_us, sum(row[3] for row in rows), sum(row[-2] for row in rows), checksum)

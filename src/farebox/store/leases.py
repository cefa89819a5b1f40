"""Leases and their owners, as everybody may know them. What an owner does with its own leases is
books.py's.

Heartbeats are by the database's clock: hosts need not agree on the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from farebox.core import clock
from farebox.store.engine import StoreBase
from farebox.store.errors import StoreConflict
from farebox.store.schema import accounts, leases, owners, transfers
from farebox.store.tables import USABLE, Tables

LIVE_US = 60_000_000  # without a heartbeat; the owner itself stops well before

T = TypeVar("T")

_IS_USABLE = leases.c.state.in_(USABLE)
_UNSPENT = leases.c.granted - leases.c.spent - leases.c.returned
_LEASES = (
    sa.select(
        leases,
        accounts.c.name.label("account"),
        owners.c.host,
        owners.c.state.label("owner_state"),
        owners.c.heartbeat_us,
    )
    .join(accounts, accounts.c.id == leases.c.account_id)
    .outerjoin(owners, owners.c.id == leases.c.owner)
    .order_by(leases.c.id)
)


@dataclass(frozen=True, slots=True)
class StoredLease:
    """A lease and its owner. Amounts are nano-credits."""

    id: int
    account: str
    owner: str
    host: str | None  # None: the owner is not known any more
    owner_state: str | None  # live, expired, lost
    heartbeat_us: int | None
    state: str  # open, draining, closed, lost
    granted_nanocredits: int
    spent_nanocredits: int
    returned_nanocredits: int
    opened_us: int
    closed_us: int | None

    @property
    def is_usable(self) -> bool:
        """Whether it may be charged."""
        return self.state in USABLE

    @property
    def unspent_nanocredits(self) -> int:
        """What may still be charged, or was lost."""
        return self.granted_nanocredits - self.spent_nanocredits - self.returned_nanocredits


class Leases(StoreBase):
    """What the store knows of leases and owners."""

    def drive(self, work: Callable[[Tables], T], patience_ms: int) -> T:
        """Do work of a ledger's within one transaction. Raises StoreError when the store cannot be
        written, or not within about `patience_ms`.
        """
        with self._sentences(), self._connections.posting(patience_ms) as tables:
            return work(tables)

    def leases(self, *, ended: bool = False) -> list[StoredLease]:
        """Those that may be charged, with `ended` all others too; by id."""
        query = _LEASES if ended else _LEASES.where(_IS_USABLE)
        with self._reading() as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]

    def beat(self, owner: str, host: str) -> int:
        """This owner lives; how many do. Raises StoreError.

        With PostgreSQL, owners that have not said so for LIVE_US are expired, and their leases
        drain: what was granted is kept for them, and is theirs again when they come back.
        """
        with self._writing_rows() as connection:
            now_us = self._now_us(connection)
            if self.is_postgresql:
                _expire(connection, owner, now_us - LIVE_US)
            row = {"host": host, "state": "live", "heartbeat_us": now_us}
            done = connection.execute(
                sa.update(owners).where(owners.c.id == owner).values(**row)
            ).rowcount
            if not done:
                connection.execute(sa.insert(owners).values(id=owner, created_us=now_us, **row))
            live = sa.select(sa.func.count()).where(owners.c.state == "live")
            return connection.execute(live).scalar_one() if self.is_postgresql else 1

    def farewell(self, owner: str) -> None:
        """This owner has ended, and gave back what it had: it is not counted any more. One that
        still has leases stays, and expires.
        """
        with self._writing_rows() as connection:
            has_leases = sa.select(leases.c.id).where(leases.c.owner == owner, _IS_USABLE)
            connection.execute(
                sa.delete(owners).where(owners.c.id == owner, ~sa.exists(has_leases))
            )

    def lose(self, owner: str, is_dead: Callable[[str], bool]) -> list[StoredLease]:
        """Declare an owner lost, with all that is not spent of its leases; those leases.

        Raises StoreConflict when it lives: by its heartbeat, and with SQLite if it is not dead.
        """
        with self._writing() as connection:
            now_us = self._now_us(connection)
            known = connection.execute(sa.select(owners).where(owners.c.id == owner)).first()
            query = _LEASES.where(leases.c.owner == owner, _IS_USABLE)
            if self.is_postgresql:
                query = query.with_for_update(of=leases)
                is_alive = known is not None and known.heartbeat_us > now_us - LIVE_US
            else:
                is_alive = not is_dead(owner)
            if is_alive:
                raise StoreConflict(
                    f"Owner {owner} is alive, so nothing of it is lost. Stop its gateway, and it "
                    "gives back what it has."
                )
            found = [_stored(row) for row in connection.execute(query).mappings()]
            for lease in found:
                _write_off(connection, lease, now_us)
            connection.execute(sa.update(owners).where(owners.c.id == owner).values(state="lost"))
            return found

    def has_owner(self, owner: str) -> bool:
        """Whether there is, or was, an owner of that name."""
        with self._reading() as connection:
            names = sa.select(owners.c.id).where(owners.c.id == owner)
            of_leases = sa.select(leases.c.id).where(leases.c.owner == owner).limit(1)
            return any(connection.execute(query).first() for query in (names, of_leases))

    def _now_us(self, connection: sa.Connection) -> int:
        if not self.is_postgresql:
            return clock.now_us()
        epoch = sa.func.extract("epoch", sa.func.clock_timestamp())
        return connection.execute(sa.select(sa.cast(epoch * 1_000_000, sa.BigInteger))).scalar_one()


def _expire(connection: sa.Connection, me: str, before_us: int) -> None:
    # Rows that are locked belong to somebody who writes, and so lives.
    silent = (
        sa.select(owners.c.id)
        .where(owners.c.state == "live", owners.c.id != me, owners.c.heartbeat_us < before_us)
        .with_for_update(skip_locked=True)
    )
    expired = connection.execute(
        sa.update(owners)
        .where(owners.c.id.in_(silent))
        .values(state="expired")
        .returning(owners.c.id)
    )
    names = list(expired.scalars())
    if names:
        # In the order in which everybody locks leases.
        open_leases = (
            sa.select(leases.c.id)
            .where(leases.c.owner.in_(names), leases.c.state == "open")
            .order_by(leases.c.id)
            .with_for_update()
        )
        found = list(connection.execute(open_leases).scalars())
        connection.execute(sa.update(leases).where(leases.c.id.in_(found)).values(state="draining"))


def _write_off(connection: sa.Connection, lease: StoredLease, now_us: int) -> None:
    account_id = sa.select(leases.c.account_id).where(leases.c.id == lease.id).scalar_subquery()
    if lease.unspent_nanocredits:
        connection.execute(
            sa.insert(transfers).values(
                account_id=account_id,
                kind="lost",
                debit=f"lease:{lease.id}",
                credit="operator:lost",
                amount=lease.unspent_nanocredits,
                lease_id=lease.id,
                reason=f"owner {lease.owner} is lost",
                created_us=now_us,
            )
        )
    connection.execute(
        sa.update(leases)
        .where(leases.c.id == lease.id)
        .values(state="lost" if lease.unspent_nanocredits else "closed", closed_us=now_us)
    )


def _stored(row: sa.RowMapping) -> StoredLease:
    return StoredLease(
        id=row["id"],
        account=row["account"],
        owner=row["owner"],
        host=row["host"],
        owner_state=row["owner_state"],
        heartbeat_us=row["heartbeat_us"],
        state=row["state"],
        granted_nanocredits=row["granted"],
        spent_nanocredits=row["spent"],
        returned_nanocredits=row["returned"],
        opened_us=row["opened_us"],
        closed_us=row["closed_us"],
    )

"""Whose turn a chore is, where several hosts share a store: one does it, the others don't."""

from __future__ import annotations

import zlib
from collections.abc import Generator
from contextlib import contextmanager

import sqlalchemy as sa

from farebox.store.engine import StoreBase
from farebox.store.schema import facts

_LOCKS = 0x66_62  # the first half of an advisory lock's number: "fb"
_NOW_US = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger)


class Turns(StoreBase):
    """Chores that are done once for all hosts."""

    @contextmanager
    def turn(self, chore: str, every_s: float) -> Generator[bool]:
        """Whether this host is to do that chore now. A SQLite store has one host only.

        With PostgreSQL nobody else begins the chore while this is open, nor for the rest of
        `every_s` after it: by the database's clock, less a tenth, so that who did it last goes on.
        """
        if not self.is_postgresql:
            yield True
            return
        number = zlib.crc32(chore.encode()) & 0x7FFF_FFFF
        lock = {"a": _LOCKS, "b": number}
        with self._sentences(), self._connections.writing_rows.connect() as locked:
            # Held by the session, not by a transaction, which would keep old rows alive meanwhile.
            idle = locked.execution_options(isolation_level="AUTOCOMMIT")
            if not idle.execute(sa.text("SELECT pg_try_advisory_lock(:a, :b)"), lock).scalar():
                yield False
                return
            try:
                is_due = self._is_due(idle, chore, every_s)
                yield is_due
                if is_due:
                    self._note(idle, chore)
            finally:
                idle.execute(sa.text("SELECT pg_advisory_unlock(:a, :b)"), lock)

    def _is_due(self, connection: sa.Connection, chore: str, every_s: float) -> bool:
        last = connection.execute(
            sa.select(facts.c.value).where(facts.c.name == f"chore_{chore}_us")
        ).scalar()
        now_us = connection.execute(sa.select(_NOW_US)).scalar_one()
        return last is None or now_us - int(last) >= every_s * 900_000

    def _note(self, connection: sa.Connection, chore: str) -> None:
        name, value = f"chore_{chore}_us", sa.cast(_NOW_US, sa.Text)
        mine = sa.update(facts).where(facts.c.name == name).values(value=value)
        if not connection.execute(mine).rowcount:
            connection.execute(sa.insert(facts).values(name=name, value=value))

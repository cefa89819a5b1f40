"""Drops single calls at the end of their time. Sums by hour stay, and so does all money.

Only an hour that the audit sealed is dropped, as a whole: what stays of it was proved before.
"""

from __future__ import annotations

import sqlalchemy as sa

from farebox.store.engine import StoreBase
from farebox.store.reports import HOUR_US
from farebox.store.schema import sealed_hours, usage


class Retention(StoreBase):
    """What is kept of calls, and until when."""

    def hours_to_drop(self, before_us: int) -> list[int]:
        """Sealed hours that ended at or before that time and still have their calls, oldest
        first.
        """
        query = (
            sa.select(sealed_hours.c.hour_us)
            .where(
                sealed_hours.c.dropped_us.is_(None), sealed_hours.c.hour_us <= before_us - HOUR_US
            )
            .order_by(sealed_hours.c.hour_us)
        )
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def drop_hour(self, hour_us: int, now_us: int) -> int:
        """Drop the calls of a sealed hour in one transaction; how many there were. Of an hour whose
        seal was taken away meanwhile, none.
        """
        with self._writing() as connection:
            if self.is_postgresql:
                # Whoever adds a call to the hour takes its seal away, and waits here to do so.
                connection.execute(sa.text("LOCK TABLE sealed_hours IN SHARE ROW EXCLUSIVE MODE"))
            sealed = connection.execute(
                sa.update(sealed_hours)
                .where(sealed_hours.c.hour_us == hour_us, sealed_hours.c.dropped_us.is_(None))
                .values(dropped_us=now_us)
            ).rowcount
            if not sealed:
                return 0
            return connection.execute(
                sa.delete(usage).where(
                    usage.c.created_us >= hour_us, usage.c.created_us < hour_us + HOUR_US
                )
            ).rowcount

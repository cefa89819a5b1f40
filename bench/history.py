"""Fills a gateway's store with the rows of calls that were made long ago.

They are written straight into SQLite, after the pattern of a call that was really made: their ids
and times are spread over the last weeks, and they cost nothing, so that no account changes. The
sums by hour are written with them, so the audit finds the books in order and seals the hours.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from farebox.core.ids import new_request_id
from farebox.core.usage import CLASSES

_HOUR_US = 3_600_000_000
_DAYS = 60  # less than calls are kept for
_NOTHING = (*CLASSES, "due", "hold", "charge", "absorbed")


def fill(database: Path, calls: int) -> None:
    """Add so many calls. The gateway that owns the store is not running, and has served one."""
    with closing(sqlite3.connect(database)) as store:
        store.row_factory = sqlite3.Row
        pattern = dict(store.execute("SELECT * FROM usage LIMIT 1").fetchone())
        pattern |= dict.fromkeys(_NOTHING, 0) | {"lease_id": None}
        columns = ", ".join(pattern)
        places = ", ".join("?" * len(pattern))
        last_us = time.time_ns() // 1000 // _HOUR_US * _HOUR_US - 4 * _HOUR_US
        store.execute("PRAGMA synchronous = OFF")  # it is thrown away
        with store:
            store.executemany(
                f"INSERT INTO usage ({columns}) VALUES ({places})", _rows(pattern, calls, last_us)
            )
            store.execute(
                "INSERT INTO usage_hours (account_id, key_id, model, hour_us, calls, charge)"
                " SELECT account_id, key_id, model, created_us / :hour * :hour, count(*), 0"
                " FROM usage WHERE created_us < :last GROUP BY 1, 2, 3, 4",
                {"hour": _HOUR_US, "last": last_us},
            )


def _rows(pattern: dict[str, object], calls: int, last_us: int) -> Iterator[tuple[object, ...]]:
    first_us = last_us - _DAYS * 24 * _HOUR_US
    for i in range(calls):
        at_us = first_us + (last_us - first_us) * i // calls
        row = pattern | {
            "request_id": new_request_id(at_us),
            "created_us": at_us,
            "settled_us": at_us,
        }
        yield tuple(row.values())

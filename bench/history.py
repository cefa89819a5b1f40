"""Fills a gateway's store with the rows of calls that were made long ago.

They are written straight into SQLite, after the pattern of a call that was really made: their ids
and times are spread over the last weeks, and they cost nothing, so that no account changes. The
sums by hour are written with them, so the audit finds the books in order and seals the hours.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from farebox.core.ids import new_request_id
from farebox.core.usage import CLASSES

_HOUR_US = 3_600_000_000
_DAYS = 60  # less than calls are kept for
_NOTHING = (*CLASSES, "due", "hold", "charge", "absorbed")
_TIMES = ("created_us", "settled_us")


def fill(database: Path, calls: int) -> None:
    """Add so many calls. The gateway that owns the store is not running, and has served one."""
    with closing(sqlite3.connect(database)) as store:
        store.row_factory = sqlite3.Row
        pattern = dict(store.execute("SELECT * FROM usage LIMIT 1").fetchone())
        pattern |= dict.fromkeys(_NOTHING, 0) | {"lease_id": None}
        last_us = time.time_ns() // 1000 // _HOUR_US * _HOUR_US - 4 * _HOUR_US
        span = {"calls": calls, "first_us": last_us - _DAYS * 24 * _HOUR_US, "last_us": last_us}
        store.execute("PRAGMA synchronous = OFF")  # it is thrown away
        with store:
            # Python would take three times as long to make the rows.
            store.execute(_calls([*pattern], new_request_id(0)), pattern | span)
            store.execute(_HOURS, {"hour_us": _HOUR_US, "last_us": last_us})


def _calls(columns: list[str], like: str) -> str:
    """The statement that writes the calls; ids are as long as `like`, and in order of time."""
    prefix = like[: like.index("_") + 1]
    values = {name: f":{name}" for name in columns} | dict.fromkeys(_TIMES, "at_us")
    values["request_id"] = f"'{prefix}' || printf('%0{len(like) - len(prefix)}d', i)"
    return f"""
        WITH RECURSIVE numbers (i) AS (
            SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < :calls
        ),
        moments AS (
            SELECT i, :first_us + (:last_us - :first_us) / :calls * i AS at_us FROM numbers
        )
        INSERT INTO usage ({", ".join(values)}) SELECT {", ".join(values.values())} FROM moments
    """


_HOURS = """
    INSERT INTO usage_hours (account_id, key_id, model, hour_us, calls, charge)
    SELECT account_id, key_id, model, created_us / :hour_us * :hour_us, count(*), 0
    FROM usage WHERE created_us < :last_us GROUP BY 1, 2, 3, 4
"""

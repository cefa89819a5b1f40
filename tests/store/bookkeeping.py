"""What the store's tests share: calls with defaults, and the books' invariants as plain SQL."""

import sqlite3
from contextlib import closing
from pathlib import Path

from farebox.core.call import Attempt
from farebox.core.ports import HoldRequest, Settlement
from farebox.core.usage import CLASSES, Usage
from tests import settlements

HOUR_US = 3_600_000_000

_TOKENS = ", ".join(CLASSES)
_TOKEN_SUMS = ", ".join(f"sum({name}) AS {name}" for name in CLASSES)
_BY_HOUR = f"""
    SELECT account_id, key_id, model, created_us / {HOUR_US} * {HOUR_US} AS hour_us,
    count(*) AS calls, {_TOKEN_SUMS}, sum(charge) AS charge
    FROM usage GROUP BY account_id, key_id, model, hour_us
"""
_ROLL_UPS = f"SELECT account_id, key_id, model, hour_us, calls, {_TOKENS}, charge FROM usage_hours"
_MOVED = "SELECT coalesce(sum(amount), 0) FROM transfers WHERE account_id = a.id AND kind ="

# Each query must find nothing.
INVARIANTS = {
    "I1: what was credited is available, held or spent": f"""
        SELECT a.* FROM accounts a WHERE credited <> available + held + spent
        OR credited <> ({_MOVED} 'top_up') - ({_MOVED} 'debit')
        OR held <> (SELECT coalesce(sum(amount), 0) FROM holds WHERE account_id = a.id)
        OR spent <> (SELECT coalesce(sum(charge), 0) FROM usage WHERE account_id = a.id)
    """,
    "I2: no account is below its floor": """
        SELECT * FROM accounts WHERE available < -credit_limit
    """,
    "I4: one usage row a request, and no hold beside it": """
        SELECT request_id FROM (SELECT request_id FROM usage UNION ALL SELECT request_id FROM holds)
        GROUP BY request_id HAVING count(*) > 1
    """,
    "I5: roll-ups are the sums of the rows": f"""
        SELECT * FROM ({_BY_HOUR} EXCEPT {_ROLL_UPS})
        UNION ALL SELECT * FROM ({_ROLL_UPS} EXCEPT {_BY_HOUR})
    """,
    "I6: charges are charge transfers": f"""
        SELECT a.* FROM accounts a WHERE spent <> ({_MOVED} 'charge')
        OR (SELECT coalesce(sum(absorbed), 0) FROM usage WHERE account_id = a.id)
        <> ({_MOVED} 'absorbed')
    """,
}


def broken_invariants(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """The invariants that the file breaks, with the rows that show it; read without the store."""
    with closing(sqlite3.connect(path)) as database:
        found = {name: database.execute(query).fetchall() for name, query in INVARIANTS.items()}
    return {name: rows for name, rows in found.items() if rows}


def hold_request(
    request_id: str = "req_1", account_id: int = 1, least: int = 1, most: int = 1000
) -> HoldRequest:
    """A request to hold, all of its parts chosen."""
    return HoldRequest(request_id, account_id, "key_1", least, most)


def settlement(
    request_id: str = "req_1", account_id: int = 1, due: int = 0, hold: int = 0, **more: object
) -> Settlement:
    """A settlement with a little of everything in it."""
    parts: dict[str, object] = {
        "request_id": request_id,
        "account_id": account_id,
        "rate_ppm": 800_000,
        "usage": Usage(uncached_input=10, cache_read=4, output=5),
        "due_nanocredits": due,
        "hold_nanocredits": hold,
        "service_tier": "flex",
        "tool_calls": (("web_search", 2),),
        "flags": ("estimated",),
        "attempts": (
            Attempt(1, "first", 500, "status_500", 12, None),
            Attempt(2, "main", 200, None, 340, 55),
        ),
        "ms": 352,
        "ttft_ms": 55,
    }
    return settlements.settlement(**(parts | more))

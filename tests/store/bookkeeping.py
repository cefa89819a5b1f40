"""What the store's tests share: calls to be written, and what must be true of the books after each
batch, as plain SQL on either engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from farebox.billing.entry import Entry, entry_of
from farebox.billing.jobs import Grant, Granted, Post
from farebox.core.call import Attempt
from farebox.core.usage import CLASSES, Usage
from farebox.store import Store
from farebox.store.books import OwnedBooks
from farebox.store.engine import connections_to
from tests import settlements

HOUR_US = 3_600_000_000

_SUMS = ("calls", *CLASSES, "charge", "absorbed")
_BY_HOUR = ", ".join(
    "count(*) AS calls" if name == "calls" else f"sum({name}) AS {name}" for name in _SUMS
)
_RAW = f"""
    SELECT account_id, key_id, model, created_us / {HOUR_US} * {HOUR_US} AS hour_us, {_BY_HOUR}
    FROM usage GROUP BY account_id, key_id, model, created_us / {HOUR_US} * {HOUR_US}
"""
_ROLLED = f"SELECT account_id, key_id, model, hour_us, {', '.join(_SUMS)} FROM usage_hours"
_LEASED = f"""
    SELECT lease_id, created_us / {HOUR_US} * {HOUR_US} AS hour_us, count(*) AS calls,
        sum(charge) AS charge
    FROM usage WHERE lease_id IS NOT NULL
    GROUP BY lease_id, created_us / {HOUR_US} * {HOUR_US}
"""
_LEASE_HOURS = "SELECT lease_id, hour_us, calls, charge FROM lease_hours"


def _moved(where: str, kind: str) -> str:
    return f"(SELECT coalesce(sum(amount), 0) FROM transfers WHERE {where} AND kind = '{kind}')"


_OF_ACCOUNT = "account_id = a.id"
_OF_LEASE = "lease_id = l.id"
_CHARGED = "(SELECT coalesce(sum(charge), 0) FROM usage WHERE account_id = a.id)"
_ABSORBED = "(SELECT coalesce(sum(absorbed), 0) FROM usage WHERE account_id = a.id)"
_UNSPENT = """
    (SELECT coalesce(sum(granted - spent - returned), 0) FROM leases
     WHERE account_id = a.id AND state IN ('open', 'draining'))
"""

# Each query must find nothing.
INVARIANTS = {
    "I1: what was credited is available, leased, charged or lost": f"""
        SELECT a.name, credited, available FROM accounts a
        WHERE credited <> available + {_UNSPENT} + {_CHARGED} + {_moved(_OF_ACCOUNT, "lost")}
        OR credited <> {_moved(_OF_ACCOUNT, "top_up")} - {_moved(_OF_ACCOUNT, "debit")}
        OR available <> credited - {_moved(_OF_ACCOUNT, "lease_grant")}
            + {_moved(_OF_ACCOUNT, "lease_return")}
    """,
    "I2: no account is below its floor": """
        SELECT name, available FROM accounts WHERE available < -credit_limit
    """,
    "I3: leases are what calls and transfers say": f"""
        SELECT l.id, l.state FROM leases l
        WHERE spent <> (SELECT coalesce(sum(charge), 0) FROM usage WHERE lease_id = l.id)
        OR spent <> {_moved(_OF_LEASE, "charge")} OR granted <> {_moved(_OF_LEASE, "lease_grant")}
        OR returned <> {_moved(_OF_LEASE, "lease_return")} OR spent + returned > granted
        OR (state = 'closed' AND (spent + returned <> granted OR closed_us IS NULL))
        OR (state = 'draining' AND spent + returned = granted)
    """,
    "I3: lease hours are the sums of the rows": f"""
        SELECT * FROM ({_LEASED} EXCEPT {_LEASE_HOURS}) AS one
        UNION ALL SELECT * FROM ({_LEASE_HOURS} EXCEPT {_LEASED}) AS other
    """,
    "I5: roll-ups are the sums of the rows": f"""
        SELECT * FROM ({_RAW} EXCEPT {_ROLLED}) AS one
        UNION ALL SELECT * FROM ({_ROLLED} EXCEPT {_RAW}) AS other
    """,
    "I6: charges are charge transfers": f"""
        SELECT a.name FROM accounts a
        WHERE {_CHARGED} <> {_moved(_OF_ACCOUNT, "charge")}
        OR {_ABSORBED} <> {_moved(_OF_ACCOUNT, "absorbed")}
        OR (SELECT coalesce(sum(calls), 0) FROM transfers
            WHERE account_id = a.id AND kind = 'charge')
        <> (SELECT count(*) FROM usage WHERE account_id = a.id AND charge > 0)
    """,
}


def read_all(store: Store, statements: Sequence[str]) -> list[list[tuple[Any, ...]]]:
    """What queries find in one snapshot, read beside the store."""
    url = store.shown if store.is_postgresql else f"sqlite:///{store.path}"
    connections = connections_to(url, Path())
    with connections.reading.begin() as connection:
        found = [
            [tuple(row) for row in connection.execute(sa.text(statement))]
            for statement in statements
        ]
    connections.close()
    return found


def read(store: Store, statement: str) -> list[tuple[Any, ...]]:
    """What one query finds."""
    return read_all(store, [statement])[0]


def write(store: Store, statement: str) -> None:
    """Change something past the store, as only time or a defect would."""
    store.drive(lambda tables: tables.execute(statement), 1000)


def silence(store: Store, owner: str) -> None:
    """This owner's last heartbeat was long ago."""
    write(store, f"UPDATE owners SET heartbeat_us = 1 WHERE id = '{owner}'")


def broken_invariants(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """The invariants that the books break, with the rows that show it."""
    found = read_all(store, list(INVARIANTS.values()))
    return {name: rows for name, rows in zip(INVARIANTS, found, strict=True) if rows}


def entry(request_id: str = "req_1", account_id: int = 1, due: int = 0, **more: object) -> Entry:
    """A call with a little of everything in it."""
    parts: dict[str, object] = {
        "request_id": request_id,
        "account_id": account_id,
        "rate_ppm": 800_000,
        "usage": Usage(uncached_input=10, cache_read=4, output=5),
        "due_nanocredits": due,
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
    return entry_of(settlements.settlement(**(parts | more)))


def post(
    request_id: str, lease_id: int | None, charge: int, account_id: int = 1, **more: object
) -> Post:
    """A call to be charged to a lease, all of it."""
    return Post(entry(request_id, account_id, charge, **more), lease_id, charge, 0)


def granted(books: OwnedBooks, amount: int, account_id: int = 1) -> int:
    """A new lease of exactly so much."""
    (outcome,) = books.do([Grant(account_id, None, amount, amount, amount, 1)])
    assert isinstance(outcome, Granted)
    assert outcome.amount == amount
    assert outcome.lease_id is not None
    return outcome.lease_id

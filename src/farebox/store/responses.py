"""Responses that are kept for later calls: whole ones, chains of them, their items and events.

What is in an item, an event or a body is not known here; what a call costs is calls.py's. Another
account's response is exactly like one that is not there. The statements are plain SQL that SQLite
and PostgreSQL both know; all methods are synchronous, for threads, and raise StoreError.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from time import sleep
from typing import Any

import sqlalchemy as sa

from farebox.core import clock
from farebox.core.kept import MAX_CHAIN_LINKS, ChainTooLong, KeptItem, KeptResponse
from farebox.core.settings import MIB
from farebox.store.connections import Driver, both
from farebox.store.engine import StoreBase
from farebox.store.packing import packed, unpacked

RUNNING = ("queued", "in_progress")
MAX_REFERENCES = 10_000  # items that one call may name: every item of a very long conversation
MAX_REFERENCED_BYTES = 64 * MIB  # as much as one body may bring

DELETED_US = 0  # `expires_us` of what was deleted while it ran: its content may not come back

# Calls that settle wait for the same lock: hold it this long, then leave it to others that long.
_DROPPING_S = 0.02
_PAUSE_S = 0.05

IS_RUNNING = "status IN ('queued', 'in_progress')"
THIS = "id = :id AND account_id = :account_id"
_COLUMNS = (
    "id, account_id, created_us, expires_us, status, background, previous_id, owner,"
    " cancel_requested"
)
_LOCKED = " FOR UPDATE"  # for one that keeps and one that deletes at the same moment
_KNOWN = both(
    "SELECT account_id, expires_us, cancel_requested FROM responses WHERE id = :id", _LOCKED
)
_KEEP = both(f"""
    INSERT INTO responses ({_COLUMNS}, items_bytes, body)
    VALUES (:id, :account_id, :created_us, :expires_us, :status, :background, :previous_id, :owner,
        :cancel_requested, :items_bytes, :body)
    ON CONFLICT (id) DO UPDATE SET created_us = excluded.created_us,
        expires_us = excluded.expires_us, status = excluded.status,
        background = excluded.background, previous_id = excluded.previous_id,
        owner = excluded.owner, cancel_requested = excluded.cancel_requested,
        items_bytes = excluded.items_bytes, body = excluded.body
""")
_KEEP_ITEM = both("""
    INSERT INTO response_items (response_id, side, position, item_id, account_id, data)
    VALUES (:response_id, :side, :position, :item_id, :account_id, :data)
""")
_FIND = sa.text(f"SELECT {_COLUMNS}, body FROM responses WHERE {THIS} AND expires_us > :now_us")
_ITEMS_OF = sa.text(
    "SELECT response_id, side, position, item_id, data FROM response_items WHERE response_id = :id"
)
# What is written again after an unclear failure stays as it is.
APPEND = both("""
    INSERT INTO response_events (response_id, sequence, data) VALUES (:id, :sequence, :data)
    ON CONFLICT (response_id, sequence) DO NOTHING
""")
# From the response that is asked for back to the first one, no further than is allowed.
_CHAIN = f"""
    WITH RECURSIVE chain (id, previous_id, depth, total_bytes) AS (
        SELECT id, previous_id, 1, items_bytes FROM responses
        WHERE {THIS} AND expires_us > :now_us
        UNION ALL
        SELECT r.id, r.previous_id, c.depth + 1, c.total_bytes + r.items_bytes
        FROM chain c JOIN responses r ON r.id = c.previous_id
        WHERE r.account_id = :account_id AND r.expires_us > :now_us
            AND c.depth <= :max_links AND c.total_bytes <= :max_bytes
    )
"""
_LINKS = sa.text(f"""
    {_CHAIN} SELECT r.id, r.account_id, r.created_us, r.expires_us, r.status, r.background,
        r.previous_id, r.owner, r.cancel_requested, chain.total_bytes
    FROM chain JOIN responses r ON r.id = chain.id ORDER BY chain.depth
""")
_ITEMS_OF_LINKS = sa.text(f"""
    {_CHAIN} SELECT i.response_id, i.side, i.position, i.item_id, i.data
    FROM chain JOIN response_items i ON i.response_id = chain.id
""")
_ITEM = sa.text("""
    SELECT i.data FROM response_items i JOIN responses r ON r.id = i.response_id
    WHERE i.account_id = :account_id AND i.item_id = :item_id AND r.expires_us > :now_us
    ORDER BY i.id DESC LIMIT 1
""")
_STATUS = both(f"SELECT status FROM responses WHERE {THIS} AND expires_us > :now_us", _LOCKED)
_DELETE = both("DELETE FROM responses WHERE id = :id")  # its items and events go with it
_DELETE_ITEMS = both("DELETE FROM response_items WHERE response_id = :id")
_DELETE_EVENTS = both("DELETE FROM response_events WHERE response_id = :id")
_BURY = both(f"""
    UPDATE responses SET expires_us = {DELETED_US}, cancel_requested = 1, items_bytes = 0,
        body = :nothing
    WHERE id = :id
""")
_DROP_ONE = both(f"""
    DELETE FROM responses WHERE id IN (
        SELECT id FROM responses WHERE expires_us <= :now_us AND NOT {IS_RUNNING}
        ORDER BY expires_us LIMIT 1
    )
""")


class Responses(StoreBase):
    """What the store does for responses."""

    def keep_response(
        self, response: KeptResponse, events: Sequence[tuple[int, bytes]] = ()
    ) -> None:
        """Keep a response, in place of what is kept under its id. Events that it has stay, and
        these are added to them in the same moment: (sequence number, data).

        One that was deleted meanwhile stays deleted, and a cancel that was requested requested.
        """
        assert response.expires_us > DELETED_US
        names = _row(response)
        items, rows = _item_rows(response), event_rows(response.id, events)
        engine = self.is_postgresql
        with self._wiping() as driver:
            known = driver.execute(_KNOWN[engine], names).fetchone()
            if known is not None:
                account_id, expires_us, cancel_requested = known
                assert account_id == response.account_id, f"{response.id} is another account's"
                if expires_us == DELETED_US:
                    if response.status not in RUNNING:
                        driver.execute(_DELETE[engine], names)
                    return
                names["cancel_requested"] |= cancel_requested
                driver.execute(_DELETE_ITEMS[engine], names)
            driver.execute(_KEEP[engine], names)
            if items:
                driver.cursor().executemany(_KEEP_ITEM[engine], items)
            if rows:
                driver.cursor().executemany(APPEND[engine], rows)

    def find_response(self, response_id: str, account_id: int, now_us: int) -> KeptResponse | None:
        """The response of that id; None if it is unknown, expired, deleted or another's."""
        names = {"id": plain(response_id), "account_id": account_id, "now_us": now_us}
        with self._reading() as connection:
            row = connection.execute(_FIND, names).mappings().first()
            if row is None:
                return None
            items = connection.execute(_ITEMS_OF, names).mappings().all()
        return _kept([row], items)[0]

    def response_chain(
        self, response_id: str, account_id: int, now_us: int, max_bytes: int
    ) -> tuple[KeptResponse, ...]:
        """The response and those that it goes back to, oldest first, each with `body` left empty:
        what the next call needs of them is their items.

        Raises LookupError with the id that is not there (unknown, expired, deleted or another's),
        and ChainTooLong for items of more than `max_bytes` in all, or over MAX_CHAIN_LINKS links.
        """
        names = {
            "id": plain(response_id),
            "account_id": account_id,
            "now_us": now_us,
            "max_bytes": max_bytes,
            "max_links": MAX_CHAIN_LINKS,
        }
        with self._reading() as connection:
            rows = connection.execute(_LINKS, names).mappings().all()
            if not rows:
                raise LookupError(response_id)
            first = rows[-1]
            if len(rows) > MAX_CHAIN_LINKS:
                raise ChainTooLong(
                    f"'{response_id}' goes back over more than {MAX_CHAIN_LINKS} responses. Send "
                    "what is still needed of the conversation as input, and no previous response."
                )
            if first["total_bytes"] > max_bytes:
                raise ChainTooLong(
                    f"The conversation up to '{response_id}' is larger than {max_bytes} bytes. "
                    "Send what is still needed of it as input, and no previous response."
                )
            if first["previous_id"] is not None:
                raise LookupError(first["previous_id"])
            items = connection.execute(_ITEMS_OF_LINKS, names).mappings().all()
        return tuple(reversed(_kept(rows, items)))

    def find_items(
        self,
        item_ids: Sequence[str],
        account_id: int,
        now_us: int,
        max_bytes: int = MAX_REFERENCED_BYTES,
    ) -> dict[str, KeptItem]:
        """Items by their ids, of inputs and outputs; ids that are not there are left out.

        An id that is there twice gives what was kept last. Raises ChainTooLong for items of more
        than `max_bytes` in all, or over MAX_REFERENCES ids.
        """
        wanted = dict.fromkeys(item_ids)
        if len(wanted) > MAX_REFERENCES:
            raise ChainTooLong(
                f"{len(wanted)} items are referenced; a call may reference {MAX_REFERENCES}. Use "
                "previous_response_id."
            )
        found: dict[str, KeptItem] = {}
        left_bytes = max_bytes
        with self._reading() as connection:
            for item_id in wanted:
                names = {"item_id": plain(item_id), "account_id": account_id, "now_us": now_us}
                data = connection.execute(_ITEM, names).scalar()
                if data is None:
                    continue
                found[item_id] = KeptItem(item_id, unpacked(data))
                left_bytes -= len(found[item_id].data)
                if left_bytes < 0:
                    raise ChainTooLong(
                        f"The items that are referenced are larger than {max_bytes} bytes. "
                        "Reference fewer of them."
                    )
        return found

    def delete_response(self, response_id: str, account_id: int, now_us: int) -> bool:
        """Delete a response with all of its content; whether it was there.

        Of one that still runs an empty row stays until it ends, by which its owner learns that it
        is to be cancelled.
        """
        names = {"id": plain(response_id), "account_id": account_id, "now_us": now_us}
        engine = self.is_postgresql
        with self._wiping() as driver:
            found = driver.execute(_STATUS[engine], names).fetchone()
            if found is None:
                return False
            if found[0] not in RUNNING:
                driver.execute(_DELETE[engine], names)
                return True
            driver.execute(_DELETE_ITEMS[engine], names)
            driver.execute(_DELETE_EVENTS[engine], names)
            driver.execute(_BURY[engine], names | {"nothing": b""})
        return True

    def drop_expired_responses(self, now_us: int, limit: int = 1000) -> int:
        """Delete up to `limit` responses that have expired and don't run; how many there were.

        Done in short transactions with pauses, so that calls that settle get their turn. After it
        no file has anything of what was deleted so far, unless somebody was reading all the time.
        """
        dropped = 0
        while dropped < limit:
            if dropped:
                sleep(_PAUSE_S)
            more = self._drop_some(now_us, limit - dropped)
            dropped += more
            if not more:
                break
        self._empty_log()
        return dropped

    def _empty_log(self) -> None:
        with self._sentences():
            self._connections.empty_log()

    @contextmanager
    def _wiping(self) -> Generator[Driver]:
        """A transaction that leaves nothing of what it replaces or deletes."""
        with self._driving() as driver:
            self._connections.wipe(driver)
            yield driver

    def _drop_some(self, now_us: int, limit: int) -> int:
        dropped = 0
        engine = self.is_postgresql
        with self._wiping() as driver:
            end_s = clock.monotonic_s() + _DROPPING_S
            while dropped < limit and clock.monotonic_s() < end_s:
                if not driver.execute(_DROP_ONE[engine], {"now_us": now_us}).rowcount:
                    break
                dropped += 1
        return dropped


def event_rows(response_id: str, events: Sequence[tuple[int, bytes]]) -> list[dict[str, Any]]:
    """What APPEND takes of (sequence number, data) of a stream. To be made before a transaction
    begins: the ledger waits for those of SQLite, and to pack 16 MB takes 0.2 s.
    """
    return [
        {"id": plain(response_id), "sequence": number, "data": packed(data)}
        for number, data in events
    ]


def plain(text: str) -> str:
    """An id that a client made up, without the zero bytes that PostgreSQL has no place for."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}")


def _row(response: KeptResponse) -> dict[str, Any]:
    return {
        "id": response.id,
        "account_id": response.account_id,
        "created_us": response.created_us,
        "expires_us": response.expires_us,
        "status": response.status,
        "background": int(response.background),
        "previous_id": response.previous_id and plain(response.previous_id),
        "owner": response.owner,
        "cancel_requested": int(response.cancel_requested),
        "items_bytes": sum(len(item.data) for item in (*response.input, *response.output)),
        "body": packed(response.body),
    }


def _item_rows(response: KeptResponse) -> list[dict[str, Any]]:
    return [
        {
            "response_id": response.id,
            "side": side,
            "position": position,
            "item_id": plain(item.id),
            "account_id": response.account_id,
            "data": packed(item.data),
        }
        for side, items in (("input", response.input), ("output", response.output))
        for position, item in enumerate(items)
    ]


def _kept(rows: Sequence[sa.RowMapping], items: Sequence[sa.RowMapping]) -> list[KeptResponse]:
    """The responses of these rows, in their order."""
    sides: dict[tuple[str, str], list[KeptItem]] = {}
    # Sorted here: SQLite would write what it sorts to a temporary file when that is much.
    for item in sorted(items, key=lambda item: item["position"]):
        kept = KeptItem(item["item_id"], unpacked(item["data"]))
        sides.setdefault((item["response_id"], item["side"]), []).append(kept)
    return [
        KeptResponse(
            id=row["id"],
            account_id=row["account_id"],
            created_us=row["created_us"],
            expires_us=row["expires_us"],
            status=row["status"],
            background=bool(row["background"]),
            previous_id=row["previous_id"],
            input=tuple(sides.get((row["id"], "input"), ())),
            output=tuple(sides.get((row["id"], "output"), ())),
            body=unpacked(row.get("body", b"")),
            owner=row["owner"],
            cancel_requested=bool(row["cancel_requested"]),
        )
        for row in rows
    ]

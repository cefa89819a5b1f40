"""Responses while they run: their events as they come, cancelling, and owners that have ended.

Everything else that is done with a response is responses.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from farebox.core.kept import KeptResponse
from farebox.store.connections import both
from farebox.store.packing import packed, unpacked
from farebox.store.responses import (
    APPEND,
    DELETED_US,
    IS_RUNNING,
    RUNNING,
    THIS,
    Responses,
    event_rows,
    plain,
)

_GO_ON = both(f"""
    UPDATE responses SET status = :status, body = coalesce(:body, body),
        owner = CASE WHEN :is_running = 1 THEN owner ELSE '' END
    WHERE {THIS} AND expires_us <> {DELETED_US} RETURNING cancel_requested
""")
_DELETE_BURIED = both(f"DELETE FROM responses WHERE {THIS} AND expires_us = {DELETED_US}")
_EVENTS_AFTER = sa.text("""
    SELECT e.sequence, e.data FROM response_events e JOIN responses r ON r.id = e.response_id
    WHERE r.id = :id AND r.account_id = :account_id AND e.sequence > :sequence
    ORDER BY e.sequence LIMIT :limit
""")
_CANCEL = sa.text(f"""
    UPDATE responses SET cancel_requested = 1
    WHERE {THIS} AND expires_us > :now_us AND background = 1 AND {IS_RUNNING}
""")
_CANCEL_REQUESTED = sa.text("SELECT cancel_requested FROM responses WHERE id = :id")
_FAIL_OWNER = sa.text(f"""
    UPDATE responses SET status = 'failed', owner = '' WHERE {IS_RUNNING} AND owner = :owner
""")
_FAIL_ALL = sa.text(f"UPDATE responses SET status = 'failed', owner = '' WHERE {IS_RUNNING}")
# An owner's name ends with the host's, see supervisor.py.
_FAIL_HOST = sa.text(f"""
    UPDATE responses SET status = 'failed', owner = ''
    WHERE {IS_RUNNING} AND split_part(owner, '@', 2) = :host
""")
_FAIL_LOST = sa.text(f"""
    UPDATE responses SET status = 'failed', owner = ''
    WHERE {IS_RUNNING} AND split_part(owner, '@', 2) IN
        (SELECT id FROM owners WHERE state <> 'live')
""")


class Background(Responses):
    """What the store does for responses that run, with all that it does for others."""

    def append_events(
        self,
        response_id: str,
        account_id: int,
        events: Sequence[tuple[int, bytes]],
        status: str,
        body: bytes | None = None,
    ) -> bool:
        """Add (sequence number, data) of a stream, with the status and perhaps the body that the
        response has now; whether it is to be cancelled, as one that was deleted is.
        """
        names: dict[str, Any] = {
            "id": plain(response_id),
            "account_id": account_id,
            "status": status,
            "is_running": int(status in RUNNING),
            "body": None if body is None else packed(body),
        }
        rows = event_rows(response_id, events)
        engine = self.is_postgresql
        with self._wiping() as driver:
            updated = driver.execute(_GO_ON[engine], names).fetchall()
            if not updated:
                if status not in RUNNING:
                    driver.execute(_DELETE_BURIED[engine], names)
                return True
            if rows:
                driver.cursor().executemany(APPEND[engine], rows)
        return bool(updated[0][0])

    def events_after(
        self, response_id: str, account_id: int, sequence: int, limit: int
    ) -> tuple[tuple[int, bytes], ...]:
        """Up to `limit` events with a sequence number above that one, in order."""
        names = {
            "id": plain(response_id),
            "account_id": account_id,
            "sequence": sequence,
            "limit": limit,
        }
        with self._reading() as connection:
            rows = connection.execute(_EVENTS_AFTER, names).all()
        return tuple((number, unpacked(data)) for number, data in rows)

    def request_cancel(self, response_id: str, account_id: int, now_us: int) -> KeptResponse | None:
        """Ask the owner of a background response that runs to end it; the response as it is now.

        Of one that has ended, or is no background response, nothing changes.
        """
        names = {"id": plain(response_id), "account_id": account_id, "now_us": now_us}
        with self._writing_rows() as connection:
            connection.execute(_CANCEL, names)
        return self.find_response(response_id, account_id, now_us)

    def cancel_requested(self, response_id: str) -> bool:
        """Whether its owner is to end it: a cancel was requested, or it was deleted."""
        with self._reading() as connection:
            requested = connection.execute(_CANCEL_REQUESTED, {"id": plain(response_id)}).scalar()
        return requested is None or bool(requested)

    def fail_orphans(self, owner: str) -> int:
        """Responses that a process ran when it ended have failed; how many. Bodies stay as they
        were.
        """
        with self._writing_rows() as connection:
            return connection.execute(_FAIL_OWNER, {"owner": owner}).rowcount

    def fail_all_orphans(self, host: str) -> int:
        """The same for all that run: for a start, before there is any process to run them.

        With PostgreSQL those of that host only: others may be serving.
        """
        with self._writing_rows() as connection:
            if self.is_postgresql:
                return connection.execute(_FAIL_HOST, {"host": host}).rowcount
            return connection.execute(_FAIL_ALL).rowcount

    def drop_expired_responses(self, now_us: int, limit: int = 1000) -> int:
        """See Responses. Those that a host ran which is not heard of any more have failed."""
        if self.is_postgresql:
            with self._writing_rows() as connection:
                connection.execute(_FAIL_LOST)
        return super().drop_expired_responses(now_us, limit)

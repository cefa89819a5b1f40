"""How hosts that share a PostgreSQL store ask each other to give back what nobody needs of an
account, before a call is refused for want of it.

By NOTIFY, over a connection of its own. It is a courtesy: whoever asks goes on after RECALL_S
whatever was answered, and credit moves by the ledgers' own batches alone.
"""

from __future__ import annotations

import json
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from farebox.core import clock, ids
from farebox.store.leases import LIVE_US
from farebox.store.postgresql import connect, detached
from farebox.store.urls import parse_url

RECALL_S = 0.5  # for the others to answer
_RETRY_S = 0.5  # while the database is away
_RECALL, _RECALLED = "farebox_recall", "farebox_recalled"

_LISTEN = (f"LISTEN {_RECALL}", f"LISTEN {_RECALLED}")
_NOTIFY = "SELECT pg_notify(%s, %s)"
# Who lives, and has something of it that is not spent. Who is silent is not waited for.
_HOLDERS = """
    SELECT DISTINCT l.owner FROM leases l JOIN owners o ON o.id = l.owner
    WHERE l.account_id = %s AND l.owner <> %s AND l.state IN ('open', 'draining')
        AND l.granted > l.spent + l.returned AND o.state = 'live'
        AND o.heartbeat_us > extract(epoch FROM clock_timestamp()) * 1000000 - %s
"""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Asked:
    """A recall that is being waited for."""

    account_id: int
    owners: set[str]
    until_s: float


class Recalls:
    """See the module: one host's side. To be started, and closed.

    `on_recall(account_id, token)`: another host asks; say answer(token) once what nobody needs is
    given back. `on_answered(account_id)`: what ask() asked for has been, as far as it goes. Both
    are called in a thread of this, or in ask(), and must not block.
    """

    def __init__(
        self,
        database_url: str,
        owner: str,
        on_recall: Callable[[int, str], None],
        on_answered: Callable[[int], None],
    ) -> None:
        self._url = parse_url(database_url)
        self._owner = owner
        self._on_recall = on_recall
        self._on_answered = on_answered
        self._orders: deque[tuple[Callable[[psycopg.Connection[Any], Any], None], Any]] = deque()
        self._asked: dict[str, _Asked] = {}
        self._lock = threading.Lock()
        self._is_connected = False
        self._is_closing = False
        self._ready = threading.Event()
        self._wakes, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="recalls", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """End; nobody who asked is answered any more."""
        self._is_closing = True
        self._wake()
        self._thread.join()
        self._wakes.close()
        self._waker.close()

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until it listens for the first time; whether it does."""
        return self._ready.wait(timeout_s)

    def ask(self, account_id: int) -> None:
        """Ask all living hosts to give back what they can of an account."""
        with self._lock:
            if self._is_connected:
                self._orders.append((self._do_ask, account_id))
                self._wake()
                return
        # Nobody can give anything back now.
        self._on_answered(account_id)

    def answer(self, token: str) -> None:
        """What could be given back for that recall has been."""
        with self._lock:
            if self._is_connected:  # else whoever asked has waited long enough
                self._orders.append((self._do_answer, token))
                self._wake()

    # The thread.

    def _run(self) -> None:
        engine = connect(self._url)
        while not self._is_closing:
            try:
                with closing(detached(engine)) as connection:
                    self._serve(connection)
            except (psycopg.Error, OSError) as error:
                _log.warning("recalls_away", error=str(error))
                self._wait((), _RETRY_S)
        engine.dispose()

    def _serve(self, connection: psycopg.Connection[Any]) -> None:
        for statement in _LISTEN:
            connection.execute(statement)
        with self._lock:
            self._is_connected = True
        self._ready.set()
        try:
            while not self._is_closing:
                while self._orders:
                    act, value = self._orders.popleft()
                    act(connection, value)
                for heard in connection.notifies(timeout=0):
                    self._hear(heard.channel, heard.payload)
                now_s = clock.monotonic_s()
                self._end([key for key, each in self._asked.items() if each.until_s <= now_s])
                until_s = min((each.until_s for each in self._asked.values()), default=None)
                patience_s = None if until_s is None else max(0.0, until_s - now_s)
                if not self._orders:
                    self._wait((connection,), patience_s)
        finally:
            with self._lock:
                self._is_connected = False
                orders = tuple(self._orders)
                self._orders.clear()
            self._end(list(self._asked))
            for act, value in orders:
                if act == self._do_ask:
                    self._on_answered(value)

    def _do_ask(self, connection: psycopg.Connection[Any], account_id: int) -> None:
        key = ids.new_id("ask")
        self._asked[key] = _Asked(account_id, set(), clock.monotonic_s() + RECALL_S)
        owners = self._asked[key].owners
        owners |= _holders(connection, account_id, self._owner)
        if owners:
            _notify(connection, _RECALL, account=account_id, ask=key, by=self._owner)
        else:
            self._end([key])

    def _do_answer(self, connection: psycopg.Connection[Any], token: str) -> None:
        _notify(connection, _RECALLED, ask=token, by=self._owner)

    def _hear(self, channel: str, payload: str) -> None:
        said = json.loads(payload)
        if channel == _RECALL and said["by"] != self._owner:
            self._on_recall(said["account"], said["ask"])
        elif channel == _RECALLED and said["ask"] in self._asked:
            asked = self._asked[said["ask"]]
            asked.owners.discard(said["by"])
            if not asked.owners:
                self._end([said["ask"]])

    def _end(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._on_answered(self._asked.pop(key).account_id)

    def _wait(self, connections: Iterable[Any], patience_s: float | None) -> None:
        readable, _, _ = select.select([self._wakes, *connections], (), (), patience_s)
        if self._wakes in readable:
            self._wakes.recv(4096)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # then it has been woken already
            self._waker.send(b"!")


def recall_now(database_url: str, account_id: int, timeout_s: float) -> bool:
    """Ask all hosts to give back what they can of an account, as an operator wants it; whether all
    of them did within that time. Raises psycopg.Error.
    """
    engine = connect(parse_url(database_url))
    deadline_s = clock.monotonic_s() + timeout_s
    with closing(detached(engine)) as connection:
        engine.dispose()
        connection.execute(_LISTEN[1])
        owners = _holders(connection, account_id, "")
        key = ids.new_id("ask")
        if owners:
            _notify(connection, _RECALL, account=account_id, ask=key, by="")
        while owners and (left_s := deadline_s - clock.monotonic_s()) > 0:
            for heard in connection.notifies(timeout=left_s, stop_after=1):
                said = json.loads(heard.payload)
                if said["ask"] == key:
                    owners.discard(said["by"])
    return not owners


def _holders(connection: psycopg.Connection[Any], account_id: int, me: str) -> set[str]:
    return {row[0] for row in connection.execute(_HOLDERS, (account_id, me, LIVE_US))}


def _notify(connection: psycopg.Connection[Any], channel: str, **said: object) -> None:
    connection.execute(_NOTIFY, (channel, json.dumps(said)))

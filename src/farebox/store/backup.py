"""Copies of a whole store: into one SQLite file, and back into an empty store of either engine.

Which secret belongs to a copy is admin/backup.py's to check.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from farebox.core import clock
from farebox.store.connections import driver_of, reason
from farebox.store.engine import StoreBase
from farebox.store.errors import StoreConflict, StoreError
from farebox.store.migrate import is_current, version_of
from farebox.store.schema import accounts, facts, leases, metadata, owners, revisions, transfers
from farebox.store.sqlite import SqliteConnections

_SOME_ROWS = 1000  # in memory at a time
_ALWAYS_THERE = (facts, revisions)  # in a store that nothing has come to yet


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back."""

    accounts: int
    leases: int  # that were open, and whose credit went back to its accounts


class Backups(StoreBase):
    """A store as a file, and a file as a store."""

    def back_up(self, path: Path) -> None:
        """Write all of it as it is at one moment into a new file, a store of its own with mode
        0600. Writers go on meanwhile. Raises StoreConflict if there is such a file.
        """
        _refuse_existing(path)
        draft = path.with_name(f".{path.name}.{token_hex(4)}")
        try:
            with self._sentences():
                os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                if self.is_postgresql:
                    self._copy_rows(draft)
                else:
                    self._copy_pages(draft)
                _make_whole(draft)
                _put_in_place(draft, path)
        finally:
            for leftover in (draft, *(draft.with_name(f"{draft.name}{end}") for end in _BESIDE)):
                leftover.unlink(missing_ok=True)

    def restore(self, path: Path) -> Restored:
        """Fill this store, which must be empty, with what a backup holds, in one transaction.

        No call is in flight in a store that comes back, so what its leases had not spent goes back
        to the accounts. Raises StoreConflict if anything is in here, StoreError if the file is no
        store.
        """
        with opened_backup(path) as source, self._writing() as target:
            _refuse_filled(target, self.shown)
            _copy(source, target)
            if self.is_postgresql:
                _set_sequences(target)
            returned = _return_leases(target, clock.now_us())
            target.execute(sa.delete(owners))
            count = target.execute(sa.select(sa.func.count()).select_from(accounts)).scalar_one()
        return Restored(count, returned)

    def _copy_pages(self, draft: Path) -> None:
        pooled = self._connections.reading.raw_connection()
        try:
            source: sqlite3.Connection = driver_of(pooled)
            with closing(sqlite3.connect(draft)) as target:
                source.backup(target)  # in one step, which is one snapshot
        finally:
            pooled.close()

    def _copy_rows(self, draft: Path) -> None:
        connections = SqliteConnections(draft)
        connections.prepare()
        try:
            with self._reading() as source, connections.writing.begin() as target:
                _copy(source, target)
        finally:
            connections.close()


_BESIDE = ("-wal", "-shm", "-journal", ".lock")  # what SQLite and a first start leave


def backup_fingerprint(path: Path) -> str | None:
    """The fingerprint of the secret that a backup's store was used with, if it was. Raises
    StoreError.
    """
    with opened_backup(path) as connection:
        query = sa.select(facts.c.value).where(facts.c.name == "secret_fingerprint")
        return connection.execute(query).scalar()


@contextmanager
def opened_backup(path: Path) -> Generator[sa.Connection]:
    """A transaction on a backup, which is not changed: one with an older schema is brought up to
    date in a copy. Raises StoreError.
    """
    with ExitStack() as opened:
        try:
            connection = _opened(path, opened)
        except (DBAPIError, sqlite3.Error) as error:
            raise StoreError(f"The backup {path} cannot be read: {reason(error)}.") from error
        yield connection


def _opened(path: Path, opened: ExitStack) -> sa.Connection:
    engine = sa.create_engine("sqlite://", creator=lambda: _read_only(path), poolclass=NullPool)
    connection = opened.enter_context(engine.begin())
    if version_of(connection) is None:
        raise StoreError(f"The file {path} is empty, and no backup.")
    if is_current(connection):
        return connection
    folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="farebox-restore-"))
    copy = Path(folder) / "farebox.db"
    with closing(_read_only(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    connections = SqliteConnections(copy)
    opened.callback(connections.close)
    connections.prepare()
    return opened.enter_context(connections.reading.begin())


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)


def _copy(source: sa.Connection, target: sa.Connection) -> None:
    """Every row of every table; what was in the target is gone."""
    for table in reversed(metadata.sorted_tables):
        target.execute(sa.delete(table))
    reading = source.execution_options(yield_per=_SOME_ROWS)
    for table in metadata.sorted_tables:
        for rows in reading.execute(sa.select(table)).mappings().partitions():
            target.execute(sa.insert(table), [dict(row) for row in rows])


def _refuse_filled(target: sa.Connection, shown: str) -> None:
    for table in metadata.sorted_tables:
        if table in _ALWAYS_THERE:
            continue
        if target.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
            raise StoreConflict(
                f"The store {shown} is not empty: there are {table.name} in it. A backup is "
                "restored into a store of its own: name another --data-dir or --database."
            )


def _return_leases(target: sa.Connection, now_us: int) -> int:
    """Give back what leases had not spent, as their owner would have; how many there were."""
    is_open = leases.c.state.in_(("open", "draining"))
    found = target.execute(sa.select(leases).where(is_open).order_by(leases.c.id)).all()
    for lease in found:
        amount = lease.granted - lease.spent - lease.returned
        if amount:
            target.execute(
                sa.insert(transfers).values(
                    account_id=lease.account_id,
                    kind="lease_return",
                    debit=f"lease:{lease.id}",
                    credit=f"account:{lease.account_id}",
                    amount=amount,
                    lease_id=lease.id,
                    reason="restored from a backup",
                    created_us=now_us,
                )
            )
            target.execute(
                sa.update(accounts)
                .where(accounts.c.id == lease.account_id)
                .values(available=accounts.c.available + amount)
            )
        target.execute(
            sa.update(leases)
            .where(leases.c.id == lease.id)
            .values(state="closed", returned=leases.c.returned + amount, closed_us=now_us)
        )
    return len(found)


def _set_sequences(target: sa.Connection) -> None:
    """PostgreSQL counts ids by itself, and rows that bring theirs along do not move the counter."""
    for table in metadata.sorted_tables:
        for column in table.primary_key.columns:
            names = {"table_name": table.name, "column_name": column.name}
            sequence = target.execute(_SEQUENCE, names).scalar()
            last = target.execute(sa.select(sa.func.max(column))).scalar()
            if sequence is not None and last is not None:
                target.execute(_SET, {"sequence": sequence, "last": last})


_SEQUENCE = sa.text("SELECT pg_get_serial_sequence(:table_name, :column_name)")
_SET = sa.text("SELECT setval(CAST(:sequence AS regclass), :last)")


def _make_whole(draft: Path) -> None:
    """One file that needs no other beside it, looked through and on the disk."""
    with closing(sqlite3.connect(draft)) as target:
        target.execute("PRAGMA journal_mode = DELETE")
        found = target.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreError(f"The store is damaged, and so would be its backup: {found}.")
    _sync(draft)


def _put_in_place(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)  # unlike a rename, this never takes the place of a file
    except FileExistsError:
        _refuse_existing(path)
    except OSError:  # not every file system has links
        _refuse_existing(path)
        draft.rename(path)
    with suppress(OSError):  # some file systems do not sync folders
        _sync(path.parent)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise StoreConflict(f"There is a file {path} already. Name another; nothing was written.")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

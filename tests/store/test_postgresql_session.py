"""The connection that a ledger keeps to PostgreSQL: servers that go and come back, and limits."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.pq.abc import PGresult
from sqlalchemy.engine import make_url

from farebox.store import Store, StoreError
from farebox.store.postgresql_session import Session, execute, rows_of
from farebox.store.tables import Tables
from tests.postgres import Server
from tests.store.bookkeeping import read


@pytest.fixture
def name(postgres_store: Store) -> str:
    """Of the store's database."""
    return str(make_url(postgres_store.shown).database)


def said(store: Store, *statements: str, patience_ms: int = 1_000) -> None:
    """Statements of one transaction of a ledger's."""

    def work(tables: Tables) -> None:
        for statement in statements:
            tables.execute(statement)

    store.drive(work, patience_ms)


def test_a_restart_between_two_batches_is_not_felt(postgres: Server, postgres_store: Store) -> None:
    """Whether the server was stopped, or killed with all that it had in hand."""
    postgres_store.create_account("ann")
    for number, end in enumerate((postgres.restart, postgres.kill), 1):
        said(postgres_store, "UPDATE accounts SET credit_limit = 0")
        end()
        if not postgres.is_running:
            postgres.start()
        said(postgres_store, f"UPDATE accounts SET credit_limit = {number}")
        assert read(postgres_store, "SELECT credit_limit FROM accounts") == [(number,)]


def test_a_server_that_is_away_is_said_to_be(postgres: Server, postgres_store: Store) -> None:
    """With a connection that it had, and without; when it is back, all is as it was."""
    said(postgres_store, "SELECT 1")
    postgres.stop()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"The store postgresql://.* failed: .*\.$"):
            said(postgres_store, "SELECT 1")
    postgres.start()
    said(postgres_store, "SELECT 1")


def test_a_connection_that_is_cut_within_a_batch_leaves_nothing(
    postgres: Server, postgres_store: Store
) -> None:
    """And nothing is said again by itself: it might be half of a transaction."""
    postgres_store.create_account("ann")
    cut = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(StoreError, match="terminat"):
        said(postgres_store, "UPDATE accounts SET disabled = 1", cut)
    assert read(postgres_store, "SELECT disabled FROM accounts") == [(0,)]
    said(postgres_store, "UPDATE accounts SET disabled = 1")
    assert read(postgres_store, "SELECT disabled FROM accounts") == [(1,)]


def test_patience_is_that_of_each_batch(postgres: Server, postgres_store: Store, name: str) -> None:
    """A row that somebody else holds is waited for as long as was said, and a statement may take as
    long; then the connection is used again.
    """
    postgres_store.create_account("ann")
    update = "UPDATE accounts SET disabled = 1"
    said(postgres_store, "SELECT 1", patience_ms=60_000)
    with postgres.connect(name) as other, other.transaction():
        other.execute(update.encode())
        with pytest.raises(StoreError, match="timeout"):
            said(postgres_store, update, patience_ms=100)
    with pytest.raises(StoreError, match="timeout"):
        said(postgres_store, "SELECT pg_sleep(60)", patience_ms=100)
    said(postgres_store, update, "SELECT pg_sleep(0.2)")
    assert read(postgres_store, "SELECT disabled FROM accounts") == [(1,)]


def test_two_threads_have_a_connection_each(postgres_store: Store) -> None:
    """Neither waits for the other, and both connections are closed with the store."""
    both = threading.Barrier(2, timeout=10)

    def work(tables: Tables) -> None:
        tables.execute("SELECT 1")
        both.wait()

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(postgres_store.drive, work, 1_000) for _ in range(2)]:
            done.result()


def test_a_closed_store_has_no_connection(
    postgres: Server, postgres_store: Store, name: str
) -> None:
    """Also none that a ledger kept."""
    said(postgres_store, "SELECT 1")
    postgres_store.close()
    with postgres.connect(name) as other:
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        end = threading.Event()
        while other.execute(count.encode()).fetchone() != (1,):
            assert not end.wait(0.01)


@pytest.fixture
def session(postgres: Server, name: str) -> Session:
    """One of its own, of a database whose defaults are other than usual."""
    with postgres.connect(name) as other:
        for setting in ("standard_conforming_strings = off", "synchronous_commit = off"):
            other.execute(f"ALTER DATABASE {name} SET {setting}".encode())

    def connect() -> psycopg.Connection[Any]:
        connection = postgres.connect(name)
        connection.execute("SET client_encoding = 'LATIN1'")
        return connection

    return Session(connect, {"echo": "(text, bigint, text) AS SELECT $1, $2, $3, $2 > 3"})


def asked(session: Session, *statements: str) -> list[PGresult]:
    """One transaction."""
    session.begin(1_000)
    results = session.ask(statements)
    session.commit()
    return results


@pytest.mark.parametrize("text", ["", "'", "''", "\\", "\\'", "a;b", "価", "\n", '"'])
def test_texts_arrive_as_they_are(session: Session, text: str) -> None:
    """Whatever the database's defaults are; numbers and truths come back as such."""
    (echo,) = asked(session, execute("echo", text, 2**63 - 1, None))
    assert rows_of(echo) == [(text, 2**63 - 1, None, True)]
    session.close()


def test_a_letter_is_one_in_the_database_too(session: Session) -> None:
    """And is not kept as two of another encoding."""
    (length,) = asked(session, "SELECT length('é')")
    assert rows_of(length) == [(1,)]
    session.close()


def test_a_text_that_cannot_be_is_said_to_be_bad(session: Session) -> None:
    """A NUL would end the message there; it is the value's fault, and the session goes on."""
    session.begin(1_000)
    with pytest.raises(psycopg.DataError):
        session.ask([execute("echo", "a\0b", 1, None)])
    session.roll_back()
    assert rows_of(asked(session, "SELECT 1")[0]) == [(1,)]
    session.close()


def test_statements_that_cannot_be_prepared_are_prepared_later(postgres: Server, name: str) -> None:
    """As when a table is locked, or not there yet, just when a connection is made."""
    session = Session(lambda: postgres.connect(name), {"all_made": "AS SELECT id FROM made"})
    session.begin(1_000)
    with pytest.raises(psycopg.errors.UndefinedTable):
        session.ask([execute("all_made")])
    session.roll_back()
    with postgres.connect(name) as other:
        other.execute(b"CREATE TABLE made (id int)")
    assert rows_of(asked(session, execute("all_made"))[0]) == []
    session.close()


def test_of_statements_none_counts_when_one_fails(session: Session) -> None:
    """What comes after it is not done, what came before is undone."""
    session.begin(1_000)
    statements = ["CREATE TABLE made (id int)", "SELECT 1 / 0", "COMMIT"]
    with pytest.raises(psycopg.DataError, match="division by zero"):
        session.ask(statements)
    session.roll_back()
    (found,) = asked(session, "SELECT to_regclass('made')")
    assert rows_of(found) == [(None,)]
    session.close()


def test_a_commit_that_undoes_is_no_commit(session: Session) -> None:
    """PostgreSQL takes the COMMIT of a transaction that has failed for a ROLLBACK."""
    session.begin(1_000)
    with pytest.raises(psycopg.DataError):
        session.ask(["SELECT 1 / 0"])
    with pytest.raises(AssertionError):
        session.commit()
    session.roll_back()
    session.close()


def test_a_connection_that_cannot_be_made_is_told(session: Session, postgres: Server) -> None:
    """Also when there was one before; and nothing need be undone."""
    asked(session, "SELECT 1")
    postgres.stop()
    session.begin(1_000)
    with pytest.raises(psycopg.OperationalError):
        session.ask(["SELECT 1"])
    session.roll_back()
    postgres.start()
    assert rows_of(asked(session, "SELECT 2")[0]) == [(2,)]
    session.close()

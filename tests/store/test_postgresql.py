"""What is particular to PostgreSQL: a server that goes and comes back, patience, what is said."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from farebox.store import BadStoreUrl, Store, StoreError, open_store
from farebox.store.postgresql import WRITER_LOCK
from tests.postgres import Server


def asked(store: Store, query: str) -> list[tuple[object, ...]]:
    """The rows of a query, as the store's own connections see it."""
    with store._reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def test_a_commit_is_worth_a_disk_and_a_read_is_one_snapshot(
    postgres: Server, postgres_url: str, tmp_path: Path
) -> None:
    """Whatever the database's own defaults are; and connections say whose they are."""
    name = make_url(postgres_url).database
    with postgres.connect() as connection:
        for setting in ("synchronous_commit = off", "statement_timeout = 500"):
            connection.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    store = open_store(postgres_url, tmp_path)
    names = ("synchronous_commit", "statement_timeout", "transaction_isolation", "application_name")
    settings = ", ".join(f"current_setting('{name}')" for name in names)
    assert asked(store, f"SELECT {settings}") == [("on", "0", "repeatable read", "farebox")]
    with store._driving(1_500) as driver:
        limits = "current_setting('lock_timeout'), current_setting('statement_timeout')"
        row = driver.execute(f"SELECT {limits}, current_setting('synchronous_commit')").fetchone()
        assert row == ("1500ms", "1500ms", "on")
    store.close()


def test_a_restart_of_the_server_is_not_felt_afterwards(
    postgres: Server, postgres_store: Store
) -> None:
    """Connections that died are replaced, killed or closed, on every way to the database."""
    postgres_store.create_account("ann")
    for end in (postgres.restart, postgres.kill):
        with ThreadPoolExecutor(3) as threads:  # so that several connections are kept
            list(threads.map(lambda _: postgres_store.accounts(), range(9)))
        end()
        if not postgres.is_running:
            postgres.start()
        with postgres_store._driving() as driver:
            assert driver.execute("SELECT name FROM accounts").fetchall() == [("ann",)]
        for _ in range(3):
            assert [account.name for account in postgres_store.accounts()] == ["ann"]
            postgres_store.fail_orphans("w0")


def test_while_the_server_is_away_everything_says_so(
    postgres: Server, postgres_store: Store
) -> None:
    """Within a moment, as a StoreError with the store's name; then all is as it was."""
    postgres.stop()
    for use in (postgres_store.accounts, partial(postgres_store.fail_orphans, "w0")):
        with pytest.raises(StoreError, match=r"The store postgresql://.* failed: .*\.$"):
            use()
    with pytest.raises(StoreError, match="failed"), postgres_store._driving(100):
        raise AssertionError("there is nothing to drive")
    postgres.start()
    assert postgres_store.accounts() == []


def test_a_connection_that_is_cut_within_a_transaction_leaves_nothing(
    postgres: Server, postgres_store: Store
) -> None:
    """What was not committed is undone, and the next transaction has another connection."""

    def write_and_be_cut() -> None:
        with postgres_store._driving() as driver:
            driver.execute("UPDATE revisions SET value = 99")
            pid = driver.execute("SELECT pg_backend_pid()").fetchone()[0]
            with postgres.connect() as other:
                other.execute("SELECT pg_terminate_backend(%s)", (pid,))
            driver.execute("SELECT 1")

    with pytest.raises(StoreError, match="terminat"):
        write_and_be_cut()
    assert postgres_store.revisions().keys == 0


@pytest.mark.parametrize(
    ("statement", "error"), [("SELECT 1", ValueError), ("SELECT 1 / 0", psycopg.DataError)]
)
def test_an_exception_undoes_a_transaction_and_the_connection_is_used_again(
    postgres_store: Store, statement: str, error: type[Exception]
) -> None:
    """Leaving without a commit rolls back, also after a statement that failed."""

    def write_and_raise() -> None:
        with postgres_store._driving() as driver:
            driver.execute("UPDATE revisions SET value = 99")
            driver.execute(statement)
            raise ValueError

    pids = {asked(postgres_store, "SELECT pg_backend_pid()")[0]}
    with pytest.raises(error):
        write_and_raise()
    assert postgres_store.revisions().keys == 0
    assert asked(postgres_store, "SELECT pg_backend_pid()")[0] in pids


def test_only_one_is_the_writer_and_rows_are_written_beside_it(
    postgres: Server, postgres_store: Store
) -> None:
    """A second writer waits for the first; what writes rows of its own does not."""
    entered = threading.Event()

    def write() -> None:
        with postgres_store._writing():
            entered.set()

    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with ThreadPoolExecutor(1) as threads:
        with postgres_store._writing(), postgres.connect() as other:
            second = threads.submit(write)
            while other.execute(waiting).fetchone() != (1,):
                assert not second.done()
            assert not entered.is_set()
            postgres_store.fail_orphans("w0")
            with postgres_store._driving(100) as driver:
                driver.execute("UPDATE owners SET state = 'live'")
        second.result()
    assert entered.is_set()


def test_patience_ends_with_a_sentence(postgres: Server, postgres_store: Store) -> None:
    """A row that somebody else holds is waited for as long as was said."""
    postgres_store.create_account("ann")
    name = make_url(postgres_store.shown).database
    assert name is not None
    update = "UPDATE accounts SET disabled = 0"
    with postgres.connect(name) as other, other.transaction():
        other.execute(update.encode())
        with pytest.raises(StoreError, match="timeout"), postgres_store._driving(100) as driver:
            driver.execute(update)
    with postgres_store._driving(100) as driver:
        assert driver.execute(update).rowcount == 1


def test_the_writers_lock_is_the_databases_own(postgres: Server, postgres_store: Store) -> None:
    """Who holds the same number in another database is in nobody's way."""
    with postgres.connect("postgres") as other, other.transaction():
        other.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})".encode())
        assert postgres_store.create_account("ann").name == "ann"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"database": "nowhere"}, r"\"nowhere\" does not exist\. Make the user and the database"),
        ({"username": "eve"}, r"\"eve\" does not exist\. Make the user and the database first"),
        ({"query": {"host": "/nowhere"}}, r"No such file or directory.* Check that the server"),
    ],
)
def test_a_start_that_fails_says_what_to_do(
    postgres_url: str, tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    """One sentence of what is wrong and one of what helps, without the password."""
    url = make_url(postgres_url).set(password="pw-1", **change)  # pyright: ignore[reportArgumentType]
    with pytest.raises(StoreError, match=sentence) as caught:
        open_store(url.render_as_string(hide_password=False), tmp_path)
    assert not isinstance(caught.value, BadStoreUrl)
    assert "pw-1" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_password_says_so(postgres: Server, postgres_url: str, tmp_path: Path) -> None:
    """And does not repeat it."""
    right, wrong = (
        make_url(postgres_url).set(password=password).render_as_string(hide_password=False)
        for password in ("right-1", "wrong-1")
    )
    with postgres.passwords("postgres", "right-1"):
        open_store(right, tmp_path).close()
        with pytest.raises(StoreError, match="Check the user and the password") as caught:
            open_store(wrong, tmp_path)
    assert "wrong-1" not in str(caught.value)


def test_a_user_who_may_make_no_tables_is_told(
    postgres: Server, tmp_path: Path, database_of_another: str
) -> None:
    """A database that exists and may not be filled."""
    with pytest.raises(StoreError, match=r"permission denied.*must own the database"):
        open_store(database_of_another, tmp_path)


@pytest.fixture
def database_of_another(postgres: Server) -> Iterator[str]:
    """An empty database, and a user who may connect to it and no more."""
    url = postgres.fresh_database()
    with postgres.connect() as connection:
        connection.execute("CREATE ROLE visitor LOGIN")
    yield make_url(url).set(username="visitor").render_as_string(hide_password=False)
    postgres.drop(url)
    with postgres.connect() as connection:
        connection.execute("DROP ROLE visitor")


def test_a_database_in_another_encoding_is_refused(
    postgres: Server, postgres_url: str, tmp_path: Path
) -> None:
    """Names and models may be of any script, so the database must be able to keep them."""
    with postgres.connect() as connection:
        connection.execute(
            "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    url = make_url(postgres_url).set(database="latin").render_as_string(hide_password=False)
    with pytest.raises(StoreError, match=r"has the encoding LATIN1\. Make one with UTF8"):
        open_store(url, tmp_path)
    postgres.drop(url)


def test_without_the_driver_the_extra_is_named() -> None:
    """PostgreSQL is an extra; a plain installation says what is missing."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"  # as if it were not installed
        "from pathlib import Path\n"
        "from farebox.store import BadStoreUrl, open_store\n"
        "try: open_store('postgresql://u@h/n', Path())\n"
        "except BadStoreUrl as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'farebox[postgres]'" in done.stdout

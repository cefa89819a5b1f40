"""The schema in the code and the one that migrations make are the same, and hold what they must."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from farebox.core.usage import CLASSES
from farebox.store import Store, open_store
from farebox.store.engine import connect
from farebox.store.migrate import _MIGRATIONS
from farebox.store.schema import KNOWN_VERSIONS, SCHEMA_VERSION, TOKEN_COLUMNS, metadata
from tests.store.test_responses import DONE


def _tables(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in rows if name != "schema_version"}


def test_migrations_make_the_schema_of_the_code(store: Store, tmp_path: Path) -> None:
    """A migrated store has exactly the tables, checks and indexes that the code describes."""
    path = tmp_path / "plain.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    assert _tables(store.path) == _tables(path)


def _store_of_version(path: Path, version: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = connect(path)
    with engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    engine.dispose()


def test_a_store_of_the_first_version_keeps_what_is_in_it(store: Store, tmp_path: Path) -> None:
    """It is opened with its accounts, keys and catalogues, gets the schema of a new store, and
    keeps responses.
    """
    old = tmp_path / "old.db"
    _store_of_version(old, "0001")
    with closing(sqlite3.connect(old)) as database:
        instance = database.execute("SELECT value FROM facts").fetchone()[0]
        database.executescript("""
            INSERT INTO accounts
            VALUES (7, 'ann', 'default', NULL, 5, 60, 10, 30, 100, 0, 1, 1);
            INSERT INTO keys VALUES ('key_1', 7, 'k', x'00', 'h', '[]', 1, NULL, NULL, 2);
            INSERT INTO catalogues VALUES (1, 1, 'file', 'f.toml', '{"models":[]}');
            INSERT INTO holds VALUES ('req_1', 7, 'key_1', 'w0-a', 10, 1);
            INSERT INTO transfers VALUES (1, 7, 'top_up', 100, NULL, 'gift', NULL, 1);
            UPDATE revisions SET value = 2 WHERE name = 'keys';
        """)
    opened = open_store(f"sqlite:///{old}", tmp_path)
    assert _tables(old) == _tables(store.path)
    assert opened.instance_id == instance
    account = opened.account("ann")
    assert account is not None
    assert (account.id, account.balance_nanocredits, account.held_nanocredits) == (7, 70, 10)
    assert opened.key("key_1") is not None
    assert opened.release_all_holds() == 1
    opened.keep_response(replace(DONE, account_id=7))
    assert opened.find_response("resp_1", 7, 20) == replace(DONE, account_id=7)
    opened.close()


def test_every_migration_is_known() -> None:
    """Each file of migrations/versions is a version that the code can start from."""
    files = sorted(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    assert (tuple(files), files[-1]) == (KNOWN_VERSIONS, SCHEMA_VERSION)


def test_there_is_a_column_for_every_class_of_tokens() -> None:
    """No class of core.usage would be lost on its way into the store."""
    assert set(CLASSES) <= set(TOKEN_COLUMNS)


def test_tables_are_strict_and_have_three_types(store: Store) -> None:
    """Every table is STRICT, and its columns are INTEGER, TEXT or BLOB."""
    with closing(sqlite3.connect(store.path)) as database:
        loose = database.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
            " AND NOT strict AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        types = {
            row[2]
            for name in metadata.tables
            for row in database.execute(f"PRAGMA table_info({name})")
        }
    assert (loose, types) == ([("schema_version",)], {"INTEGER", "TEXT", "BLOB"})


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("UPDATE accounts SET spent = spent + 1", "accounts_add_up"),
        ("UPDATE accounts SET available = -1, credited = -1", "accounts_above_floor"),
        ("UPDATE accounts SET held = -1, available = available + 1", "accounts_held"),
        ("UPDATE accounts SET credit_limit = -1", "accounts_credit_limit"),
        ("UPDATE transfers SET amount = 0", "transfers_amount"),
    ],
)
def test_the_tables_refuse_what_does_not_add_up(store: Store, change: str, check: str) -> None:
    """A statement that would break the books fails, whoever sends it."""
    store.create_account("ann", credits_nanocredits=10)
    with (
        closing(sqlite3.connect(store.path)) as database,
        pytest.raises(sqlite3.IntegrityError, match=check),
    ):
        database.execute(change)

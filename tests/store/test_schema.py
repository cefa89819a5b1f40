"""The schema in the code and the one that migrations make are the same, and hold what they must."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from farebox.core.usage import CLASSES
from farebox.store import Store
from farebox.store.migrate import _MIGRATIONS
from farebox.store.schema import KNOWN_VERSIONS, SCHEMA_VERSION, TOKEN_COLUMNS, metadata


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

"""The schema in the code and the one that migrations make are the same, and hold what they must."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from farebox.core.call import Attempt
from farebox.core.usage import CLASSES
from farebox.store import Store, StoreError, open_store
from farebox.store.migrate import _MIGRATIONS
from farebox.store.schema import KNOWN_VERSIONS, SCHEMA_VERSION, TOKEN_COLUMNS, metadata
from farebox.store.urls import parse_url
from tests import postgres
from tests.store.old_stores import HOUR_US, store_of_0003, store_of_version
from tests.store.test_responses import DONE

_COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
    FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name <> 'schema_version'
"""
_CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'schema_version'
"""
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename <> 'schema_version'
"""


def _tables(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        # A table that was renamed has its name in quotes.
        return {
            name: " ".join(re.sub(r'^CREATE TABLE "(\w+)"', r"CREATE TABLE \1", sql).split())
            for name, sql in rows
            if name != "schema_version"
        }


def test_migrations_make_the_schema_of_the_code(sqlite_store: Store, tmp_path: Path) -> None:
    """A migrated store has exactly the tables, checks and indexes that the code describes."""
    path = tmp_path / "plain.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    assert _tables(sqlite_store.path) == _tables(path)


def test_migrations_make_the_schema_of_the_code_on_postgresql(postgres_store: Store) -> None:
    """The same columns, defaults, constraints and indexes, each by its name."""
    url = postgres.fresh_database()
    engine = sa.create_engine(parse_url(url))
    metadata.create_all(engine)
    with engine.connect() as plain, postgres_store._reading() as migrated:
        for query in (_COLUMNS, _CONSTRAINTS, _INDEXES):
            expected, found = (
                {tuple(row) for row in each.exec_driver_sql(query)} for each in (plain, migrated)
            )
            assert found == expected
            assert len(expected) > 20
    engine.dispose()
    postgres.server().drop(url)


def test_a_store_of_the_first_version_keeps_what_is_in_it(
    sqlite_store: Store, tmp_path: Path
) -> None:
    """It is opened with its accounts, keys and catalogues, gets the schema of a new store, and
    keeps responses.
    """
    old = tmp_path / "old.db"
    rows = """
        INSERT INTO accounts
        VALUES (7, 'ann', 'default', NULL, 5, 60, 10, 30, 100, 0, 1, 1);
        INSERT INTO keys VALUES ('key_1', 7, 'k', x'00', 'h', '[]', 1, NULL, NULL, 2);
        INSERT INTO catalogues VALUES (1, 1, 'file', 'f.toml', '{"models":[]}');
        INSERT INTO holds VALUES ('req_1', 7, 'key_1', 'w0-a', 10, 1);
        INSERT INTO transfers VALUES (1, 7, 'top_up', 100, NULL, 'gift', NULL, 1);
        UPDATE revisions SET value = 2 WHERE name = 'keys';
    """
    store_of_version(old, "0001", rows)
    with closing(sqlite3.connect(old)) as database:
        instance = database.execute("SELECT value FROM facts").fetchone()[0]
    opened = open_store(f"sqlite:///{old}", tmp_path)
    assert _tables(old) == _tables(sqlite_store.path)
    assert opened.instance_id == instance
    account = opened.account("ann")
    assert account is not None
    assert (account.id, account.balance_nanocredits, account.held_nanocredits) == (7, 70, 0)
    assert opened.key("key_1") is not None
    opened.keep_response(replace(DONE, account_id=7))
    assert opened.find_response("resp_1", 7, 20) == replace(DONE, account_id=7)
    opened.close()


@pytest.fixture
def old_store(tmp_path: Path) -> Iterator[Store]:
    """A store from before the ledger, opened by this version."""
    path = tmp_path / "old.db"
    store_of_0003(path)
    store = open_store(f"sqlite:///{path}", tmp_path)
    yield store
    store.close()


def test_what_was_held_goes_back_and_what_was_charged_stays(old_store: Store) -> None:
    """There are no calls in flight while a store is migrated; balances are what they were."""
    ann, bob = old_store.account("ann"), old_store.account("bob")
    assert ann is not None
    assert bob is not None
    assert (ann.available_nanocredits, ann.held_nanocredits) == (700, 0)
    assert (ann.spent_nanocredits, ann.credited_nanocredits) == (300, 1000)
    assert (ann.group, ann.rate_ppm, ann.credit_limit_nanocredits) == ("team", 800_000, 5)
    assert (bob.available_nanocredits, bob.spent_nanocredits, bob.disabled) == (-20, 0, True)


def test_books_of_an_old_store_pass_the_audit(old_store: Store) -> None:
    """Transfers, leases, roll-ups and calls say the same of them as the new tables must."""
    found = old_store.broken_books(full=True)
    assert {name: each.rows for name, each in found.items() if each.total} == {}
    hours = old_store.hours_to_audit(full=True)
    assert hours == [0, HOUR_US]
    for hour_us in hours:
        with old_store.hour(hour_us) as hour:
            assert {name: each.rows for name, each in hour.broken().items() if each.total} == {}


def test_calls_of_an_old_store_have_one_closed_lease_and_keep_their_attempts(
    old_store: Store,
) -> None:
    """What an account was charged is one lease of nobody's; a call that cost nothing has none."""
    with old_store._reading() as connection:
        leases = connection.exec_driver_sql(
            "SELECT account_id, owner, state, granted, spent, returned, opened_us, closed_us"
            " FROM leases"
        )
        assert leases.all() == [
            (7, "before-leases", "closed", 300, 300, 0, 20, HOUR_US + 30),
        ]
        calls = connection.exec_driver_sql("SELECT request_id, lease_id FROM usage ORDER BY 1")
        assert calls.all() == [("req_a", 1), ("req_b", 1), ("req_c", 1), ("req_d", None)]
        hours = connection.exec_driver_sql(
            "SELECT key_id, hour_us, calls, charge, absorbed FROM usage_hours ORDER BY 1, 2"
        )
        assert hours.all() == [
            ("key_1", 0, 1, 120, 0),
            ("key_1", HOUR_US, 2, 100, 11),
            ("key_2", 0, 1, 80, 0),
        ]
    attempts = {
        name: call.settlement.attempts
        for name in ("req_a", "req_b", "req_c", "req_d")
        if (call := old_store.call(name))
    }
    assert attempts == {
        "req_a": (
            Attempt(1, "first", 500, "status_500", 12, None),
            Attempt(2, "main", 200, None, 340, 55),
        ),
        "req_b": (Attempt(1, "main", 200, None, 9, None),),
        "req_c": (),
        "req_d": (Attempt(1, "main", 429, 'é"', 2, None),),
    }


def test_transfers_of_an_old_store_get_their_two_sides(old_store: Store) -> None:
    """Numbers, reasons and external ids stay; the lease's grant comes after them."""
    told = [
        (each.id, each.kind, each.debit, each.credit, each.amount_nanocredits, each.calls)
        for each in old_store.transfers(7)
    ]
    assert told == [
        (8, "lease_grant", "account:7", "lease:1", 300, 0),
        (6, "absorbed", "operator:absorbed", "operator:unpaid", 11, 1),
        (5, "charge", "lease:1", "operator:revenue", 100, 1),
        (4, "charge", "lease:1", "operator:revenue", 80, 1),
        (3, "charge", "lease:1", "operator:revenue", 120, 1),
        (2, "debit", "account:7", "operator:credits", 100, 0),
        (1, "top_up", "operator:credits", "account:7", 1100, 0),
    ]
    first = old_store.transfers(7)[-1]
    assert (first.external_id, first.reason, first.created_us) == ("inv-1", "invoice", 1)


def test_all_else_of_an_old_store_stays(old_store: Store, sqlite_store: Store) -> None:
    """Keys without a budget, catalogues, responses, revisions; and the tables are a new store's."""
    assert _tables(old_store.path) == _tables(sqlite_store.path)
    phone, laptop = old_store.key("key_2"), old_store.key("key_1")
    assert phone is not None
    assert laptop is not None
    assert (phone.key.revoked_us, phone.key.budget_nanocredits) == (5, None)
    assert (laptop.key.models, laptop.key.expires_us) == (("gpt-*",), 99)
    assert (old_store.revisions().keys, old_store.secret_fingerprint) == (4, "abcd")
    assert old_store.load_catalogue() is not None
    kept = old_store.find_response("resp_1", 7, 20)
    assert kept is not None
    assert [item.id for item in kept.input] == ["msg_1"]
    assert [each.calls for each in old_store.calibration(0)] == [1]


def test_rows_that_refer_to_nothing_stop_a_migration(tmp_path: Path) -> None:
    """References are checked when all tables are made; the store stays as it was."""
    path = tmp_path / "broken.db"
    store_of_0003(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE response_items SET response_id = 'resp_9'")
        database.commit()
    before = _tables(path)
    with pytest.raises(StoreError, match=r"refer to what is not there \(response_items\)"):
        open_store(f"sqlite:///{path}", tmp_path)
    assert _tables(path) == before


def test_every_migration_is_known() -> None:
    """Each file of migrations/versions is a version that the code can start from."""
    files = sorted(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    assert (tuple(files), files[-1]) == (KNOWN_VERSIONS, SCHEMA_VERSION)


def test_there_is_a_column_for_every_class_of_tokens() -> None:
    """No class of core.usage would be lost on its way into the store."""
    assert set(CLASSES) <= set(TOKEN_COLUMNS)


def test_tables_are_strict_and_have_three_types(sqlite_store: Store) -> None:
    """Every table is STRICT, and its columns are INTEGER, TEXT or BLOB."""
    with closing(sqlite3.connect(sqlite_store.path)) as database:
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


def test_texts_have_the_order_of_their_bytes(store: Store) -> None:
    """Lists are the same on both engines, whatever language a server speaks."""
    for name in ("b", "Z", "a", "_"):
        store.create_account(name)
    assert [account.name for account in store.accounts()] == ["Z", "_", "a", "b"]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("UPDATE accounts SET available = -1", "accounts_above_floor"),
        ("UPDATE accounts SET credit_limit = -1", "accounts_credit_limit"),
        ("UPDATE transfers SET amount = 0", "transfers_amount"),
        (
            "INSERT INTO leases VALUES (1, 1, 'own_1', 'open', 5, 6, 0, 1, NULL)",
            "leases_add_up",
        ),
    ],
)
def test_the_tables_refuse_what_does_not_add_up(store: Store, change: str, check: str) -> None:
    """A statement that would break the books fails, whoever sends it."""
    store.create_account("ann", credits_nanocredits=10)
    with pytest.raises(IntegrityError, match=check), store._writing() as connection:
        connection.exec_driver_sql(change)

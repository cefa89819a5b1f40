"""Stores of earlier versions: made by the migrations of their time, with rows of their time."""

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config

from farebox.store.migrate import _MIGRATIONS
from farebox.store.sqlite import connect

HOUR_US = 3_600_000_000
_TOKENS = "10, 4, 0, 0, 0, 0, 5, 0"

# Ann has calls of two hours, one charged nothing, one absorbed in part, and one that is in flight.
# Bob owes, and has never called.
_ROWS_OF_0003 = f"""
    INSERT INTO facts VALUES ('secret_fingerprint', 'abcd');
    INSERT INTO catalogues VALUES (1, 1, 'file', 'f.toml', '{{"models":[]}}');
    INSERT INTO accounts VALUES
        (3, 'bob', 'default', NULL, 50, -20, 0, 0, -20, 1, 7, 2),
        (7, 'ann', 'team', 800000, 5, 600, 100, 300, 1000, 0, 1, 1);
    INSERT INTO keys VALUES
        ('key_1', 7, 'laptop', x'0011', 'sk-…1', '["gpt-*"]', 1, 99, NULL, 3),
        ('key_2', 7, 'phone', x'0022', 'sk-…2', '[]', 2, NULL, 5, 4);
    UPDATE revisions SET value = 4 WHERE name = 'keys';
    INSERT INTO transfers VALUES
        (1, 7, 'top_up', 1100, 'inv-1', 'invoice', NULL, 1),
        (2, 7, 'debit', 100, NULL, 'paid out', NULL, 2),
        (3, 7, 'charge', 120, NULL, NULL, 'req_a', 30),
        (4, 7, 'charge', 80, NULL, NULL, 'req_b', 40),
        (5, 7, 'charge', 100, NULL, NULL, 'req_c', {HOUR_US} + 30),
        (6, 7, 'absorbed', 11, NULL, NULL, 'req_c', {HOUR_US} + 30),
        (7, 3, 'debit', 20, NULL, 'fee', NULL, 9);
    INSERT INTO holds VALUES ('req_e', 7, 'key_1', 'w0-a', 100, 50);
    INSERT INTO usage VALUES
        ('req_a', 7, 'key_1', 'm', 'main', 'chat', 1, 'complete', 20, 30, 1, 800000, {_TOKENS},
            120, 120, 0, 130, 'flex', '[["web_search",2]]', '["estimated"]', 352, 55),
        ('req_b', 7, 'key_2', 'm', 'main', 'chat', 0, 'complete', 21, 40, 1, 800000, {_TOKENS},
            80, 80, 0, 90, NULL, '[]', '[]', 10, NULL),
        ('req_c', 7, 'key_1', 'm', 'main', 'responses', 0, 'undelivered', {HOUR_US} + 20,
            {HOUR_US} + 30, 1, 800000, {_TOKENS}, 111, 100, 11, 100, NULL, '[]', '[]', 10, NULL),
        ('req_d', 7, 'key_1', 'm', NULL, 'chat', 0, 'refused', {HOUR_US} + 21, {HOUR_US} + 22, 1,
            800000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 70, NULL, '[]', '[]', 3, NULL);
    INSERT INTO attempts VALUES
        ('req_a', 2, 'main', 200, NULL, 340, 55),
        ('req_a', 1, 'first', 500, 'status_500', 12, NULL),
        ('req_b', 1, 'main', 200, NULL, 9, NULL), ('req_d', 1, 'main', 429, 'é"', 2, NULL);
    INSERT INTO usage_hours VALUES
        (7, 'key_1', 'm', 0, 1, {_TOKENS}, 120), (7, 'key_2', 'm', 0, 1, {_TOKENS}, 80),
        (7, 'key_1', 'm', {HOUR_US}, 2, {_TOKENS}, 100);
    INSERT INTO calibration VALUES ('m', 'o200k_base', 1, 0, 1, 10, 10, 0, 0);
    INSERT INTO responses VALUES
        ('resp_1', 7, 1, 99, 'completed', 0, NULL, '', 0, 2, x'7b7d');
    INSERT INTO response_items VALUES (1, 'resp_1', 'input', 0, 'msg_1', 7, x'7b7d');
"""


def store_of_version(path: Path, version: str, rows: str = "") -> None:
    """A SQLite store as that version of the schema made it."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = connect(path)
    with engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(rows)


def store_of_0003(path: Path) -> None:
    """A store from before the ledger, with something in each of its tables."""
    store_of_version(path, "0003", _ROWS_OF_0003)

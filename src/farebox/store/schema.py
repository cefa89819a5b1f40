"""The tables as they are now. How an older store becomes like this is migrations/'s business.

Types are INTEGER, TEXT and BLOB (SQLite's STRICT tables), times integer microseconds since the
Unix epoch, money integer nano-credits, flags 0 or 1.
"""

from typing import Any

import sqlalchemy as sa

SCHEMA_VERSION = "0003"
KNOWN_VERSIONS = ("0001", "0002", "0003")  # every version that migrations/ can lead from
VERSION_TABLE = "schema_version"

# PostgreSQL's INTEGER has 32 bits; SQLite's STRICT tables know no BIGINT.
Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
metadata = sa.MetaData()


def _table(name: str, *parts: sa.schema.SchemaItem, rowid: bool = True) -> sa.Table:
    return sa.Table(name, metadata, *parts, sqlite_strict=True, sqlite_with_rowid=rowid)


def _int(name: str, *parts: Any, default: str | None = None, **more: Any) -> sa.Column[int]:
    return sa.Column(name, Int, *parts, nullable=False, server_default=default, **more)


def _text(name: str, *parts: Any, **more: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, *parts, nullable=False, **more)


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


# Tokens by class; names are those of core.usage.
TOKEN_COLUMNS = (
    "uncached_input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "image_input",
    "output",
    "audio_output",
)

facts = _table("facts", _text("name", primary_key=True), _text("value"), rowid=False)

# One counter for each thing that other processes keep a copy of.
revisions = _table("revisions", _text("name", primary_key=True), _int("value"), rowid=False)

catalogues = _table(
    "catalogues",
    sa.Column("version", Int, primary_key=True),
    _int("created_us"),
    _text("source"),
    _text("origin"),
    _text("document"),
)

# The checks are the ledger's pair assertions: no statement can leave an account that does not
# add up, or one below its floor.
accounts = _table(
    "accounts",
    sa.Column("id", Int, primary_key=True),
    _text("name", unique=True),
    _text("group_name"),
    sa.Column("rate_ppm", Int),
    _int("credit_limit", default="0"),
    _int("available", default="0"),
    _int("held", default="0"),
    _int("spent", default="0"),
    _int("credited", default="0"),
    _int("disabled", default="0"),
    _int("created_us"),
    _int("revision"),
    sa.CheckConstraint("credited = available + held + spent", name="accounts_add_up"),
    sa.CheckConstraint("available >= -credit_limit", name="accounts_above_floor"),
    sa.CheckConstraint("held >= 0", name="accounts_held"),
    sa.CheckConstraint("credit_limit >= 0", name="accounts_credit_limit"),
    sa.Index("accounts_by_revision", "revision"),
)

# Appended, never edited. `amount` is positive; the kind says which way it went:
# top_up and debit change `credited`, charge changes `spent`, absorbed is borne by the operator.
transfers = _table(
    "transfers",
    sa.Column("id", Int, primary_key=True),
    _int("account_id", sa.ForeignKey("accounts.id")),
    _text("kind"),
    _int("amount"),
    sa.Column("external_id", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("request_id", sa.Text),
    _int("created_us"),
    sa.CheckConstraint("amount > 0", name="transfers_amount"),
    sa.Index(
        "transfers_by_external_id",
        "external_id",
        unique=True,
        sqlite_where=sa.text("external_id IS NOT NULL"),
        postgresql_where=sa.text("external_id IS NOT NULL"),
    ),
)

keys = _table(
    "keys",
    _text("id", primary_key=True),
    _int("account_id", sa.ForeignKey("accounts.id")),
    _text("name"),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    _text("hint"),
    _text("models"),
    _int("created_us"),
    sa.Column("expires_us", Int),
    sa.Column("revoked_us", Int),
    _int("revision"),
    sa.Index("keys_by_revision", "revision"),
)

holds = _table(
    "holds",
    _text("request_id", primary_key=True),
    _int("account_id", sa.ForeignKey("accounts.id")),
    _text("key_id"),
    _text("owner"),
    _int("amount"),
    _int("created_us"),
    sa.CheckConstraint("amount >= 0", name="holds_amount"),
    rowid=False,
)

usage = _table(
    "usage",
    _text("request_id", primary_key=True),
    _int("account_id", sa.ForeignKey("accounts.id")),
    _text("key_id"),
    _text("model"),
    sa.Column("channel", sa.Text),
    _text("dialect"),
    _int("stream"),
    _text("outcome"),
    _int("created_us"),
    _int("settled_us"),
    _int("price_version"),
    _int("rate_ppm"),
    *(_int(name, default="0") for name in TOKEN_COLUMNS),
    _int("due"),
    _int("charge"),
    _int("absorbed"),
    _int("hold"),
    sa.Column("service_tier", sa.Text),
    _text("tool_calls"),
    _text("flags"),
    _int("ms"),
    sa.Column("ttft_ms", Int),
    sa.CheckConstraint("charge + absorbed = due", name="usage_adds_up"),
    sa.CheckConstraint("charge >= 0 AND absorbed >= 0", name="usage_amounts"),
)

attempts = _table(
    "attempts",
    _text("request_id", sa.ForeignKey("usage.request_id"), primary_key=True),
    _int("n", primary_key=True),
    _text("channel"),
    sa.Column("status", Int),
    sa.Column("error", sa.Text),
    _int("ms"),
    sa.Column("ttft_ms", Int),
    rowid=False,
)

usage_hours = _table(
    "usage_hours",
    _int("account_id", sa.ForeignKey("accounts.id"), primary_key=True),
    _text("key_id", primary_key=True),
    _text("model", primary_key=True),
    _int("hour_us", primary_key=True),
    _int("calls"),
    *(_int(name, default="0") for name in TOKEN_COLUMNS),
    _int("charge"),
    rowid=False,
)

# Calls whose input was counted here and reported by the upstream; see core.measured.
calibration = _table(
    "calibration",
    _text("model", primary_key=True),
    _text("vocabulary", primary_key=True),
    _int("exact", primary_key=True),
    _int("day_us", primary_key=True),
    _int("calls"),
    _int("counted"),
    _int("reported"),
    _int("deviation_ppm_sum"),
    _int("deviation_ppm_max"),
    rowid=False,
)

# `owner` is the worker process that runs it, empty when nobody does; `expires_us` 0 says that it
# was deleted while it ran. `items_bytes` is the size of its items before they were compressed.
responses = _table(
    "responses",
    _text("id", primary_key=True),
    _int("account_id", sa.ForeignKey("accounts.id")),
    _int("created_us"),
    _int("expires_us"),
    _text("status"),
    _int("background"),
    sa.Column("previous_id", sa.Text),
    _text("owner"),
    _int("cancel_requested", default="0"),
    _int("items_bytes"),
    _blob("body"),
    sa.Index(
        "responses_running",
        "owner",
        sqlite_where=sa.text("status IN ('queued', 'in_progress')"),
        postgresql_where=sa.text("status IN ('queued', 'in_progress')"),
    ),
    sa.Index("responses_by_expiry", "expires_us"),
)

# Of two items with the same item_id, the one with the higher `id` was kept later.
response_items = _table(
    "response_items",
    sa.Column("id", Int, primary_key=True),
    _text("response_id", sa.ForeignKey("responses.id", ondelete="CASCADE")),
    _text("side"),
    _int("position"),
    _text("item_id"),
    _int("account_id", sa.ForeignKey("accounts.id")),
    _blob("data"),
    sa.CheckConstraint("side IN ('input', 'output')", name="response_items_side"),
    sa.Index("response_items_in_order", "response_id", "side", "position", unique=True),
    sa.Index("response_items_by_item", "account_id", "item_id"),
)

# What the stream of a background response consists of, for clients that come back to it.
response_events = _table(
    "response_events",
    _text("response_id", sa.ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    _int("sequence", primary_key=True),
    _blob("data"),
    rowid=False,
)

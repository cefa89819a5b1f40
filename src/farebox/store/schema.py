"""The tables as they are now. How an older store becomes like this is migrations/'s business.

Types are INTEGER, TEXT and BLOB (SQLite's STRICT tables), times integer microseconds since the
Unix epoch, money integer nano-credits, flags 0 or 1.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

SCHEMA_VERSION = "0005"
# Every version that migrations/ can lead from.
KNOWN_VERSIONS = ("0001", "0002", "0003", "0004", "0005")
VERSION_TABLE = "schema_version"

# PostgreSQL's INTEGER has 32 bits; SQLite's STRICT tables know no BIGINT.
Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# In the order of the bytes, as with SQLite: the same lists on both, and no index that another
# version of the system's collations spoils.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
metadata = sa.MetaData()


def _table(name: str, *parts: sa.schema.SchemaItem, rowid: bool = True) -> sa.Table:
    return sa.Table(name, metadata, *parts, sqlite_strict=True, sqlite_with_rowid=rowid)


def _int(name: str, *parts: Any, default: str | None = None, **more: Any) -> sa.Column[int]:
    return sa.Column(name, Int, *parts, nullable=False, server_default=default, **more)


def _text(name: str, *parts: Any, **more: Any) -> sa.Column[str]:
    return sa.Column(name, Text, *parts, nullable=False, **more)


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _some(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    """An index of those rows only for which the condition holds."""
    condition = sa.text(where)
    index = sa.Index(name, *columns, unique=unique, sqlite_where=condition)

    # SQLAlchemy loads the dialects of all of PostgreSQL's drivers for an option that names it, and
    # every process of the gateway has these tables. So it is named where they are made.
    @event.listens_for(metadata, "before_create")
    def _name_it(_: object, connection: sa.Connection, **__: object) -> None:
        if connection.dialect.name == "postgresql":
            index.dialect_kwargs["postgresql_where"] = condition

    return index


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
    sa.Column("version", Int, primary_key=True, autoincrement=False),
    _int("created_us"),
    _text("source"),
    _text("origin"),
    _text("document"),
)

# `available` is what no lease holds, `credited` all top-ups less debits. Both change only in the
# transaction that inserts the transfer that explains it. What is held is in `leases`, what was
# charged in the roll-ups: the audit proves that they add up.
accounts = _table(
    "accounts",
    sa.Column("id", Int, primary_key=True),
    _text("name", unique=True),
    _text("group_name"),
    sa.Column("rate_ppm", Int),
    _int("credit_limit", default="0"),
    _int("available", default="0"),
    _int("credited", default="0"),
    _int("disabled", default="0"),
    _int("created_us"),
    _int("revision"),
    sa.CheckConstraint("available >= -credit_limit", name="accounts_above_floor"),
    sa.CheckConstraint("credit_limit >= 0", name="accounts_credit_limit"),
    sa.Index("accounts_by_revision", "revision"),
)

# Appended, never edited. `amount` is positive and goes from `debit` to `credit`, which are
# `account:ID`, `lease:ID` or one of the operator's: `operator:credits` (where top-ups come from and
# debits go to), `operator:revenue`, `operator:absorbed`, `operator:unpaid`, `operator:lost`.
# By kind:
#   top_up, refund   operator:credits -> account     debit        account -> operator:credits
#   lease_grant      account -> lease                lease_return lease -> account
#   charge           lease -> operator:revenue       (the calls of one batch: `calls` of them)
#   absorbed         operator:absorbed -> operator:unpaid         lost  lease -> operator:lost
#   correction       any of these the other way round; `corrects` names the transfer
transfers = _table(
    "transfers",
    sa.Column("id", Int, primary_key=True),
    _int("account_id"),
    _text("kind"),
    _text("debit"),
    _text("credit"),
    _int("amount"),
    _int("calls", default="0"),
    sa.Column("lease_id", Int),
    sa.Column("corrects", Int),
    sa.Column("external_id", Text),
    sa.Column("reason", Text),
    _int("created_us"),
    sa.CheckConstraint("amount > 0", name="transfers_amount"),
    # PostgreSQL would ask by a query a row, which locks the account too: a batch's transfers have
    # accounts by how they are made.
    sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]).ddl_if(dialect="sqlite"),
    _some("transfers_by_external_id", "external_id", where="external_id IS NOT NULL", unique=True),
    sa.Index("transfers_by_account", "account_id", "id"),
)

# One ledger process's name, which it keeps when it is replaced. `heartbeat_us` is by the database's
# clock, and asked for with PostgreSQL only. States: live, expired, lost.
owners = _table(
    "owners",
    _text("id", primary_key=True),
    _text("host"),
    _text("state"),
    _int("heartbeat_us"),
    _int("created_us"),
    rowid=False,
)

# Credit of an account that one owner may spend without asking.
# granted = spent + returned + what is not spent yet. States: open, draining, closed, lost.
leases = _table(
    "leases",
    sa.Column("id", Int, primary_key=True),
    _int("account_id", sa.ForeignKey("accounts.id")),
    _text("owner"),
    _text("state"),
    _int("granted"),
    _int("spent", default="0"),
    _int("returned", default="0"),
    _int("opened_us"),
    sa.Column("closed_us", Int),
    sa.CheckConstraint(
        "spent >= 0 AND returned >= 0 AND spent + returned <= granted", name="leases_add_up"
    ),
    _some("leases_unspent", "account_id", "owner", where="state IN ('open', 'draining')"),
)

# What was charged to a lease in one hour (of the calls' admission), so that it can be compared with
# the rows of that hour.
lease_hours = _table(
    "lease_hours",
    _int("lease_id", primary_key=True),
    _int("hour_us", primary_key=True),
    _int("calls"),
    _int("charge"),
    rowid=False,
)

keys = _table(
    "keys",
    _text("id", primary_key=True),
    _int("account_id", sa.ForeignKey("accounts.id")),
    _text("name"),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    _text("hint"),
    _text("models"),
    sa.Column("budget", Int),  # nano-credits a period; none: no limit
    _text("budget_period", server_default="total"),  # total, day, month
    _int("created_us"),
    sa.Column("expires_us", Int),
    sa.Column("revoked_us", Int),
    _int("revision"),
    sa.Index("keys_by_revision", "revision"),
)

# No foreign keys here and in the roll-ups: PostgreSQL checks each by a query a row, which is most
# of what a row costs. The audit finds what they would.
# `attempts`, `tool_calls` and `flags` are JSON: see billing.entry. A call without a charge has no
# lease. outcome: complete, client_gone, upstream_failed, refused, undelivered.
usage = _table(
    "usage",
    _text("request_id", primary_key=True),
    _int("account_id"),
    _text("key_id"),
    _text("model"),
    sa.Column("channel", Text),
    _text("dialect"),
    _int("stream"),
    _text("outcome"),
    _int("created_us"),
    _int("price_version"),
    _int("rate_ppm"),
    *(_int(name, default="0") for name in TOKEN_COLUMNS),
    _int("due"),
    _int("hold"),
    sa.Column("service_tier", Text),
    _text("tool_calls"),
    _text("flags"),
    _text("attempts"),
    _int("ms"),
    sa.Column("ttft_ms", Int),
    sa.Column("lease_id", Int),
    _int("charge"),
    _int("absorbed"),
    _int("settled_us"),
    sa.CheckConstraint("charge + absorbed = due", name="usage_adds_up"),
    sa.CheckConstraint("charge >= 0 AND absorbed >= 0", name="usage_amounts"),
    sa.Index("usage_by_time", "created_us"),
    _some("usage_undelivered", "created_us", where="outcome = 'undelivered'"),
)

# The roll-ups, by the hour of admission. Kept for ever.
usage_hours = _table(
    "usage_hours",
    _int("account_id", primary_key=True),
    _text("key_id", primary_key=True),
    _text("model", primary_key=True),
    _int("hour_us", primary_key=True),
    _int("calls"),
    *(_int(name, default="0") for name in TOKEN_COLUMNS),
    _int("charge"),
    _int("absorbed", default="0"),
    sa.Index("usage_hours_by_hour", "hour_us"),
    rowid=False,
)

# An hour whose rows were all found right; `checksum` is of its roll-ups. A row that comes to it
# later takes the seal away. `dropped_us`: when its rows were dropped, at the end of their time.
sealed_hours = _table(
    "sealed_hours",
    _int("hour_us", primary_key=True, autoincrement=False),
    _int("calls"),
    _int("charge"),
    _text("checksum"),
    _int("sealed_us"),
    sa.Column("dropped_us", Int),
    rowid=False,
)

# Calls that could not be written, with why: each is a defect, and none delays the others.
settle_rejected = _table(
    "settle_rejected",
    sa.Column("id", Int, primary_key=True),
    _text("request_id"),
    _text("entry"),
    _text("error"),
    _int("created_us"),
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
    sa.Column("previous_id", Text),
    _text("owner"),
    _int("cancel_requested", default="0"),
    _int("items_bytes"),
    _blob("body"),
    _some("responses_running", "owner", where="status IN ('queued', 'in_progress')"),
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

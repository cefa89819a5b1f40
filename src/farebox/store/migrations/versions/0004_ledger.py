"""Leases, transfers between two sides, budgets, sealed hours. Frozen; a change is a new file.

Tables that change are made anew. What calls had been charged before is made one closed lease of
each account, and what was held goes back: there are no calls in flight while a store is migrated.
"""

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

from farebox.store.errors import StoreError

revision = "0004"
down_revision = "0003"

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
HOUR_US = 3_600_000_000
TOKENS = (
    "uncached_input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "image_input",
    "output",
    "audio_output",
)
_TOKEN_NAMES = ", ".join(TOKENS)
_HOUR = f"created_us / {HOUR_US} * {HOUR_US}"

# The old store's rows in the new tables, in the order of these.
ACCOUNTS = """
    INSERT INTO new_accounts SELECT id, name, group_name, rate_ppm, credit_limit,
        available + held, credited, disabled, created_us, revision FROM accounts
"""
KEYS = """
    INSERT INTO new_keys SELECT id, account_id, name, digest, hint, models, NULL, 'total',
        created_us, expires_us, revoked_us, revision FROM keys
"""
LEASES = """
    INSERT INTO leases (account_id, owner, state, granted, spent, opened_us, closed_us)
    SELECT account_id, 'before-leases', 'closed', sum(charge), sum(charge), min(created_us),
        max(settled_us)
    FROM usage WHERE charge > 0 GROUP BY account_id ORDER BY account_id
"""
TRANSFERS = """
    INSERT INTO new_transfers SELECT t.id, t.account_id, t.kind,
        CASE t.kind WHEN 'top_up' THEN 'operator:credits'
            WHEN 'debit' THEN 'account:' || t.account_id
            WHEN 'charge' THEN 'lease:' || l.id ELSE 'operator:absorbed' END,
        CASE t.kind WHEN 'top_up' THEN 'account:' || t.account_id
            WHEN 'debit' THEN 'operator:credits'
            WHEN 'charge' THEN 'operator:revenue' ELSE 'operator:unpaid' END,
        t.amount,
        CASE WHEN t.kind IN ('charge', 'absorbed') THEN 1 ELSE 0 END,
        CASE t.kind WHEN 'charge' THEN l.id END,
        NULL, t.external_id, t.reason, t.created_us
    FROM transfers t LEFT JOIN leases l ON l.account_id = t.account_id
"""
GRANTS = """
    INSERT INTO new_transfers
        (account_id, kind, debit, credit, amount, lease_id, reason, created_us)
    SELECT account_id, 'lease_grant', 'account:' || account_id, 'lease:' || id, granted, id,
        'what was charged before there were leases', closed_us
    FROM leases ORDER BY id
"""
LEASE_HOURS = f"""
    INSERT INTO lease_hours SELECT l.id, {_HOUR} AS hour_us, count(*), sum(u.charge)
    FROM usage u JOIN leases l ON l.account_id = u.account_id
    WHERE u.charge > 0 GROUP BY l.id, hour_us
"""
USAGE = f"""
    INSERT INTO new_usage SELECT u.request_id, u.account_id, key_id, model, channel, dialect,
        stream, outcome, created_us, price_version, rate_ppm, {_TOKEN_NAMES}, due, hold,
        service_tier, tool_calls, flags,
        (SELECT json_group_array(json_array(n, channel, status, error, ms, ttft_ms)) FROM (
            SELECT * FROM attempts a WHERE a.request_id = u.request_id ORDER BY a.n
        )),
        ms, ttft_ms, CASE WHEN charge > 0 THEN l.id END, charge, absorbed, settled_us
    FROM usage u LEFT JOIN leases l ON l.account_id = u.account_id
"""
USAGE_HOURS = f"""
    INSERT INTO new_usage_hours SELECT account_id, key_id, model, hour_us, calls, {_TOKEN_NAMES},
        charge, coalesce(absorbed, 0)
    FROM usage_hours LEFT JOIN (
        SELECT account_id, key_id, model, {_HOUR} AS hour_us, sum(absorbed) AS absorbed
        FROM usage WHERE absorbed > 0 GROUP BY 1, 2, 3, 4
    ) USING (account_id, key_id, model, hour_us)
"""


def _create(name: str, *parts: sa.schema.SchemaItem, rowid: bool = True) -> None:
    op.create_table(name, *parts, sqlite_strict=True, sqlite_with_rowid=rowid)


def _int(name: str, *parts: sa.schema.SchemaItem, **more: object) -> sa.Column[int]:
    return sa.Column(name, INT, *parts, nullable=False, **more)  # type: ignore[arg-type]


def _text(name: str, *parts: sa.schema.SchemaItem, **more: object) -> sa.Column[str]:
    return sa.Column(name, TEXT, *parts, nullable=False, **more)  # type: ignore[arg-type]


def _maybe_int(name: str) -> sa.Column[int]:
    return sa.Column(name, INT)


def _maybe_text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT)


def _tokens() -> list[sa.Column[int]]:
    return [_int(name, server_default="0") for name in TOKENS]


def _index(
    name: str, table: str, columns: list[str], where: str = "", *, unique: bool = False
) -> None:
    part = {f"{engine}_where": sa.text(where) for engine in ("sqlite", "postgresql") if where}
    op.create_index(name, table, columns, unique=unique, **part)  # type: ignore[arg-type]


def upgrade() -> None:
    """Carry over what is there, on SQLite; an older version never made a store on PostgreSQL."""
    _create_leases()
    _create_audited()
    if op.get_bind().dialect.name == "postgresql":
        _replace_empty_tables()
    else:
        _replace_full_tables()
    _create_indexes()


def _replace_empty_tables() -> None:
    for name in ("holds", "attempts", "usage", "usage_hours", "transfers", "keys"):
        op.drop_table(name)
    # References of leases, responses and their items; none of them has a row.
    op.execute("DROP TABLE accounts CASCADE")
    _create_accounts("accounts")
    for name in ("leases", "responses", "response_items"):
        op.create_foreign_key(f"{name}_account_id_fkey", name, "accounts", ["account_id"], ["id"])
    _create_transfers("transfers")
    _create_keys("keys")
    _create_usage("usage")
    _create_usage_hours("usage_hours")


def _replace_full_tables() -> None:
    _create_accounts("new_accounts")
    _create_transfers("new_transfers")
    _create_keys("new_keys")
    _create_usage("new_usage")
    _create_usage_hours("new_usage_hours")
    _run((ACCOUNTS, KEYS, LEASES, TRANSFERS, GRANTS, LEASE_HOURS, USAGE, USAGE_HOURS))
    for name in ("holds", "attempts"):
        op.drop_table(name)
    for name in ("usage", "usage_hours", "transfers", "keys", "accounts"):
        op.drop_table(name)
        op.rename_table(f"new_{name}", name)
    broken = op.get_bind().exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        tables = ", ".join(sorted({row[0] for row in broken}))
        raise StoreError(
            f"The store cannot be migrated: rows refer to what is not there ({tables}). It stays "
            "as it was. Restore a backup, or delete those rows, which PRAGMA foreign_key_check "
            "names."
        )


def _run(statements: Iterable[str]) -> None:
    for statement in statements:
        op.execute(statement)


def _create_accounts(name: str) -> None:
    _create(
        name,
        sa.Column("id", INT, primary_key=True),
        _text("name", unique=True),
        _text("group_name"),
        _maybe_int("rate_ppm"),
        *(
            _int(each, server_default="0")
            for each in ("credit_limit", "available", "credited", "disabled")
        ),
        _int("created_us"),
        _int("revision"),
        sa.CheckConstraint("available >= -credit_limit", name="accounts_above_floor"),
        sa.CheckConstraint("credit_limit >= 0", name="accounts_credit_limit"),
    )


def _create_transfers(name: str) -> None:
    _create(
        name,
        sa.Column("id", INT, primary_key=True),
        _int("account_id", sa.ForeignKey("accounts.id")),
        _text("kind"),
        _text("debit"),
        _text("credit"),
        _int("amount"),
        _int("calls", server_default="0"),
        _maybe_int("lease_id"),
        _maybe_int("corrects"),
        _maybe_text("external_id"),
        _maybe_text("reason"),
        _int("created_us"),
        sa.CheckConstraint("amount > 0", name="transfers_amount"),
    )


def _create_leases() -> None:
    _create(
        "owners",
        _text("id", primary_key=True),
        _text("host"),
        _text("state"),
        _int("heartbeat_us"),
        _int("created_us"),
        rowid=False,
    )
    _create(
        "leases",
        sa.Column("id", INT, primary_key=True),
        _int("account_id", sa.ForeignKey("accounts.id")),
        _text("owner"),
        _text("state"),
        _int("granted"),
        _int("spent", server_default="0"),
        _int("returned", server_default="0"),
        _int("opened_us"),
        _maybe_int("closed_us"),
        sa.CheckConstraint(
            "spent >= 0 AND returned >= 0 AND spent + returned <= granted", name="leases_add_up"
        ),
    )
    _create(
        "lease_hours",
        _int("lease_id", primary_key=True),
        _int("hour_us", primary_key=True),
        _int("calls"),
        _int("charge"),
        rowid=False,
    )


def _create_keys(name: str) -> None:
    _create(
        name,
        _text("id", primary_key=True),
        _int("account_id", sa.ForeignKey("accounts.id")),
        _text("name"),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        _text("hint"),
        _text("models"),
        _maybe_int("budget"),
        _text("budget_period", server_default="total"),
        _int("created_us"),
        _maybe_int("expires_us"),
        _maybe_int("revoked_us"),
        _int("revision"),
    )


def _create_usage(name: str) -> None:
    _create(
        name,
        _text("request_id", primary_key=True),
        _int("account_id"),
        _text("key_id"),
        _text("model"),
        _maybe_text("channel"),
        _text("dialect"),
        _int("stream"),
        _text("outcome"),
        *(_int(each) for each in ("created_us", "price_version", "rate_ppm")),
        *_tokens(),
        _int("due"),
        _int("hold"),
        _maybe_text("service_tier"),
        *(_text(each) for each in ("tool_calls", "flags", "attempts")),
        _int("ms"),
        _maybe_int("ttft_ms"),
        _maybe_int("lease_id"),
        *(_int(each) for each in ("charge", "absorbed", "settled_us")),
        sa.CheckConstraint("charge + absorbed = due", name="usage_adds_up"),
        sa.CheckConstraint("charge >= 0 AND absorbed >= 0", name="usage_amounts"),
    )


def _create_usage_hours(name: str) -> None:
    _create(
        name,
        _int("account_id", primary_key=True),
        _text("key_id", primary_key=True),
        _text("model", primary_key=True),
        _int("hour_us", primary_key=True),
        _int("calls"),
        *_tokens(),
        _int("charge"),
        _int("absorbed", server_default="0"),
        rowid=False,
    )


def _create_audited() -> None:
    _create(
        "sealed_hours",
        _int("hour_us", primary_key=True, autoincrement=False),
        _int("calls"),
        _int("charge"),
        _text("checksum"),
        _int("sealed_us"),
        _maybe_int("dropped_us"),
        rowid=False,
    )
    _create(
        "settle_rejected",
        sa.Column("id", INT, primary_key=True),
        _text("request_id"),
        _text("entry"),
        _text("error"),
        _int("created_us"),
    )


def _create_indexes() -> None:
    unspent = "state IN ('open', 'draining')"
    _index("accounts_by_revision", "accounts", ["revision"])
    _index("keys_by_revision", "keys", ["revision"])
    named = "external_id IS NOT NULL"
    _index("transfers_by_external_id", "transfers", ["external_id"], named, unique=True)
    _index("transfers_by_account", "transfers", ["account_id", "id"])
    _index("leases_unspent", "leases", ["account_id", "owner"], unspent)
    _index("usage_by_time", "usage", ["created_us"])
    _index("usage_undelivered", "usage", ["created_us"], "outcome = 'undelivered'")
    _index("usage_hours_by_hour", "usage_hours", ["hour_us"])

"""The first schema: accounts, keys, catalogues, calls. Frozen; a change is a new file."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
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


def upgrade() -> None:
    """Create everything, with an identity of its own and counters at zero."""
    _create_plain()
    _create_accounts()
    _create_calls()
    facts = sa.table("facts", sa.column("name"), sa.column("value"))
    op.bulk_insert(facts, [{"name": "instance_id", "value": f"fb_{secrets.token_hex(8)}"}])
    revisions = sa.table("revisions", sa.column("name"), sa.column("value"))
    op.bulk_insert(revisions, [{"name": n, "value": 0} for n in ("catalogue", "keys")])


def _create_plain() -> None:
    _create("facts", _text("name", primary_key=True), _text("value"), rowid=False)
    _create("revisions", _text("name", primary_key=True), _int("value"), rowid=False)
    _create(
        "catalogues",
        sa.Column("version", INT, primary_key=True, autoincrement=False),
        _int("created_us"),
        _text("source"),
        _text("origin"),
        _text("document"),
    )


def _create_accounts() -> None:
    _create(
        "accounts",
        sa.Column("id", INT, primary_key=True),
        _text("name", unique=True),
        _text("group_name"),
        _maybe_int("rate_ppm"),
        *(
            _int(name, server_default="0")
            for name in ("credit_limit", "available", "held", "spent", "credited", "disabled")
        ),
        _int("created_us"),
        _int("revision"),
        sa.CheckConstraint("credited = available + held + spent", name="accounts_add_up"),
        sa.CheckConstraint("available >= -credit_limit", name="accounts_above_floor"),
        sa.CheckConstraint("held >= 0", name="accounts_held"),
        sa.CheckConstraint("credit_limit >= 0", name="accounts_credit_limit"),
    )
    op.create_index("accounts_by_revision", "accounts", ["revision"])
    _create(
        "transfers",
        sa.Column("id", INT, primary_key=True),
        _int("account_id", sa.ForeignKey("accounts.id")),
        _text("kind"),
        _int("amount"),
        _maybe_text("external_id"),
        _maybe_text("reason"),
        _maybe_text("request_id"),
        _int("created_us"),
        sa.CheckConstraint("amount > 0", name="transfers_amount"),
    )
    named = sa.text("external_id IS NOT NULL")
    op.create_index(
        "transfers_by_external_id",
        "transfers",
        ["external_id"],
        unique=True,
        sqlite_where=named,
        postgresql_where=named,
    )
    _create(
        "keys",
        _text("id", primary_key=True),
        _int("account_id", sa.ForeignKey("accounts.id")),
        _text("name"),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        _text("hint"),
        _text("models"),
        _int("created_us"),
        _maybe_int("expires_us"),
        _maybe_int("revoked_us"),
        _int("revision"),
    )
    op.create_index("keys_by_revision", "keys", ["revision"])


def _create_calls() -> None:
    _create(
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
    _create(
        "usage",
        _text("request_id", primary_key=True),
        _int("account_id", sa.ForeignKey("accounts.id")),
        _text("key_id"),
        _text("model"),
        _maybe_text("channel"),
        _text("dialect"),
        _int("stream"),
        _text("outcome"),
        *(_int(name) for name in ("created_us", "settled_us", "price_version", "rate_ppm")),
        *_tokens(),
        *(_int(name) for name in ("due", "charge", "absorbed", "hold")),
        _maybe_text("service_tier"),
        _text("tool_calls"),
        _text("flags"),
        _int("ms"),
        _maybe_int("ttft_ms"),
        sa.CheckConstraint("charge + absorbed = due", name="usage_adds_up"),
        sa.CheckConstraint("charge >= 0 AND absorbed >= 0", name="usage_amounts"),
    )
    _create(
        "attempts",
        _text("request_id", sa.ForeignKey("usage.request_id"), primary_key=True),
        _int("n", primary_key=True),
        _text("channel"),
        _maybe_int("status"),
        _maybe_text("error"),
        _int("ms"),
        _maybe_int("ttft_ms"),
        rowid=False,
    )
    _create(
        "usage_hours",
        _int("account_id", sa.ForeignKey("accounts.id"), primary_key=True),
        _text("key_id", primary_key=True),
        _text("model", primary_key=True),
        _int("hour_us", primary_key=True),
        _int("calls"),
        *_tokens(),
        _int("charge"),
        rowid=False,
    )

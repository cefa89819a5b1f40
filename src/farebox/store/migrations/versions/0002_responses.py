"""Responses that are kept for later calls. Frozen; a change is a new file."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _create(name: str, *parts: sa.schema.SchemaItem, rowid: bool = True) -> None:
    op.create_table(name, *parts, sqlite_strict=True, sqlite_with_rowid=rowid)


def _int(name: str, *parts: sa.schema.SchemaItem, **more: object) -> sa.Column[int]:
    return sa.Column(name, INT, *parts, nullable=False, **more)  # type: ignore[arg-type]


def _text(name: str, *parts: sa.schema.SchemaItem, **more: object) -> sa.Column[str]:
    return sa.Column(name, TEXT, *parts, nullable=False, **more)  # type: ignore[arg-type]


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def upgrade() -> None:
    """Create the three tables, with nothing in them."""
    _create(
        "responses",
        _text("id", primary_key=True),
        _int("account_id", sa.ForeignKey("accounts.id")),
        _int("created_us"),
        _int("expires_us"),
        _text("status"),
        _int("background"),
        sa.Column("previous_id", TEXT),
        _text("owner"),
        _int("cancel_requested", server_default="0"),
        _int("items_bytes"),
        _blob("body"),
    )
    running = sa.text("status IN ('queued', 'in_progress')")
    op.create_index(
        "responses_running",
        "responses",
        ["owner"],
        sqlite_where=running,
        postgresql_where=running,
    )
    op.create_index("responses_by_expiry", "responses", ["expires_us"])
    _create(
        "response_items",
        sa.Column("id", INT, primary_key=True),
        _text("response_id", sa.ForeignKey("responses.id", ondelete="CASCADE")),
        _text("side"),
        _int("position"),
        _text("item_id"),
        _int("account_id", sa.ForeignKey("accounts.id")),
        _blob("data"),
        sa.CheckConstraint("side IN ('input', 'output')", name="response_items_side"),
    )
    op.create_index(
        "response_items_in_order",
        "response_items",
        ["response_id", "side", "position"],
        unique=True,
    )
    op.create_index("response_items_by_item", "response_items", ["account_id", "item_id"])
    _create(
        "response_events",
        _text("response_id", sa.ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
        _int("sequence", primary_key=True),
        _blob("data"),
        rowid=False,
    )

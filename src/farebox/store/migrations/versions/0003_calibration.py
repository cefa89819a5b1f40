"""How counted tokens compare with reported ones. Frozen; a change is a new file."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _int(name: str, **more: object) -> sa.Column[int]:
    return sa.Column(name, INT, nullable=False, **more)  # type: ignore[arg-type]


def _text(name: str, **more: object) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False, **more)  # type: ignore[arg-type]


def upgrade() -> None:
    """One table."""
    op.create_table(
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
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )

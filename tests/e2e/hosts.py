"""Gateways on a store of their own or on one that several share, as hosts of one operator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.e2e.config import keys, write_config
from tests.e2e.serving import Serving
from tests.fakes.upstream import FakeUpstream

_SECRET = "5e" * 32  # hosts on one store must have the same


def on_store(
    folder: Path,
    upstream: FakeUpstream,
    database: str,
    *,
    workers: int = 2,
    extra: str = "",
    data: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Serving:
    """A gateway over the fake upstream, not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "secret"
    secret.write_text(_SECRET, encoding="utf-8")
    secret.chmod(0o600)
    config = write_config(folder / "farebox.toml", upstream, extra)
    where = (
        "--config",
        str(config),
        "--data-dir",
        str(data or folder / "data"),
        "--database",
        database,
    )
    args = (*where, "--workers", str(workers), "--no-local")
    secrets = {"FAREBOX_SECRET_FILE": str(secret), **keys(upstream)}
    return Serving(folder, args, {**secrets, **(environ or {})})

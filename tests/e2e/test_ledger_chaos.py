"""Workers, ledger processes and PostgreSQL killed under load: every answer is charged once.

A long run of the same is `python -m bench.chaos`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import postgres
from tests.e2e.chaos import Misfortunes, press
from tests.e2e.hosts import on_store
from tests.fakes.upstream import FakeUpstream

SECONDS = 15.0


@pytest.fixture
def own_postgres() -> Iterator[postgres.Server]:
    """A server that only this test stops and kills."""
    server = postgres.Server()
    yield server
    server.close()


def test_kills_on_sqlite_lose_and_double_nothing(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Workers and the ledger process, killed whenever calls are answered again."""
    database = f"sqlite:///{tmp_path}/farebox.db"
    with on_store(tmp_path, fake_upstream, database, workers=3) as gateway:
        report = press([gateway], database, SECONDS, Misfortunes())
    assert report.violations == [], report
    assert report.whole > 100
    assert min(report.kills["worker"], report.kills["ledger"]) >= 2


def test_kills_and_restarts_with_postgresql_lose_and_double_nothing(
    fake_upstream: FakeUpstream, own_postgres: postgres.Server, tmp_path: Path
) -> None:
    """Two gateways over one PostgreSQL, which is killed and restarted now and then too."""

    def kill_server() -> None:
        own_postgres.kill()
        own_postgres.start()

    database = own_postgres.fresh_database()
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(on_store(tmp_path / name, fake_upstream, database, workers=2))
            for name in ("one", "two")
        ]
        others = [("restart of PostgreSQL", own_postgres.restart), ("PostgreSQL", kill_server)]
        report = press(gateways, database, SECONDS, Misfortunes(others=others, often=0.4))
    assert report.violations == [], report
    assert report.whole > 100
    assert min(report.kills["worker"], report.kills["ledger"]) >= 1
    assert report.kills["PostgreSQL"] + report.kills["restart of PostgreSQL"] >= 1

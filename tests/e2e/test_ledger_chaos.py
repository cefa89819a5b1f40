"""Workers, ledger processes and PostgreSQL killed under load: every answer is charged once.

A long run of the same is `python -m bench.chaos`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import postgres
from tests.e2e.chaos import Misfortunes, Report, press
from tests.e2e.hosts import on_store
from tests.fakes.upstream import FakeUpstream

SECONDS = 60.0  # at most; a busy machine needs longer for as much
ANSWERS = 100
SERVER = ("restart of PostgreSQL", "PostgreSQL")


@pytest.fixture
def own_postgres() -> Iterator[postgres.Server]:
    """A server that only this test stops and kills."""
    server = postgres.Server()
    yield server
    server.close()


def _least(report: Report, *kinds: str) -> int:
    return min(report.kills[kind] for kind in kinds)


def test_kills_on_sqlite_lose_and_double_nothing(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Workers and the ledger process, killed whenever calls are answered again."""

    def enough(report: Report) -> bool:
        return report.whole > ANSWERS and _least(report, "worker", "ledger at work") >= 4

    database = f"sqlite:///{tmp_path}/farebox.db"
    with on_store(tmp_path, fake_upstream, database, workers=3) as gateway:
        report = press([gateway], database, SECONDS, Misfortunes(), enough=enough)
    assert report.violations == [], report
    assert enough(report), report


def test_kills_and_restarts_with_postgresql_lose_and_double_nothing(
    fake_upstream: FakeUpstream, own_postgres: postgres.Server, tmp_path: Path
) -> None:
    """Two gateways over one PostgreSQL, which is killed and restarted now and then too."""

    def kill_server() -> None:
        own_postgres.kill()
        own_postgres.start()

    def enough(report: Report) -> bool:
        ours = _least(report, "worker", "ledger at work") >= 3
        return report.whole > ANSWERS and ours and _least(report, *SERVER) >= 2

    database = own_postgres.fresh_database()
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(on_store(tmp_path / name, fake_upstream, database, workers=2))
            for name in ("one", "two")
        ]
        others = [*zip(SERVER, (own_postgres.restart, kill_server), strict=True)]
        misfortunes = Misfortunes(others=others, often=0.4)
        report = press(gateways, database, SECONDS, misfortunes, enough=enough)
    assert report.violations == [], report
    assert enough(report), report

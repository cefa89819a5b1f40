"""A gateway over each vendor that speaks chat only, started once; a purse for each test.

Tests of the Messages API ask for one over a vendor that speaks that, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.agents import Agents
from tests.clients.gateway import UPSTREAM_NAMES, Purse, gateway_over
from tests.e2e.serving import Serving
from tests.fakes.upstream import FakeUpstream


@pytest.fixture(scope="session")
def fake_upstream_server() -> Iterator[FakeUpstream]:
    """One for these tests alone: the gateways keep connections to it open between tests."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session", params=UPSTREAM_NAMES)
def gateway(
    request: pytest.FixtureRequest,
    fake_upstream_server: FakeUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serving]:
    """Tests that take it run once over each vendor."""
    folder = tmp_path_factory.mktemp(request.param)
    with gateway_over(request.param, fake_upstream_server, folder) as serving:
        yield serving


@pytest.fixture
def purse(gateway: Serving, fake_upstream: FakeUpstream) -> Purse:
    """An account that this test has for itself; what the upstream records begins here."""
    return Purse.fresh(gateway)


@pytest.fixture
def agents(purse: Purse, tmp_path: Path) -> Agents:
    """A home without any settings and an empty folder to work in."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    return Agents(home, work, purse)

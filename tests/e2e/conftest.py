"""Gateways that several tests share: one over the fake upstream, one with the local model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.config import keys, write_config
from tests.e2e.serving import Serving
from tests.fakes.upstream import FakeUpstream


@pytest.fixture(scope="session")
def fake_upstream_server() -> Iterator[FakeUpstream]:
    """One for these tests alone: the gateway keeps connections to it open between tests."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def gateway(
    fake_upstream_server: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    """Two workers over the fake upstream, with every vendor, as a configuration file says."""
    folder = tmp_path_factory.mktemp("gateway")
    config = write_config(folder / "farebox.toml", fake_upstream_server)
    environ = keys(fake_upstream_server)
    args = ("--config", str(config), "--data-dir", str(folder / "data"), "--workers", "2")
    with Serving(folder, args, environ) as serving:
        yield serving


@pytest.fixture(scope="session")
def local_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A first run without any configuration: the embedded model, the account demo."""
    with Serving(tmp_path_factory.mktemp("local")) as serving:
        yield serving

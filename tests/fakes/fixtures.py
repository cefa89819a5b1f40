"""The fake upstream as a fixture: one server for all tests of a run, without earlier requests."""

from collections.abc import Iterator

import pytest

from tests.fakes.upstream import FakeUpstream


@pytest.fixture(scope="session")
def fake_upstream_server() -> Iterator[FakeUpstream]:
    """The server itself; tests take `fake_upstream`."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def fake_upstream(fake_upstream_server: FakeUpstream) -> FakeUpstream:
    """The running server; what it records begins with this test."""
    fake_upstream_server.clear()
    fake_upstream_server.loop_to = fake_upstream_server.loop_key = ""
    return fake_upstream_server

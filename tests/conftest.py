"""What every test shares: the async backend, Hypothesis' limits, and the fake upstream."""

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.fakes.fixtures",)

# No deadline per example: two busy cores say nothing about the code. In CI the examples are
# the same each time, so that a red run can be repeated.
settings.register_profile("farebox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("farebox"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "farebox")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, the only loop that the gateway runs on."""
    return "asyncio"

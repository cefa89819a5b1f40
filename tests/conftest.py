"""What every test shares: the async backend, Hypothesis' limits, the fake upstream, databases, and
where files go.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import memory
from tests import postgres as postgresql

pytest_plugins = ("tests.fakes.fixtures",)

# No deadline per example: two busy cores say nothing about the code. In CI the examples are
# the same each time, so that a red run can be repeated.
settings.register_profile("farebox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("farebox"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "farebox")

# What a failed test shows of the log has plain tracebacks, as the gateway's own log has: to print
# structlog's pretty ones took longer than the tests that log them.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)

_MOST_PROCESSES = 4  # what several of them start takes cores too


@pytest.hookimpl(optionalhook=True)  # for who runs pytest with `-p no:xdist`
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`: a process for each usable core, but for a few tests none beside pytest's own."""
    if _names_files(config) or config.option.capture == "no":
        return 0
    usable = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    return min(len(usable), _MOST_PROCESSES)


def _names_files(config: pytest.Config) -> bool:
    return all(argument.partition("::")[0].endswith(".py") for argument in config.args)


@pytest.hookimpl(tryfirst=True)  # before it is decided where `tmp_path` is
def pytest_configure(config: pytest.Config) -> None:
    """Many tests write to memory, where there is room: thousands of stores are made, and waiting
    for the disk at each commit took a tenth of the time. What a few tests leave can be looked at,
    and of others too if TMPDIR is given.
    """
    if hasattr(config, "workerinput") or _names_files(config) or "TMPDIR" in os.environ:
        return
    where = memory.place()
    if where is not None:
        os.environ["TMPDIR"] = tempfile.tempdir = memory.folder(where)
        config.option.basetemp = config.option.basetemp or f"{tempfile.tempdir}/t"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, the only loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture
def postgres() -> Iterator[postgresql.Server]:
    """The PostgreSQL server of this test process; a test that stops it leaves it to this."""
    server = postgresql.server()
    yield server
    if not server.is_running:
        server.start()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with nothing in it, on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/farebox.db"
        return
    server: postgresql.Server = request.getfixturevalue("postgres")
    url = server.fresh_database()
    yield url
    if not server.is_running:
        server.start()
    server.drop(url)

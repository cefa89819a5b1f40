"""The client under test, with a watch over what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from farebox.core.settings import Settings
from farebox.upstream.client import Client
from farebox.upstream.tls import ClientContext
from tests.upstream import real_servers
from tests.upstream.certificates import trusting

# Fixtures that are asked for by name.
fake, llama = real_servers.fake, real_servers.llama
nginx, nginx_ports = real_servers.nginx, real_servers.nginx_ports
pythons, pythons_streams = real_servers.pythons, real_servers.pythons_streams
pythons_ports, pythons_tls = real_servers.pythons_ports, real_servers.pythons_tls

MakeClient = Callable[..., Client]
TLS = trusting()  # costs tens of milliseconds: made once


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both loops: uvloop is what serves, asyncio is what it stands in for."""
    return request.param


@pytest.fixture(scope="session")
def old_heap() -> Iterator[None]:
    """Garbage is looked for after each test here, which is slow where all of pytest is looked
    through: what is there before the first of them is left out.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
async def make_client(
    tmp_path: Path, anyio_backend: Any, old_heap: None
) -> AsyncIterator[MakeClient]:
    """A maker of clients. Afterwards no connection, task or unseen exception may be left."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    previous = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    clients: list[Client] = []

    def make(
        *,
        tls: ClientContext | None = None,
        proxies: Mapping[str, str] | None = None,
        **limits: Any,
    ) -> Client:
        settings = Settings(data_dir=tmp_path, database="", **limits)
        clients.append(Client(settings, tls=tls or TLS, proxies=proxies or {}))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()
        assert client.open_connections == 0
    await asyncio.sleep(0.01)
    assert [task for task in asyncio.all_tasks() if _is_ours(task)] == []
    gc.collect()  # an exception that nobody looked at is reported when its future is collected
    loop.set_exception_handler(previous)
    assert complaints == []


def _is_ours(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "farebox/upstream" in code.co_filename

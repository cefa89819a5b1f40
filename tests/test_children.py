"""The embedded model's place: one that does not load or stops answering is replaced."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from farebox.children import Health, Model

pytestmark = pytest.mark.anyio

# Stands in for the model: healthy while a file is there; what it was told is in another.
STAND_IN = """
import http.server, json, os, pathlib, socket, sys
folder = pathlib.Path(sys.argv[1])
wanted = json.loads(sys.stdin.readline())

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if (folder / "healthy").exists() else 503)
        self.end_headers()

class Server(http.server.HTTPServer):
    allow_reuse_port = True

server = Server(("127.0.0.1", wanted["port"]), Handler)
(folder / f"life-{os.getpid()}").write_text(str(wanted["port"]))
server.serve_forever()
"""
QUICK = Health(load_limit_s=5, while_loading_s=0.02, every_s=0.05, answer_limit_s=2, failures=3)
LIMIT_S = 20


@asynccontextmanager
async def _model(folder: Path, said: list[str], health: Health) -> AsyncIterator[Model]:
    command = (sys.executable, "-c", STAND_IN, str(folder))
    model = Model(folder / "local-model.log", said.append, command, health)
    running = asyncio.create_task(model.run())
    try:
        yield model
    finally:
        model.kill()
        await running
        model.close()


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():
            await asyncio.sleep(0.02)


def _lives(folder: Path) -> dict[str, str]:
    """The port that each life of the model was given, by its file."""
    return {path.name: path.read_text() for path in folder.glob("life-*")}


async def test_a_model_that_stops_answering_is_replaced(tmp_path: Path) -> None:
    """After some failures in a row it is killed, said so, and started again on its port."""
    said: list[str] = []
    (tmp_path / "healthy").touch()
    async with _model(tmp_path, said, QUICK) as model:
        assert await asyncio.wait_for(model.first_ready(), LIMIT_S) is None
        (tmp_path / "healthy").unlink()
        await _until(lambda: not model.ready.is_set())
        (tmp_path / "healthy").touch()
        await asyncio.wait_for(model.ready.wait(), LIMIT_S)
        ports = _lives(tmp_path)
    assert len(ports) == 2
    assert set(ports.values()) == {model.endpoint.base_url.rpartition(":")[2].removesuffix("/v1")}
    assert said[0] == "The local model does not answer.\n"
    assert said[1].startswith("The local model was ended by SIGKILL. Starting it again in 0.1 s")


async def test_a_model_that_is_well_is_left_alone(tmp_path: Path) -> None:
    """Single failures are forgiven."""
    said: list[str] = []
    (tmp_path / "healthy").touch()
    patient = Health(while_loading_s=0.02, every_s=0.05, failures=1000)
    async with _model(tmp_path, said, patient) as model:
        assert await asyncio.wait_for(model.first_ready(), LIMIT_S) is None
        (tmp_path / "healthy").unlink()
        await asyncio.sleep(0.3)
        assert model.ready.is_set()
        assert len(_lives(tmp_path)) == 1
    assert said == []


async def test_a_model_that_does_not_load_is_ended(tmp_path: Path) -> None:
    """After its time to load it is killed, and whoever waits for it learns how it ended."""
    said: list[str] = []
    short = Health(load_limit_s=0.2, while_loading_s=0.02)
    async with _model(tmp_path, said, short) as model:
        end = await asyncio.wait_for(model.first_ready(), LIMIT_S)
    assert end == "was ended by SIGKILL"
    assert said[0] == "The local model did not load in 0.2 s.\n"


async def test_a_program_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    """It ends nobody else; its end says what is wrong."""
    model = Model(tmp_path / "log", lambda text: None, ("/nowhere/llama",))
    running = asyncio.create_task(model.run())
    end = await asyncio.wait_for(model.first_ready(), LIMIT_S)
    assert (end or "").startswith("could not be started:")
    assert not running.done()
    model.kill()
    await running
    model.close()

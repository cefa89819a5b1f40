"""Other gateways, each installed in the cache folder and started as its own manual says.

One worker, no plugins, caches or databases: what they do without being asked, less limits that a
measurement would run into. ferrogw (and perhaps Portkey) listens on all addresses, not only on
loopback, and has no flag for that. A peer that cannot be had or started raises PeerMissing, with
the reason.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.compiler import cache_folder
from bench.servers import Running, Target, Way, environ, free_port, largest, start
from bench.wire import Script

_INSTALL_LIMIT_S = 900.0
_READY_LIMIT_S = 120.0
_FERROGW = "1.5.10"
_LITELLM = "1.106.0"
_PORTKEY = "1.15.2"
# With later ones (1.14.4 and 1.19 were tried) Portkey 1.15 answers every stream with 500.
_PORTKEY_PINS = {"@hono/node-server": "1.13.8"}
# They want secrets of their own, which no one else has to know here.
_FERROGW_KEY = "fgw_" + secrets.token_hex(16)
_LITELLM_KEY = "sk-" + secrets.token_hex(24)


class PeerMissing(Exception):
    """A gateway that is not there to compare with, and why."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a peer finds what it needs."""

    folder: Path  # of its own, made by it
    upstream: int  # the mock's port
    scripts: dict[str, Script]  # by model


@dataclass(frozen=True, slots=True)
class Peer:
    """An installed gateway."""

    name: str
    command: Sequence[str]
    port: int
    folder: Path
    way: Way
    upstream: int
    health: str  # a path that answers 200 when it is ready
    key: str = "none"
    model: str = ""  # the only one that it knows
    env: dict[str, str] = field(default_factory=dict[str, str])

    def start(self) -> tuple[Running, Target]:
        """Run it."""
        url = f"http://127.0.0.1:{self.port}{self.health}"

        def is_ready(process: subprocess.Popen[bytes]) -> bool:
            del process
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    return answer.status == 200
            except (urllib.error.URLError, OSError):
                return False

        running = start(self.command, self.folder, is_ready, env=self.env, limit_s=_READY_LIMIT_S)
        pid = running.process.pid
        target = Target(self.name, self.port, self.key, (pid,), largest((pid,)), self.way)
        target.upstream, target.model = self.upstream, self.model
        return running, target


def install(name: str, places: Places) -> Peer:
    """Install it, if that is not done, and make its configuration. Raises PeerMissing."""
    if name not in _MAKERS:
        raise PeerMissing(f"there is no gateway of that name; known are {', '.join(PEERS)}")
    places.folder.mkdir()
    return _MAKERS[name](places)


def _litellm(places: Places) -> Peer:
    program = _from_pypi("litellm", f"litellm[proxy]=={_LITELLM}")
    models = [
        {
            "model_name": model,
            "litellm_params": {
                "model": f"openai/{model}",
                "api_base": f"http://127.0.0.1:{places.upstream}{script.prefix}/v1",
                "api_key": "sk-upstream-of-the-benchmark",
            },
        }
        for model, script in places.scripts.items()
    ]
    config = places.folder / "config.yaml"
    config.write_text(json.dumps({"model_list": models}))  # JSON is YAML
    port = free_port()
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1"]
    return Peer(
        "litellm",
        command,
        port,
        places.folder,
        "model",
        places.upstream,
        "/health/liveliness",
        _LITELLM_KEY,
        env={
            "LITELLM_MASTER_KEY": _LITELLM_KEY,  # without one it does not start
            # Its price list would be fetched from the net, and it tells its makers of its use.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
        },
    )


def _portkey(places: Places) -> Peer:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise PeerMissing("node and npm are not on the PATH (Debian: apt install nodejs npm)")
    package = f"@portkey-ai/gateway@{_PORTKEY}"
    folder = cache_folder() / f"portkey-{_PORTKEY}"
    program = folder / "node_modules/@portkey-ai/gateway/build/start-server.js"

    def load() -> None:
        manifest = {"private": True, "overrides": _PORTKEY_PINS}
        (folder / "package.json").write_text(json.dumps(manifest))
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        _call([npm, "install", *options, package])

    _once(folder, load)
    port = free_port()
    command = [node, str(program), "--headless", f"--port={port}"]
    return Peer("portkey", command, port, places.folder, "header", places.upstream, "/")


def _ferrogw(places: Places) -> Peer:
    program = _from_pypi("ferrogw", f"ferrogw=={_FERROGW}")
    config = places.folder / "config.yaml"
    config.write_text("strategy:\n  mode: fallback\ntargets:\n  - virtual_key: openai\n")
    port = free_port()
    prefix = places.scripts["peer-burst"].prefix  # it has one upstream: the mock answers both ways
    return Peer(
        "ferrogw",
        [str(program), "serve"],
        port,
        places.folder,
        "model",
        places.upstream,
        "/readyz",
        _FERROGW_KEY,
        "gpt-4o",  # it refuses names that are not in its list
        env={
            "GATEWAY_CONFIG": str(config),
            "MASTER_KEY": _FERROGW_KEY,
            "PORT": str(port),
            "OPENAI_API_KEY": "sk-upstream-of-the-benchmark",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{places.upstream}{prefix}",
            "RATE_LIMIT_RPS": "1000000",  # else 20 calls a second
            "RATE_LIMIT_BURST": "1000000",
        },
    )


_MAKERS: dict[str, Callable[[Places], Peer]] = {
    "ferrogw": _ferrogw,
    "portkey": _portkey,
    "litellm": _litellm,
}
PEERS = tuple(_MAKERS)


def _from_pypi(program: str, requirement: str) -> Path:
    """A program of a Python package, in a virtual environment of its own."""
    folder = cache_folder() / requirement.replace("[", "-").replace("]", "").replace("==", "-")

    def load() -> None:
        _call([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
        _call([*pip, "--disable-pip-version-check", requirement])

    _once(folder, load)
    return folder / "bin" / program


def _once(folder: Path, load: Callable[[], None]) -> None:
    """Fill a folder, unless that was done to the end."""
    done = folder / "installed"
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    load()
    done.touch()


def _call(command: Sequence[str]) -> None:
    try:
        subprocess.run(  # noqa: S603 (made of our own words)
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=_INSTALL_LIMIT_S,
            env=environ(),
        )
    except subprocess.CalledProcessError as error:
        raise PeerMissing(f"it could not be installed: {error.stderr.strip()[-500:]}") from None
    except subprocess.TimeoutExpired:
        raise PeerMissing("installing it took too long") from None

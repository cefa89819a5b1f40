"""The servers under test, each a process of its own in a folder of its own: Farebox, nginx, none.

Everything listens on loopback and ends with the run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import proc
from bench.wire import COMPLETIONS, ROUTES, Script

_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 45.0
_FAREBOX = str(Path(sys.executable).with_name("farebox"))
_NGINX = shutil.which("nginx")
_CREDITS = "1000000"
_FOREIGN = ("FAREBOX_", "PYTHONDONTWRITEBYTECODE")  # and whatever names vendors or proxies

_CATALOGUE = """
[[channels]]
id = "{id}"
vendor = "openai_compatible"
base_url = "http://127.0.0.1:{port}{prefix}/v1"
api_key = "file:upstream.key"

[[models]]
id = "{id}"
context = 1000000
max_output = 16000
channels = [{{ channel = "{id}", model = "{id}" }}]
price = {{ input = "0.5", output = "2" }}
"""

_NGINX_CONF = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  keepalive_requests 1000000000;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(slots=True)
class Running:
    """A process that was started here."""

    process: subprocess.Popen[bytes]
    ready_s: float  # from its start to the first call that it would have answered

    def stop(self) -> None:
        """End it, and wait for that."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(slots=True)
class Target:
    """Where a measurement goes. `worker` is the process whose memory counts; 0: none."""

    name: str
    port: int
    key: str = "none"
    roots: tuple[int, ...] = ()
    worker: int = 0

    def dialect(self, wanted: str) -> str:
        """What it is asked in: the others pass on what the mock speaks."""
        return wanted if self.name == "farebox" else "chat"

    def path(self, script: Script, dialect: str = "chat") -> str:
        """Farebox knows by the model where a call goes; the others pass the path on."""
        return ROUTES[dialect] if self.name == "farebox" else script.prefix + COMPLETIONS


def environ() -> dict[str, str]:
    """The environment without anything that would change what is measured."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN)
        and not name.upper().endswith(("_API_KEY", "_BASE_URL", "_PROXY"))
    }


@dataclass(frozen=True, slots=True)
class Mock:
    """The upstream."""

    pid: int
    port: int


def start_mock() -> tuple[Running, Mock]:
    """Run the upstream."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.mock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ(),
    )
    assert process.stdout is not None
    return Running(process, 0.0), Mock(process.pid, int(process.stdout.readline()))


class Farebox:
    """One data folder and one configuration; started and stopped any number of times."""

    def __init__(self, folder: Path, upstream: int, scripts: dict[str, Script]) -> None:
        """`scripts` by the id of the model that has them answered."""
        self._folder = folder
        self._port = free_port()
        self._config = folder / "farebox.toml"
        folder.mkdir()
        (folder / "upstream.key").write_text("sk-upstream-of-the-benchmark\n")
        parts = [
            _CATALOGUE.format(id=name, port=upstream, prefix=script.prefix)
            for name, script in scripts.items()
        ]
        parts.append('[[groups]]\nid = "default"\nrate = "1.0"\n')
        self._config.write_text("".join(parts))
        self._key = ""

    def start(self) -> tuple[Running, Target]:
        """`farebox serve`, with one worker and its log in a file."""
        command = [_FAREBOX, "serve", "--json", "--no-local", "--workers", "1"]
        command += ["--port", str(self._port), *self._where()]
        begun_s = time.perf_counter()
        with (self._folder / "serve.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 (made of our own words)
                command, stdout=subprocess.PIPE, stderr=log, env=environ(), cwd=self._folder
            )
        _read_json(process, self._folder / "serve.log")
        running = Running(process, time.perf_counter() - begun_s)
        if not self._key:
            self._cli("accounts", "create", "bench", "--credits", _CREDITS)
            self._key = str(self._cli("keys", "create", "--account", "bench")["key"])
        below = proc.tree(process.pid)
        workers = [pid for pid in below if "farebox.app" in proc.command_line(pid)]
        assert len(workers) == 1, below
        return running, Target("farebox", self._port, self._key, (process.pid,), workers[0])

    def calls_charged(self) -> int:
        """Calls in the books, all of them charged."""
        total = self._cli("usage", "--by", "model")["total"]
        assert total["charge_nanocredits"] > 0
        return int(total["calls"])

    def _where(self) -> list[str]:
        return ["--config", str(self._config), "--data-dir", str(self._folder / "data")]

    def _cli(self, *words: str) -> dict[str, dict[str, int]]:
        done = subprocess.run(  # noqa: S603 (made of our own words)
            [_FAREBOX, *words, "--json", *self._where()],
            capture_output=True,
            check=True,
            env=environ(),
            cwd=self._folder,
        )
        return json.loads(done.stdout)


class Nginx:
    """Debian's nginx or any other that is on the PATH: one worker, a plain reverse proxy."""

    def __init__(self, folder: Path, upstream: int) -> None:
        self._folder = folder
        self._port = free_port()
        folder.mkdir()
        text = _NGINX_CONF.format(folder=folder, port=self._port, upstream=upstream)
        (folder / "nginx.conf").write_text(text)

    @staticmethod
    def version() -> str | None:
        """Its version; None if there is none."""
        if _NGINX is None:
            return None
        command = [_NGINX, "-v"]
        done = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603
        return done.stderr.strip().rpartition("/")[2]

    def start(self) -> tuple[Running, Target]:
        """Run it."""
        assert _NGINX is not None
        command = [_NGINX, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
        command += ["-e", "stderr"]
        begun_s = time.perf_counter()
        with (self._folder / "stderr.log").open("ab") as log:
            process = subprocess.Popen(command, stderr=log, env=environ())  # noqa: S603
        # The master listens before it has a worker to answer.
        while not (_answers(self._port) and proc.tree(process.pid)[1:]):
            if process.poll() is not None or time.perf_counter() > begun_s + _START_LIMIT_S:
                raise RuntimeError((self._folder / "stderr.log").read_text())
            time.sleep(0.002)
        running = Running(process, time.perf_counter() - begun_s)
        workers = proc.tree(process.pid)[1:]
        return running, Target("nginx", self._port, "none", (process.pid,), workers[0])


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop_all(running: Sequence[Running]) -> None:
    """End them, the last first, so that nobody's upstream goes before it does."""
    for one in reversed(running):
        one.stop()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _read_json(process: subprocess.Popen[bytes], log: Path) -> dict[str, object]:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line.decode()
        try:
            return json.loads(text)
        except ValueError:
            continue
    raise RuntimeError(f"serve ended before it was ready:\n{log.read_text()}")

"""Farebox under test: one data folder and one configuration, with everything on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench import proc
from bench.servers import Running, Target, die_with_us, environ, free_port
from bench.wire import Script

_FAREBOX = str(Path(sys.executable).with_name("farebox"))
_CREDITS = "1000000"

_CATALOGUE = """
[[channels]]
id = "{id}"
vendor = "openai_compatible"
base_url = "{base_url}{prefix}/v1"
api_key = "file:upstream.key"

[[models]]
id = "{id}"
context = 1000000
max_output = 16000
channels = [{{ channel = "{id}", model = "{id}" }}]
price = {{ input = "0.5", output = "2" }}
"""


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Base URLs of the mock. Without an https one, what needs it is left out."""

    http: str
    https: str = ""
    authority: Path | None = None  # the certificate to trust for https


class Farebox:
    """Started and stopped any number of times."""

    def __init__(
        self,
        folder: Path,
        upstreams: Upstreams,
        scripts: dict[str, Script],
        *,
        name: str = "farebox",
        workers: int = 1,
    ) -> None:
        """`scripts` by the id of the model that has them answered; ids that end in -tls have them
        answered over https.
        """
        self.name = name
        self._folder = folder
        self._port = free_port()
        self._workers = workers
        self._authority = upstreams.authority
        self._has_https = bool(upstreams.https)
        self._config = folder / "farebox.toml"
        folder.mkdir()
        (folder / "upstream.key").write_text("sk-upstream-of-the-benchmark\n")
        parts = [
            _CATALOGUE.format(id=model, base_url=base_url, prefix=script.prefix)
            for model, script in scripts.items()
            if (base_url := upstreams.https if model.endswith("-tls") else upstreams.http)
        ]
        parts.append('[[groups]]\nid = "default"\nrate = "1.0"\n')
        # All streams are of one upstream, and those that are timed beside them too.
        parts.append("[server]\npool_per_origin = 2000\n")
        self._config.write_text("".join(parts))
        self._key = ""

    @property
    def database(self) -> Path:
        """Its SQLite store."""
        return self._folder / "data" / "farebox.db"

    def start(self) -> tuple[Running, Target]:
        """`farebox serve`, with its log in a file."""
        command = [_FAREBOX, "serve", "--json", "--no-local", "--workers", str(self._workers)]
        command += ["--port", str(self._port), *self._where()]
        begun_s = time.perf_counter()
        with (self._folder / "serve.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 (made of our own words)
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environ(),
                cwd=self._folder,
                preexec_fn=die_with_us,  # noqa: PLW1509 (there is only this thread)
            )
        running = Running(process, 0.0)
        try:
            _read_json(process, self._folder / "serve.log")
            running.ready_s = time.perf_counter() - begun_s
            if not self._key:
                self._cli("accounts", "create", "bench", "--credits", _CREDITS)
                self._key = str(self._cli("keys", "create", "--account", "bench")["key"])
            below = proc.tree(process.pid)
            workers = [pid for pid in below if "farebox.app" in proc.command_line(pid)]
            assert len(workers) == self._workers, below
        except BaseException:
            running.stop()
            raise
        target = Target(self.name, self._port, self._key, (process.pid,), workers[0], "model")
        target.tls_port = self._port if self._has_https else 0
        target.speaks_all = True
        return running, target

    def calls_charged(self) -> int:
        """Calls in the books."""
        return int(self._cli("usage", "--by", "model", "--since", "80d")["total"]["calls"])

    def audit(self) -> None:
        """Have the books proved. Raises CalledProcessError when they do not add up."""
        self._cli("audit")

    def _environ(self) -> dict[str, str]:
        if self._authority is None:
            return environ()
        return {**environ(), "SSL_CERT_FILE": str(self._authority)}

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

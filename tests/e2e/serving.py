"""A real `farebox serve` as a child process, and the command line beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from tests.e2e import command

FAREBOX = (str(Path(sys.executable).with_name("farebox")),)
_ANSWER_S = 60


def clean_environ(**more: str) -> dict[str, str]:
    """The environment without anything that this gateway would read, and these on top."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FAREBOX_") and not name.endswith(("_API_KEY", "_BASE_URL"))
    }
    return {**kept, **more}


@dataclass
class Answer:
    """What came back from a plain HTTP call."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Serving:
    """`with Serving(folder, ...) as gateway:`; what it printed at its start is `said`."""

    folder: Path
    args: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    said: dict[str, Any] = field(default_factory=dict[str, Any])

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "serve.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*FAREBOX, "serve", "--json", "--port", "0", *self.args],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environ,
                cwd=self.folder,
            )
        self.said = self._read_announcement()
        return self

    def _read_announcement(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line.decode()
            try:
                return json.loads(text)
            except ValueError:
                continue
        raise AssertionError(f"serve ended before it was ready:\n{self.log.read_text()}")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(45)
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def base_url(self) -> str:
        return self.said["base_url"]

    @property
    def origin(self) -> str:
        return self.base_url.removesuffix("/v1")

    @property
    def key(self) -> str:
        """The key of the first run's account, or of one made here."""
        if not self.said.get("key"):
            self.cli("accounts", "create", "tester", "--credits", "100")
            self.said["key"] = self.cli("keys", "create", "--account", "tester")["key"]
        return self.said["key"]

    def run(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """A verb of the command line on this gateway's store."""
        where = [] if "--data-dir" in args else self._where()
        if args[:1] != ("serve",):
            words = (*args, *where)
            return command.run(words, environ=self._environ, folder=self.folder, stdin=stdin)
        return subprocess.run(
            [*FAREBOX, *args, *where],
            input=stdin,
            capture_output=True,
            text=True,
            env=self._environ,
            cwd=self.folder,
            timeout=60,
            check=False,
        )

    @property
    def _environ(self) -> dict[str, str]:
        # Money that no call needs comes back at once, so that a test need not wait for it.
        ours = {"XDG_DATA_HOME": str(self.folder / "xdg"), "FAREBOX_LEASE_IDLE_S": "0.05"}
        return clean_environ(**{**ours, **self.environ})

    def _where(self) -> list[str]:
        kept: list[str] = []
        for flag in ("--data-dir", "--database"):
            if flag in self.args:
                kept += [flag, self.args[self.args.index(flag) + 1]]
        return kept

    def cli(self, *args: str, stdin: str | None = None) -> Any:
        """The same with --json, decoded. Raises AssertionError when the verb fails."""
        done = self.run(*args, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def account(self, key: str | None = None) -> dict[str, Any]:
        """The money fields of a key's account, as they are in this moment."""
        return self.get("/v1/credits", key).json

    def money(self, key: str | None = None, timeout_s: float = 10) -> dict[str, Any]:
        """The same when no call is in flight any more, and nothing is held."""
        until(lambda: self.account(key)["held_nanocredits"] == 0, timeout_s, "nothing is held")
        return self.account(key)

    def get(self, path: str, key: str | None = None, **headers: str) -> Answer:
        return self.request("GET", path, key=key, headers=headers)

    def chat(self, key: str | None = None, **body: Any) -> Answer:
        """POST /v1/chat/completions."""
        return self.request("POST", "/v1/chat/completions", json.dumps(body).encode(), key=key)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call on a connection of its own. `key=""` sends none. Raises AssertionError when
        there is no whole answer.
        """
        key = self.key if key is None else key
        sent = {"Authorization": f"Bearer {key}"} if key else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        where = urlsplit(self.origin)
        with closing(HTTPConnection(where.netloc, timeout=_ANSWER_S)) as connection:
            try:
                connection.request(method, path, body, sent)
                answer = connection.getresponse()
                received = answer.read()
            except (OSError, HTTPException) as error:
                raise AssertionError(f"{method} {path} was not answered: {error!r}") from error
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, told, received)

    def receipt(self, answer: Answer, key: str | None = None) -> dict[str, Any]:
        """The receipt of an answer's call."""
        found = self.get(f"/v1/receipts/{answer.headers['x-request-id']}", key)
        assert found.status == 200, found
        return found.json


def events(body: bytes) -> list[Any]:
    """The data of each event of a stream, decoded; `[DONE]` as text."""
    datas = [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]
    return ["[DONE]" if data == b"[DONE]" else msgspec.json.decode(data) for data in datas]


def until(true: Any, timeout_s: float, what: str) -> float:
    """Ask again until it is true; the seconds that it took. Raises AssertionError."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started

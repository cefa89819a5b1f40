"""What a benchmark starts: processes in folders of their own, and where measurements go.

Everything listens on loopback and ends with the run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from bench import proc
from bench.wire import COMPLETIONS, NO_HEADERS, ROUTES, Script

START_LIMIT_S = 30.0
_STOP_LIMIT_S = 45.0
_LOOK_AGAIN_S = 0.002
_PR_SET_PDEATHSIG = 1
_FOREIGN = ("FAREBOX_", "PYTHONDONTWRITEBYTECODE")  # and whatever names vendors or proxies

# By what a server knows which of the mock's scripts is meant: the model, the path that it passes
# on, or a header with the upstream's address.
Way = Literal["model", "path", "header"]


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
    way: Way = "path"
    tls_port: int = 0  # where it is asked for what it gets from the upstream over https
    upstream: int = 0  # the port that a header names
    model: str = ""  # that it is asked for, whatever the case
    speaks_all: bool = False  # it translates other dialects; else it is asked in chat

    def dialect(self, wanted: str) -> str:
        """What it is asked in: others than Farebox pass on what the mock speaks."""
        return wanted if self.speaks_all else "chat"

    def path(self, script: Script, dialect: str = "chat") -> str:
        """Where it is asked."""
        return script.prefix + COMPLETIONS if self.way == "path" else ROUTES[dialect]

    def headers(self, script: Script) -> Mapping[str, str]:
        """What a request carries besides the key."""
        if self.way != "header":
            return NO_HEADERS
        base_url = f"http://127.0.0.1:{self.upstream}{script.prefix}/v1"
        return {"x-portkey-provider": "openai", "x-portkey-custom-host": base_url}


class Server(Protocol):
    """Something that can be measured: started and stopped any number of times."""

    def start(self) -> tuple[Running, Target]:
        """Run it until it answers. Raises RuntimeError when it does not."""
        ...


@dataclass(frozen=True, slots=True)
class Mock:
    """The upstream."""

    pid: int
    port: int


def environ() -> dict[str, str]:
    """The environment without anything that would change what is measured."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN)
        and not name.upper().endswith(("_API_KEY", "_BASE_URL", "_PROXY"))
    }


def die_with_us() -> None:
    """To be run in a child before it becomes its program: it is told to end when this process has,
    however that came. Source: PR_SET_PDEATHSIG(2const). A child of a thread ends with the thread.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start_mock(program: Path) -> tuple[Running, Mock]:
    """Run the upstream."""
    process = subprocess.Popen(  # noqa: S603 (made of our own words)
        [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ()
    )
    assert process.stdout is not None
    return Running(process, 0.0), Mock(process.pid, int(process.stdout.readline()))


def start(
    command: Sequence[str],
    folder: Path,
    is_ready: Callable[[subprocess.Popen[bytes]], bool],
    *,
    env: Mapping[str, str] | None = None,
    limit_s: float = START_LIMIT_S,
) -> Running:
    """Run a server until it is ready, with what it says in `folder`/log. Raises RuntimeError."""
    begun_s = time.perf_counter()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 (made of our own words)
            command,
            stdout=log,
            stderr=log,
            env={**environ(), **(env or {})},
            cwd=folder,
            preexec_fn=die_with_us,  # noqa: PLW1509 (there is only this thread)
        )
    while not is_ready(process):
        if process.poll() is not None or time.perf_counter() > begun_s + limit_s:
            Running(process, 0.0).stop()
            said = (folder / "log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{command[0]} did not get ready:\n{said}")
        time.sleep(_LOOK_AGAIN_S)
    return Running(process, time.perf_counter() - begun_s)


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop_all(running: Sequence[Running]) -> None:
    """End them, the last first, so that nobody's upstream goes before it does."""
    for one in reversed(running):
        one.stop()


def largest(roots: Sequence[int]) -> int:
    """Of a server's processes, the one with the most memory: the one that works."""
    return max((pid for root in roots for pid in proc.tree(root)), key=proc.rss_kb)

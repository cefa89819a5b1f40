"""What keeps a gateway from its store: a lock, a server that is down, a connection that is cut, a
disk that is full.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

_SHARED = Path("/dev/shm")
_MOST_BYTES = 256 * 1024 * 1024


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Another connection is in the middle of writing to a SQLite store."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


class Cutter:
    """Stands before a PostgreSQL server's socket, and cuts connections when it is told to: after
    the server has committed, and before its answer is passed on.
    """

    def __init__(self, server: Path) -> None:
        """`server`: the socket. This one is in `folder`, to be named as the host."""
        self.folder = Path(tempfile.mkdtemp(prefix="fb-cut-"))
        self.cuts = 0
        self._server = server
        self._to_cut = 0
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener.bind(str(self.folder / self._server.name))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for each in tuple(self._open):
            _hang_up(each)
        shutil.rmtree(self.folder, ignore_errors=True)

    def cut_next(self) -> None:
        """The next commit is not answered."""
        with self._lock:
            self._to_cut += 1

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self._server))
                except OSError:
                    _hang_up(client)
                    continue
                self._open |= {client, server}
                pair = _Pair()
                for source, target, is_client in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pass_on, args=(source, target, pair, is_client), daemon=True
                    ).start()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, pair: _Pair, is_client: bool
    ) -> None:
        try:
            while data := source.recv(65536):
                if is_client:
                    pair.commits = pair.commits or b"COMMIT" in data
                elif pair.commits and b"COMMIT\0" in data:
                    pair.commits = False
                    if self._cuts_now():
                        break
                target.sendall(data)
        except OSError:
            pass
        _hang_up(source)
        _hang_up(target)
        self._open -= {source, target}

    def _cuts_now(self) -> bool:
        with self._lock:
            if not self._to_cut:
                return False
            self._to_cut -= 1
            self.cuts += 1
            return True


class _Pair:
    """Both directions of a connection. `commits`: COMMIT was sent, and is not answered yet."""

    commits = False


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Generator[Path]:
    """A folder on a file system of about that size, or on one that is small anyway, as containers
    have it. Raises OSError when there is neither.
    """
    where = folder / "small"
    where.mkdir()
    size = f"size={size_bytes},mode=0700"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(where)]
    if os.geteuid() == 0 and not subprocess.run(mount, capture_output=True, check=False).returncode:
        try:
            yield where
        finally:
            subprocess.run(["umount", "-l", str(where)], check=True)
        return
    if not _SHARED.is_dir() or shutil.disk_usage(_SHARED).total > _MOST_BYTES:
        raise OSError("no small file system can be mounted, and /dev/shm is none")
    with tempfile.TemporaryDirectory(prefix="fb-small-", dir=_SHARED) as name:
        yield Path(name)


@contextmanager
def filled(folder: Path) -> Generator[None]:
    """Not a byte of that file system is left."""
    filler = folder / "filler"
    size_bytes = 1024 * 1024
    with filler.open("ab", buffering=0) as file:
        while size_bytes:
            try:
                while file.write(b"\0" * size_bytes) == size_bytes:
                    pass
            except OSError:
                pass
            size_bytes //= 2
        yield
    filler.unlink()

"""What one `serve` takes for itself alone: the data folder's lock and the listening sockets.

It is taken before anything is changed or shown, so that a second `serve` ends in a sentence and
leaves no trace. Using the sockets is the supervisor's and its workers' business.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Self

from farebox.core.settings import Settings

_STALL_MS = 120_000  # as long as an answer may be silent
BACKLOG = 2048  # connections that wait while a worker is replaced
FAILED, BAD_CONFIG, CONFLICT = 1, 2, 5  # exit codes of the command line's contract


class Refused(Exception):
    """`serve` cannot run. `message` is a sentence that says why and what to do."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Claims:
    """Locks and sockets of one `serve`. Leaving the `with` block gives them back."""

    settings: Settings  # with the port that was got, if port 0 was asked for
    sockets: tuple[socket.socket, ...]  # one for each worker slot, listening
    locks: tuple[FileIO, ...]

    def close(self) -> None:
        """Stop listening and unlock. May be repeated."""
        for listener in self.sockets:
            listener.close()
        for lock in self.locks:
            lock.close()  # which unlocks, since no child inherits it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def claim(settings: Settings) -> Claims:
    """Lock the data folder (and an SQLite file elsewhere), then listen. Raises Refused."""
    with ExitStack() as taken:
        locks = [taken.enter_context(_lock(path, settings)) for path in _lock_files(settings)]
        sockets = _listen(settings)
        taken.pop_all()
    port: int = sockets[0].getsockname()[1]
    return Claims(replace(settings, port=port), sockets, tuple(locks))


def _lock_files(settings: Settings) -> list[Path]:
    files = [settings.data_dir / "lock"]
    # A start releases the holds that it finds in the store, so two on one file must never run,
    # also when they were given different data folders.
    if settings.database.startswith("sqlite:///"):
        # A path that is not absolute counts from the data folder, as the store has it.
        path = settings.database.removeprefix("sqlite:///").partition("?")[0]
        database = (settings.data_dir / path).resolve()
        if database.parent != settings.data_dir.resolve():
            # `<file>.lock` is the store's own, held for a moment by whoever migrates it.
            files.append(database.with_name(database.name + ".serve.lock"))
    return files


def _lock(path: Path, settings: Settings) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    except OSError as error:
        raise Refused(
            f"Cannot write to the folder {path.parent}: {error.strerror}. Make it writable, or "
            "name another with --data-dir.",
            BAD_CONFIG,
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = lock.read(32).decode(errors="replace").strip()
        lock.close()
        who = f" (process {holder})" if holder.isdecimal() else ""
        what = (
            f"The data folder {settings.data_dir}"
            if path.parent == settings.data_dir
            else f"The store {settings.database}"
        )
        raise Refused(
            f"{what} is in use by another farebox serve{who}. Stop that one, or give this one a "
            "folder and a store of its own with --data-dir.",
            CONFLICT,
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n".encode())
    return lock


def _address(settings: Settings) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """What to bind. A name that has several addresses means the first, IPv4 before IPv6."""
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise Refused(
            f"The host {settings.host!r} has no address here ({error}). Give --host an address of "
            "this machine, such as 127.0.0.1, or 0.0.0.0 for all.",
            BAD_CONFIG,
        ) from None
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, (str(address[0]), settings.port)


def _bind(family: socket.AddressFamily, address: tuple[str, int], shared: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A client that takes nothing of what was sent is dropped by the kernel at last, also
            # where the server above has no means to. Connections inherit it from the listener.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALL_MS)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen(settings: Settings) -> tuple[socket.socket, ...]:
    family, address = _address(settings)
    sockets: list[socket.socket] = []
    try:
        # With SO_REUSEPORT, two gateways of one user would share a port without a word, each
        # getting half of the calls. Without it the system says whether the port is free.
        _bind(family, address, shared=False).close()
        for _ in range(settings.workers):
            sockets.append(_bind(family, address, shared=True))
            address = (address[0], sockets[0].getsockname()[1])
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise _cannot_listen(settings, error) from None
    return tuple(sockets)


def _cannot_listen(settings: Settings, error: OSError) -> Refused:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"{host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return Refused(
            f"{where} is in use by another program. Stop that one, or choose another port with "
            "--port.",
            CONFLICT,
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return Refused(
            f"{settings.host} is not an address of this machine. Give --host one that is, such "
            "as 127.0.0.1, or 0.0.0.0 for all.",
            BAD_CONFIG,
        )
    if error.errno == errno.EACCES:
        return Refused(
            f"This user may not listen on {where}. Choose a port above 1023 with --port.", FAILED
        )
    return Refused(f"Cannot listen on {where}: {error.strerror}.", FAILED)

"""A folder in memory, where there is room: what tests write need not outlive a machine."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 3 * 1024**3  # several times what a run of all tests writes; containers have less
_GUARD = 'read _; rm -rf "$1"'


def place() -> Path | None:
    """A file system in memory with room, if there is one."""
    try:
        return _MEMORY if shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES else None
    except OSError:
        return None


_guards: list[subprocess.Popen[bytes]] = []


def folder(where: Path) -> str:
    """A new folder there, with a short name, since a socket's path has some hundred bytes. It is
    deleted when this process has ended, in whatever way.
    """
    path = tempfile.mkdtemp(prefix="fb-", dir=where)
    Path(path).chmod(0o711)  # PostgreSQL runs as another user where the tests run as root
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "guard", path], stdin=subprocess.PIPE, start_new_session=True
    )
    _guards.append(guard)  # our end of its standard input is open as long as we live
    return path

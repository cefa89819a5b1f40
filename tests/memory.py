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


class Folder:
    """A folder there. It is deleted when it is closed, or when this process ends in any way."""

    def __init__(self, where: Path) -> None:
        self.path = tempfile.mkdtemp(prefix="farebox-tests-", dir=where)
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", self.path], stdin=subprocess.PIPE, start_new_session=True
        )

    def close(self) -> None:
        """Delete it."""
        self._guard.communicate()

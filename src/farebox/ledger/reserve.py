"""Room on the disk that is kept for the day when there is no other: what is in flight then can
still be written down.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 8 * 1024 * 1024  # some ten thousand calls, and the log of a transaction
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SQLITE_FULL = 13


def is_full(error: BaseException | None) -> bool:
    """Whether this, or what it came from, says that the disk is full."""
    while error is not None:
        if getattr(error, "sqlite_errorcode", None) == _SQLITE_FULL:
            return True
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


class Reserve:
    """A file that takes room and holds nothing."""

    def __init__(self, path: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def make(self) -> bool:
        """Take the room; whether it could be had. May be repeated."""
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(handle, 0, self._size_bytes)
            finally:
                os.close(handle)
        except OSError:
            self.give_up()
            return False
        return True

    def give_up(self) -> bool:
        """Leave the room to who needs it; whether there was any."""
        with suppress(OSError):
            self._path.unlink()
            return True
        return False

"""Who a ledger process is to the store: a name that its data folder keeps, and a lock that says
that it lives.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from farebox.core.ids import new_id

_NAME = "owner"  # in the data folder
_RUN = "run"


def owner_id(data_dir: Path) -> str:
    """The name of this data folder's ledger processes, made by the first of them. Raises OSError.

    It stays when a process is replaced: what one had leased, and what it spooled, the next finds.
    """
    path = data_dir / _NAME
    with suppress(FileNotFoundError):
        return _read(path)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = path.with_name(f"{_NAME}.{os.getpid()}")
    made.touch(mode=0o600)
    try:
        with made.open("w", encoding="utf-8") as file:
            file.write(new_id("own") + "\n")
            file.flush()
            os.fsync(file.fileno())  # or a name that leases were taken by might be gone
        with suppress(FileExistsError):  # somebody was quicker: that name counts
            path.hardlink_to(made)
    finally:
        made.unlink()
    return _read(path)


def _read(path: Path) -> str:
    name = path.read_text(encoding="utf-8").strip()
    if not name:
        # Two folders without a name would be one owner, and charge each other's leases.
        raise OSError(f"The file {path} is empty. Delete it: another name is made then.")
    return name


def lock_path(data_dir: Path, owner: str) -> Path:
    """The file that a living ledger process holds a lock on."""
    return data_dir / _RUN / f"{owner}.lock"


@contextmanager
def hold_lock(path: Path) -> Generator[None]:
    """Live as long as this: hold the lock, and wait for it while an earlier life still has it.
    Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_dead(data_dir: Path, owner: str) -> bool:
    """Whether no ledger process of that name lives on this host: its lock is free. The kernel frees
    it however the process ended, and no clock is asked.
    """
    try:
        handle = os.open(lock_path(data_dir, owner), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True

"""The figures of processes that have ended: put together in two files, or each reload would leave
some more, all of which are read for /metrics.

What they count is metrics.py's and ledger.py's business; the files are prometheus_client's.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_SUMMED = ("counter", "histogram")
_LOCK = "lock"


@contextmanager
def reading(folder: Path) -> Generator[None]:
    """While the figures are read, none move from one file to another."""
    with _locked(folder, fcntl.LOCK_SH):
        yield


def drop_gauges(folder: Path, pid: int) -> None:
    """The process has ended: what it was just doing is not shown any more. May be repeated."""
    for file in folder.glob(f"gauge_live*_{pid}.db"):
        file.unlink(missing_ok=True)


def take_over(folder: Path, pid: int) -> None:
    """The process has ended: add its counters to those of others that have. It waits for those who
    read. May be repeated. Raises OSError; then they stay where they are, and are read there.
    """
    with _locked(folder, fcntl.LOCK_EX):
        for kind in _SUMMED:
            ended = folder / f"{kind}_{pid}.db"
            if ended.exists():
                _add(ended, folder / f"{kind}_former.db")


def _add(ended: Path, former: Path) -> None:
    # Not before a process has ended: it has a web server in it, and takes as long to load.
    from prometheus_client.mmap_dict import MmapedDict

    values: dict[str, float] = defaultdict(float)
    room_bytes = 0
    for file in (former, ended):
        if file.exists():
            room_bytes += file.stat().st_size
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] (untyped)
                values[key] += value
    draft = former.with_suffix(".draft")
    # It is mapped into memory, and the system ends a process that writes to a page for which a full
    # disk has no room.
    draft.write_bytes(bytes(room_bytes))
    written = MmapedDict(str(draft))
    for key, value in values.items():
        written.write_value(key, value, 0.0)  # pyright: ignore[reportUnknownMemberType] (untyped)
    written.close()
    draft.replace(former)
    # Ended between these two, a supervisor leaves them counted twice, for as long as its workers
    # outlive it: the next begins with an empty folder.
    ended.unlink()


@contextmanager
def _locked(folder: Path, how: int) -> Generator[None]:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        os.close(lock)

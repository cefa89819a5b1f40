"""What the kernel says of processes: CPU time of a tree, memory, cores. Linux only.

Source: proc(5), /proc/PID/status (VmRSS), /proc/PID/task/*/children; clock_getcpuclockid(3).
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CPU_OF_PROCESS = 2  # of a clock's number: CPUCLOCK_SCHED, all threads together


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the server under test runs, and where generator and mock do."""

    server: int
    load: int

    @property
    def are_apart(self) -> bool:
        """Whether there are two."""
        return self.server != self.load


def choose_cores() -> Cores:
    """The first two cores that this process may use; the same one twice if it is all there is."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1] if len(usable) == 1 else usable[1])


@contextmanager
def pinned(core: int) -> Generator[None]:
    """Processes started within run on this core, and so do their children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(root: int) -> list[int]:
    """A process and everything below it."""
    found = [root]
    for pid in found:
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in file.read_text().split()]
    return found


def cpu_s(roots: Iterable[int]) -> float:
    """CPU time, user and system, that these processes and those below them have used.

    Each process's own clock counts nanoseconds; /proc/PID/stat has steps of 10 ms.
    """
    pids = [pid for root in roots for pid in tree(root)]
    return sum(time.clock_gettime(~pid << 3 | _CPU_OF_PROCESS) for pid in pids)


def rss_kb(pid: int) -> int:
    """Resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ValueError(f"process {pid} has no memory: it has ended")


def command_line(pid: int) -> str:
    """What a process was started as."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()

"""A worker process's beginning."""

from __future__ import annotations

import resource
import subprocess
import sys

SCRIPT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
from farebox.app import allow_connections
allow_connections()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
# Prints how often objects like those of calls are looked through, before and after.
TIDY = """
import gc
from farebox import app
runs = []
gc.callbacks.append(lambda phase, info: runs.append(phase))
kept = [[] for _ in range(9_000)]
before = len(runs)
app.tidy()
runs.clear()
kept = [[] for _ in range(9_000)]
print(before > 9, len(runs), gc.get_freeze_count() > 10_000)
"""


def test_a_worker_collects_garbage_seldom_and_never_what_stays() -> None:
    """What thousands of objects of calls would trigger by Python's own limits is not done."""
    done = subprocess.run(
        [sys.executable, "-c", TIDY], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["True", "0", "True"]


def test_a_worker_takes_as_many_open_files_as_it_may() -> None:
    """The usual soft limit would refuse the five hundredth call; the hard one stays."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allowed == resource.RLIM_INFINITY or allowed >= 2000
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(hard=2000)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["2000", "2000"]

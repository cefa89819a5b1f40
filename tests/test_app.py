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

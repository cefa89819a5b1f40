"""What processes counted that have ended: put together, shown as before, and never twice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from farebox.telemetry.former import drop_gauges, reading, take_over
from tests.telemetry.test_metrics import samples

# Calls by two channels, `sys.argv[1]` times; what /metrics shows afterwards is printed.
SCRIPT = """
import os, sys
from farebox.telemetry.metrics import Metrics
metrics = Metrics()
for _ in range(int(sys.argv[1])):
    metrics.request_started()
    metrics.request_finished("/v1/models", 200, 0.3)
metrics.request_started()
sys.stdout.buffer.write(metrics.exposition())
sys.stdout.flush()
print("\\n# pid", os.getpid())
"""


def lived(folder: Path, requests: int) -> tuple[int, dict[tuple[str, ...], float]]:
    """A process that answered so many requests and has one in flight: who, and what it showed."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(requests)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    text, _, pid = done.stdout.rpartition(b"\n# pid ")
    return int(pid), samples(text)


def test_what_former_processes_counted_is_in_the_sums_once(tmp_path: Path) -> None:
    """However many there were, two files have it all; what they were just doing is gone."""
    for requests in (3, 4, 5):
        pid, _ = lived(tmp_path, requests)
        for _ in range(2):
            drop_gauges(tmp_path, pid)
            take_over(tmp_path, pid)
    assert sorted(file.name for file in tmp_path.glob("*_*")) == [
        "counter_former.db",
        "histogram_former.db",
    ]
    _, seen = lived(tmp_path, 2)
    assert seen["farebox_requests_total", "/v1/models", "2xx"] == 14
    assert seen["farebox_request_duration_seconds_count", "/v1/models"] == 14
    assert seen["farebox_request_duration_seconds_bucket", "0.1", "/v1/models"] == 0
    assert seen["farebox_request_duration_seconds_bucket", "0.5", "/v1/models"] == 14
    assert seen["farebox_requests_in_flight",] == 1


def test_nothing_moves_while_somebody_reads(tmp_path: Path) -> None:
    """Or a reader would miss what moves, or find it twice. Readers do not wait for each other."""
    pid, _ = lived(tmp_path, 1)
    moving = threading.Thread(target=take_over, args=[tmp_path, pid])
    with reading(tmp_path), reading(tmp_path):
        moving.start()
        moving.join(0.3)
        assert moving.is_alive()
        assert (tmp_path / f"counter_{pid}.db").exists()
    moving.join(20)
    assert (tmp_path / "counter_former.db").exists()
    assert not (tmp_path / f"counter_{pid}.db").exists()

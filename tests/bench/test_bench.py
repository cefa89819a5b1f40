"""The benchmark measures what it says: a short run of it, without nginx."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHORT = ("--rounds=1", "--starts=1", "--seconds=0.2", "--streams=4", "--memory-streams=4")


def test_a_short_run_measures_every_case_and_finds_every_call_in_the_books(tmp_path: Path) -> None:
    """scripts/bench's module ends well, with a sample for each case, and says what was left out."""
    output = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", *SHORT, "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": ""},  # where no nginx is
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "nginx is not on the PATH" in done.stdout
    results = json.loads(output.read_text())
    assert results["calls_charged"] > 0
    plain = ("plain-1k", "plain-50k", "plain-400k")
    burst = ("burst-same", "burst-renamed", "burst-responses", "burst-messages")
    assert [*results["rows"]] == [*plain, *burst, "paced-same", "paced-renamed"]
    samples = [row["samples"]["farebox"] for row in results["rows"].values()]
    assert {len(each) for each in samples} == {1}
    # On a busy machine a long stream may not end once in so short a window.
    assert sum(sample["units_a_second"] for (sample,) in samples) > 0
    probed = results["rows"]["paced-renamed"]["samples"]
    assert {name for name, (sample,) in probed.items() if sample["first_token_p50_ms"] > 0} == {
        "direct",
        "farebox",
    }

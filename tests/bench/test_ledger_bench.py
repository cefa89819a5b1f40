"""The ledger's benchmarks measure what they say: a short run of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(module: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(300)  # twelve starts of real processes, and others test beside it
def test_a_short_run_measures_both_engines_at_every_load() -> None:
    """A line for each engine and load, with the plain ledger's beside it; and the delays."""
    done = _run("bench.ledger", "--rounds=1", "--seconds=0.25")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    cells = [line.strip("| ").split(" | ") for line in lines]
    measured = {(row[0], row[1]): row for row in cells if row[1].isdecimal()}
    engines = ("SQLite", "PostgreSQL", "plain, SQLite")
    assert set(measured) == {(engine, n) for engine in engines for n in ("1", "16", "100", "256")}
    for engine in ("SQLite", "PostgreSQL"):
        # What gathers while a batch is committed is the next one.
        assert int(measured[engine, "1"][-1]) == 1
        assert int(measured[engine, "256"][-1]) > 10
    delays = [row[:2] for row in cells if len(row) == 5 and row[0] in engines]
    assert delays == [
        [engine, hold]
        for engine in ("SQLite", "PostgreSQL")
        for hold in ("covered by a lease", "a grant is needed")
    ]


def test_a_short_chaos_reports_answers_kills_and_violations() -> None:
    """It ends well, and says what it did."""
    done = _run("bench.chaos", "--seconds=3", "--callers=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "violations: 0" in done.stdout
    assert "answers acknowledged: 0," not in done.stdout
    assert " of worker" in done.stdout

"""How a process of the gateway begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from farebox.children import LAUNCH

# What the module that is launched finds while it is imported, and what its main is given.
MODULE = """
import gc, sys
import structlog
found = [gc.isenabled(), "rich.console" in sys.modules]

def main():
    print(*found, *sys.argv[1:])
    from farebox.core import collector
    collector.begin(9_000)
    print(gc.isenabled(), gc.get_threshold()[0], gc.get_freeze_count() > 10_000)
"""


def test_what_a_process_imports_is_not_looked_through(tmp_path: Path) -> None:
    """The collector waits until the process says that it is ready, and never looks at what was
    there by then; libraries don't bring what only people at a terminal would see.
    """
    (tmp_path / "launched.py").write_text(MODULE, encoding="utf-8")
    done = subprocess.run(
        [*LAUNCH, "launched", "--fd", "3"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["False False --fd 3", "True 9000 True"]


def test_the_collector_looks_again_after_a_start_that_failed() -> None:
    """Whoever uses the command line as a library has it back, ready or not."""
    script = """
import gc
from farebox.core import collector
try:
    with collector.put_off():
        print(gc.isenabled())
        raise ValueError
except ValueError:
    print(gc.isenabled())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_processes_start_without_what_only_some_of_them_ever_need() -> None:
    """Templates, PostgreSQL's dialects and a library of metrics that has a web server in it are
    imported by whoever comes to need them.
    """
    script = """
import sys
import {module}
late = ("jinja2", "sqlalchemy.dialects.postgresql", "alembic", "prometheus_client.exposition")
print(*[name for name in late if name in sys.modules])
"""
    found = {
        module: subprocess.run(
            [sys.executable, "-c", script.format(module=module)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.split()
        for module in (
            "farebox.app",
            "farebox.ledger_process",
            "farebox.supervisor, farebox.chores",
        )
    }
    assert found == {
        "farebox.app": ["prometheus_client.exposition"],
        "farebox.ledger_process": ["prometheus_client.exposition"],
        "farebox.supervisor, farebox.chores": [],
    }

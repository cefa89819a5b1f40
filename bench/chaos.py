"""Workers, ledger processes and PostgreSQL killed under load, for as long as you like.

Run from the project's folder: python -m bench.chaos [--engine sqlite] [--seconds 300] … It prints
how many answers callers have to the end, what was killed, and every one of them that was not
charged exactly once, or anything else that does not add up. Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests import postgres
from tests.e2e.chaos import Misfortunes, Report, press
from tests.e2e.hosts import on_store
from tests.fakes.upstream import FakeUpstream


def run(engine: str, seconds: float, callers: int, workers: int, seed: int) -> Report:
    """One run on an engine: a gateway on SQLite, or two on one PostgreSQL."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farebox-chaos-")))
        upstream = stack.enter_context(FakeUpstream())
        if engine == "sqlite":
            database = f"sqlite:///{folder}/farebox.db"
            gateway = on_store(folder, upstream, database, workers=workers)
            gateways = [stack.enter_context(gateway)]
            return press(gateways, database, seconds, Misfortunes(), callers=callers, seed=seed)
        server = postgres.Server()
        stack.callback(server.close)

        def kill_server() -> None:
            server.kill()
            server.start()

        database = server.fresh_database()
        gateways = [
            stack.enter_context(on_store(folder / name, upstream, database, workers=workers))
            for name in ("one", "two")
        ]
        others = [("restart of PostgreSQL", server.restart), ("PostgreSQL", kill_server)]
        return press(
            gateways, database, seconds, Misfortunes(others=others), callers=callers, seed=seed
        )


def main() -> None:
    """Run, report, and say by the exit code whether all was right."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=300, help="default 300")
    parser.add_argument("--callers", type=int, default=16, help="calls at once; default 16")
    parser.add_argument("--workers", type=int, default=2, help="of each gateway; default 2")
    parser.add_argument("--seed", type=int, default=0, help="of chance; default 0")
    given = parser.parse_args()
    report = run(given.engine, given.seconds, given.callers, given.workers, given.seed)
    print(report)
    sys.exit(1 if report.violations else 0)


if __name__ == "__main__":
    main()

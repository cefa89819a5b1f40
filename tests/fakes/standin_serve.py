"""`serve` without a store: the real supervisor over stand-in children and a store made of files.

`standin_serve.py DATA_DIR PORT WORKERS DRAIN_S [local]` prints one JSON line when it is up. The
store's revisions are the two numbers in DATA_DIR/revisions; whose responses have failed is appended
to DATA_DIR/failed, a line each, `*` for all. While DATA_DIR/broken is there, the store fails.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from farebox.claims import Refused, claim
from farebox.core.settings import Settings
from farebox.supervisor import Commands, run, say_on_stderr


@dataclass(frozen=True)
class Counters:
    catalogue: int = 0
    keys: int = 0


class FileStore:
    """The supervisor's seam to the store, over a few files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def revisions(self) -> Counters:
        self._check()
        try:
            return Counters(*map(int, (self.folder / "revisions").read_text().split()))
        except FileNotFoundError:
            return Counters()

    def fail_orphans(self, owner: str) -> None:
        self._append("failed", owner)

    def fail_all_orphans(self, host: str) -> None:
        self.fail_orphans("*")

    def _check(self) -> None:
        if (self.folder / "broken").exists():
            raise OSError("the store is broken")

    def _append(self, name: str, owner: str) -> None:
        self._check()
        with (self.folder / name).open("a") as file:
            file.write(owner + "\n")


def announce(settings: Settings) -> None:
    sys.stdout.write(json.dumps({"port": settings.port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()


def main() -> int:
    folder, port, workers, drain_s, *rest = sys.argv[1:]
    data_dir = Path(folder)
    settings = Settings(
        data_dir=data_dir,
        database=f"sqlite:///{data_dir / 'farebox.db'}",
        port=int(port),
        workers=int(workers),
        drain_timeout_s=float(drain_s),
    )
    fakes = Path(__file__).parent
    try:
        claims = claim(settings)
    except Refused as refused:
        say_on_stderr(refused.message + "\n")
        return refused.exit_code
    commands = Commands(
        worker=(sys.executable, str(fakes / "standin_worker.py")),
        ledger=(sys.executable, str(fakes / "standin_ledger.py")),
        reload=(sys.executable, str(fakes / "standin_reload.py")),
        exit_limit_s=1.0,
    )
    return run(
        claims,
        FileStore(data_dir),
        local="local" in rest,
        announce=announce,
        commands=commands,
    )


sys.exit(main())

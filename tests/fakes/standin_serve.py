"""`serve` without a store: the real supervisor over stand-in workers and a store made of files.

`standin_serve.py DATA_DIR PORT WORKERS DRAIN_S [local]` prints one JSON line when it is up. The
store's revisions are the two numbers in DATA_DIR/revisions; what is released is appended to
DATA_DIR/released, whose responses have failed to DATA_DIR/failed, a line each, `*` for all. The
number in DATA_DIR/expired is of the responses that are still to be dropped. While DATA_DIR/broken
is there, the store fails.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from farebox.core.settings import Settings
from farebox.supervisor import run


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

    def release_holds(self, owner: str) -> None:
        self._append("released", owner)

    def release_all_holds(self) -> None:
        self.release_holds("*")

    def fail_orphans(self, owner: str) -> None:
        self._append("failed", owner)

    def fail_all_orphans(self) -> None:
        self.fail_orphans("*")

    def drop_expired_responses(self, now_us: int, limit: int) -> int:
        assert now_us > 0
        self._check()
        try:
            expired = int((self.folder / "expired").read_text())
        except FileNotFoundError:
            return 0
        dropped = min(expired, limit)
        (self.folder / "expired").write_text(str(expired - dropped))
        return dropped

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
    worker = [sys.executable, str(Path(__file__).with_name("standin_worker.py"))]
    return run(
        settings,
        FileStore(data_dir),
        local="local" in rest,
        announce=announce,
        worker_command=worker,
    )


sys.exit(main())

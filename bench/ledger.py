"""What the ledger costs: CPU time of hold, price and settlement, and how long a hold takes.

Run from the project's folder: python -m bench.ledger [--seconds 5] [--rounds 3] … The report goes
to standard output. A real ledger process, a worker of its own and, with PostgreSQL, a real server
are measured, every commit safely on the disk; beside them a plain ledger of one transaction a call.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec
import psycopg

from bench import facts, ledger_plain
from bench.ledger_worker import Measured, Plan
from farebox.core.bus import plain_settings
from farebox.core.settings import Settings
from farebox.standby import LEDGER_COMMAND, order
from farebox.store import open_store
from tests import postgres

ACCOUNTS = 16
FRESH = 2_000  # accounts that make one call each, so that it needs a grant
IN_FLIGHT = (1, 16, 100, 256)
_CREDITS = 10**15
_STOP_S = 60.0
_HEAD = (
    "| engine | in flight | CPU of a call, µs | worker | ledger | PostgreSQL | × plain |"
    " calls a second | × plain | calls a batch |"
)
_WORKER_S = 120.0


@dataclass(frozen=True)
class Place:
    """A ledger that serves, and where its books are."""

    database: str
    path: str  # of its socket
    processes: tuple[int, ...]  # the ledger process, and PostgreSQL


@dataclass
class Sample:
    """One measurement, a call each."""

    worker_us: float
    others_us: list[float]
    calls_a_second: float
    batch: float

    @property
    def all_us(self) -> float:
        return self.worker_us + sum(self.others_us)


@dataclass
class Row:
    """One line of the table."""

    engine: str
    in_flight: int
    samples: list[Sample] = field(default_factory=list[Sample])


@contextmanager
def place(folder: Path, database: str, server: postgres.Server | None) -> Generator[Place]:
    """A store with accounts, and a ledger process on it."""
    settings = Settings(data_dir=folder, database=database)
    store = open_store(database, folder)
    for number in range(ACCOUNTS + FRESH):
        store.create_account(f"account {number}", credits_nanocredits=_CREDITS)
    store.close()
    path = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        process = subprocess.Popen(  # noqa: S603 (made of our own words)
            [*LEDGER_COMMAND, "--listen-fd", str(listener.fileno())],
            pass_fds=(listener.fileno(),),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order(plain_settings(settings), 0))
        process.stdin.flush()
        while (said := process.stdout.readline()) != b"ready\n":
            assert said, "it has ended"
        pids = (process.pid,) if server is None else (process.pid, server.pid)
        try:
            yield Place(database, path, pids)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=_STOP_S)


@contextmanager
def engines(folder: Path) -> Generator[dict[str, Place]]:
    """Both."""
    server = postgres.Server("fsync=on", "full_page_writes=on", "shared_buffers=128MB")
    try:
        for name in ("sqlite", "postgresql"):
            (folder / name).mkdir()
        sqlite = f"sqlite:///{folder}/sqlite/farebox.db"
        with (
            place(folder / "sqlite", sqlite, None) as one,
            place(folder / "postgresql", server.fresh_database(), server) as other,
        ):
            yield {"SQLite": one, "PostgreSQL": other}
    finally:
        server.close()


def run(plan: Plan) -> Measured:
    """One worker."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.ledger_worker"],
        input=msgspec.json.encode(plan) + b"\n",
        stdout=subprocess.PIPE,
        timeout=_WORKER_S,
        check=True,
    )

    return msgspec.json.decode(done.stdout, type=Measured)


def accounts(first: int, count: int) -> list[tuple[int, str]]:
    """Ids of accounts, with a key of each."""
    return [(first + n, f"key_{first + n}") for n in range(count)]


def batch_of(database: str, measured: Measured) -> float:
    """How many calls a transaction wrote: those of one have the same time."""
    statement = (
        "SELECT count(*), count(DISTINCT settled_us) FROM usage WHERE settled_us BETWEEN {} AND {}"
    )
    where = (measured.begun_us, measured.ended_us)
    if database.startswith("sqlite:///"):
        with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
            calls, batches = connection.execute(statement.format("?", "?"), where).fetchone()
    else:
        with psycopg.connect(database) as connection:
            row = connection.execute(statement.format("%s", "%s"), where).fetchone()
            assert row is not None
            calls, batches = row
    return calls / max(1, batches)


def sample(measured: Measured, batch: float) -> Sample:
    """A call each."""
    calls = max(1, measured.calls)
    return Sample(
        measured.worker_s / calls * 1e6,
        [each / calls * 1e6 for each in measured.processes_s],
        calls / measured.window_s,
        batch,
    )


def throughput(places: dict[str, Place], folder: Path, options: argparse.Namespace) -> list[Row]:
    """All engines and loads, in rounds; the plain ledger beside them."""
    rows = {(engine, n): Row(engine, n) for n in IN_FLIGHT for engine in (*places, "plain, SQLite")}
    plain = str(folder / "plain.db")
    ledger_plain.make_store(plain, ACCOUNTS)
    for turn in range(options.rounds):
        for (engine, in_flight), row in rows.items():
            say(f"round {turn + 1}: {engine}, {in_flight} in flight")
            where = places.get(engine)
            plan = Plan(
                ledger=where.path if where else plain,
                is_plain=where is None,
                accounts=accounts(1, ACCOUNTS),
                in_flight=in_flight,
                seconds=options.seconds,
                warm_s=min(1.0, options.seconds),
                processes=list(where.processes) if where else [],
            )
            measured = run(plan)
            batch = batch_of(where.database, measured) if where else 1.0
            row.samples.append(sample(measured, batch))
    return list(rows.values())


def delays(where: Place, options: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds that holds took: of a lease, and by a grant that the call waits for."""
    found: dict[str, list[float]] = {}
    for name, who, once in (
        ("covered by a lease", accounts(1, ACCOUNTS), False),
        ("a grant is needed", accounts(ACCOUNTS + 1, FRESH), True),
    ):
        plan = Plan(
            ledger=where.path,
            is_plain=False,
            accounts=who,
            in_flight=0,
            seconds=2 * options.seconds,
            warm_s=0.5,
            processes=[],
            rate=options.rate,
            once=once,
        )
        say(f"delays: {name}")
        found[name] = sorted(run(plan).held_ms)
    return found


def report(
    rows: Sequence[Row], waits: dict[str, dict[str, list[float]]], options: argparse.Namespace
) -> str:
    """Markdown."""
    plain = {row.in_flight: row for row in rows if row.engine.startswith("plain")}
    lines = [
        _HEAD,
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        beside = plain[row.in_flight].samples
        of = row.samples
        others = list(zip(*(each.others_us for each in of), strict=True))
        cells = [
            row.engine,
            str(row.in_flight),
            _spread([each.all_us for each in of]),
            f"{median(each.worker_us for each in of):.0f}",
            *(f"{median(each):.0f}" for each in others),
            *("" for _ in range(2 - len(others))),
            _ratio([a.all_us / b.all_us for a, b in zip(of, beside, strict=True)]),
            f"{median(each.calls_a_second for each in of):,.0f}",
            _ratio([a.calls_a_second / b.calls_a_second for a, b in zip(of, beside, strict=True)]),
            f"{median(each.batch for each in of):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"What a hold adds to the first token, ms, at {options.rate:g} calls a second at random:",
        "",
        "| engine | hold | calls | p50 | p99 |",
        "|---|---|---:|---:|---:|",
    ]
    for engine, found in waits.items():
        for name, values in found.items():
            p50, p99 = (values[int(len(values) * share)] for share in (0.5, 0.99))
            lines.append(f"| {engine} | {name} | {len(values)} | {p50:.2f} | {p99:.2f} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def _ratio(values: Sequence[float]) -> str:
    return f"{median(values):.2f}"


def say(text: str) -> None:
    """To whom waits."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--seconds", type=float, default=5, help="of a window; default 5")
    parser.add_argument("--rate", type=float, default=100, help="calls a second; default 100")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as name:
        folder = Path(name)
        about = facts.of_ledger(folder)
        with engines(folder) as places:
            rows = throughput(places, folder, options)
            waits = {engine: delays(where, options) for engine, where in places.items()}
    about["windows"] = f"{options.rounds} rounds, interleaved; {options.seconds:g} s each"
    print("\n".join(f"- {what}: {value}" for what, value in about.items()))
    print("\n" + report(rows, waits, options))


if __name__ == "__main__":
    main()

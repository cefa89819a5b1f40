"""Compiles the mock upstream and the load generator, once for each state of their sources.

The programs are kept in a cache folder outside the tree, as are the peers: $XDG_CACHE_HOME or
~/.cache, and in it `farebox-bench`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCES = Path(__file__).with_name("native")
_PARTS = {"mock": ("mock.c",), "load": ("load.c", "answer.c")}
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")


class NoCompiler(Exception):
    """There is no C compiler, or it did not compile: the text says what to do."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The compiled ones."""

    mock: Path
    load: Path


def cache_folder() -> Path:
    """Where compiled programs and installed peers are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "farebox-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compiler() -> str | None:
    """The system's C compiler; None if there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


def compile_programs() -> Programs:
    """Compile what has changed. Raises NoCompiler."""
    cc = compiler()
    if cc is None:
        raise NoCompiler(
            "The benchmark's upstream and load generator are written in C, and there is no C "
            "compiler `cc`. Install one (Debian, Ubuntu: apt install gcc libc6-dev), or name one "
            "in the variable CC."
        )
    digest = hashlib.sha256(f"{cc} {_FLAGS}".encode())
    for source in sorted(_SOURCES.iterdir()):
        digest.update(source.read_bytes())
    folder = cache_folder() / digest.hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    for name, parts in _PARTS.items():
        if not (folder / name).exists():
            _compile(cc, folder / name, parts)
    return Programs(folder / "mock", folder / "load")


def _compile(cc: str, program: Path, parts: tuple[str, ...]) -> None:
    # Under a name of its own first, so that nobody starts half a program.
    new = program.with_name(f"{program.name}.{os.getpid()}")
    sources = [str(_SOURCES / part) for part in parts]
    done = subprocess.run(  # noqa: S603 (made of our own words)
        [cc, *_FLAGS, "-o", str(new), *sources], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoCompiler(f"{cc} could not compile bench/native:\n{done.stderr}")
    new.replace(program)

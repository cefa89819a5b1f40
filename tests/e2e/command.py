"""The command line in a process of its own for each verb, forked from one that has imported it: the
imports are what a verb takes longest for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

FAREBOX = str(Path(sys.executable).with_name("farebox"))
_LIMIT_S = 60
_STREAMS = ("in", "out", "err")
_IMPORTED = (
    *("farebox.cli.main", "farebox.store", "farebox.settings", "rich.table"),
    *(f"farebox.admin.{each}" for each in ("accounts", "audit", "catalogue", "keys", "receipts")),
    *(f"sqlalchemy.dialects.{each}" for each in ("sqlite.pysqlite", "postgresql.psycopg")),
)

_processes = get_context("forkserver")
_processes.set_forkserver_preload([*_IMPORTED])


def run(
    args: Sequence[str], *, environ: Mapping[str, str], folder: Path, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`farebox args` in that environment and folder. Raises TimeoutExpired."""
    with TemporaryDirectory(prefix="farebox-") as name:
        files = {each: Path(name, each) for each in _STREAMS}
        files["in"].write_text(stdin or "", encoding="utf-8")
        paths = [str(files[each]) for each in _STREAMS]
        process = _processes.Process(target=_live, args=(args, {**environ}, str(folder), paths))
        process.start()
        process.join(_LIMIT_S)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([FAREBOX, *args], _LIMIT_S)
        code = process.exitcode
        process.close()
        out, err = (files[each].read_text(encoding="utf-8") for each in _STREAMS[1:])
    assert code is not None
    return subprocess.CompletedProcess([FAREBOX, *args], code, out, err)


def _live(args: Sequence[str], environ: dict[str, str], folder: str, paths: Sequence[str]) -> None:
    """What `farebox` does, with these files as its streams."""
    modes = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
    for stream, (path, mode) in enumerate(zip(paths, modes, strict=True)):
        opened = os.open(path, mode, 0o600)
        os.dup2(opened, stream)
        os.close(opened)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # multiprocessing has closed it
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    _customize(environ.get("PYTHONPATH", ""))
    sys.argv = [FAREBOX, *args]
    from farebox.cli.main import main

    main()


def _customize(path: str) -> None:
    """What Python does with that at its start, for who changes its clock there."""
    sys.path[:0] = filter(None, path.split(os.pathsep))
    sys.modules.pop("sitecustomize", None)
    with suppress(ImportError):
        import_module("sitecustomize")

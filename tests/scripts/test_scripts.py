"""The scripts of a clone: what they install, when they do nothing, and what they start.

A stand-in for Python, named in FAREBOX_PYTHON, notes environments and packages instead of making
and loading them; everything else it leaves to the real one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.shape.tree import ROOT, tracked

SCRIPTS = sorted(path for path in tracked() if path.parent == ROOT / "scripts")
STAND_IN = f"""#!/bin/sh
case "$1 $2" in
    "-m venv")
        mkdir -p "$3/bin"
        cp "$0" "$3/bin/python"
        echo "venv" >>"$NOTES" ;;
    "-m pip")
        [ -z "${{PIP_FAILS-}}" ] || exit 1
        case "$*" in
            *--editable*)
                printf '#!/bin/sh\\necho "farebox $*" >>"$NOTES"\\n' >"${{0%/*}}/farebox"
                chmod +x "${{0%/*}}/farebox"
                echo "pip this folder" >>"$NOTES" ;;
            *"--no-deps --require-hashes"*) echo "pip ${{*##*/}}" >>"$NOTES" ;;
        esac ;;
    "-m pytest") echo "$*" >>"$NOTES" ;;
    "-P -m") echo "in ${{PWD##*/}}: $*" >>"$NOTES" ;;
    *"version_info < (3, 11)"*) [ -z "${{IS_OLD-}}" ] && exec '{sys.executable}' "$@"; exit 1 ;;
    *) exec '{sys.executable}' "$@" ;;
esac
"""


@dataclass
class Clone:
    """A copy of the scripts with a lock of one line, in a folder of its own."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict[str, str])

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """One of the scripts, from another folder than the clone's."""
        return subprocess.run(
            [self.root / "scripts" / command[0], *command[1:]],
            cwd=self.root.parent,
            env=self.environ | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def notes(self) -> list[str]:
        """What the stand-in has noted since it was asked last."""
        path = Path(self.environ["NOTES"])
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    root = tmp_path / "a clone"
    for path in (*SCRIPTS, ROOT / "pyproject.toml"):
        copy = root / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        copy.chmod(path.stat().st_mode)
    (root / "requirements").mkdir()
    for kind in ("serve", "dev"):
        (root / "requirements" / f"{kind}.txt").write_text("one==1\n", encoding="utf-8")
    python = tmp_path / "python3.11"
    python.write_text(STAND_IN, encoding="utf-8")
    python.chmod(0o755)
    path = os.environ["PATH"]
    return Clone(
        root, {"PATH": path, "FAREBOX_PYTHON": str(python), "NOTES": str(tmp_path / "notes")}
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_is_one_for_any_posix_shell(script: Path) -> None:
    """It names /bin/sh, may be run, and a shell can read it."""
    assert script.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert script.stat().st_mode & 0o111
    subprocess.run(["/bin/sh", "-n", script], check=True)


def test_the_first_installation_takes_the_lock_and_the_second_does_nothing(clone: Clone) -> None:
    """An environment, the locked packages by their hashes, this folder; then not a word."""
    first = clone.run("install")
    assert (first.returncode, clone.notes()) == (0, ["venv", "pip serve.txt", "pip this folder"])
    again = clone.run("install")
    assert (again.returncode, again.stdout, again.stderr, clone.notes()) == (0, "", "", [])


def test_a_changed_lock_is_installed_into_the_same_environment(clone: Clone) -> None:
    """So is a changed pyproject.toml."""
    clone.run("install")
    for name in ("requirements/serve.txt", "pyproject.toml"):
        clone.notes()
        with (clone.root / name).open("a", encoding="utf-8") as stream:
            stream.write("# changed\n")
        assert clone.run("install").returncode == 0
        assert clone.notes() == ["pip serve.txt", "pip this folder"]


def test_who_has_the_development_packages_keeps_them(clone: Clone) -> None:
    """`scripts/serve` after `scripts/test` takes nothing away and installs nothing."""
    clone.run("install", "dev")
    assert clone.notes() == ["venv", "pip dev.txt", "pip this folder"]
    assert clone.run("install").returncode == 0
    assert clone.notes() == []


def test_an_installation_that_failed_is_begun_again(clone: Clone) -> None:
    """The sentence says so, and what was half done is not trusted."""
    failed = clone.run("install", PIP_FAILS="1")
    assert failed.returncode == 1
    assert "could not be installed" in failed.stderr
    assert clone.notes() == ["venv"]
    assert clone.run("install").returncode == 0
    assert clone.notes() == ["venv", "pip serve.txt", "pip this folder"]


def test_an_old_python_is_refused_with_a_sentence(clone: Clone) -> None:
    """It names the version that is needed, and the variable that chooses another Python."""
    refused = clone.run("install", IS_OLD="1")
    assert (refused.returncode, clone.notes()) == (1, [])
    assert "needs Python 3.11 or later" in refused.stderr
    assert "FAREBOX_PYTHON" in refused.stderr


def test_two_installations_at_once_are_one(clone: Clone) -> None:
    """The second waits, and finds everything done."""
    script = clone.root / "scripts" / "install"
    both = [subprocess.Popen([script], env=clone.environ, stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] or process.returncode for process in both] == [0, 0]
    assert clone.notes() == ["venv", "pip serve.txt", "pip this folder"]


def test_serve_installs_and_starts_the_gateway_with_its_flags(clone: Clone) -> None:
    """One command from a bare clone; nothing is installed for it the second time."""
    assert clone.run("serve", "--port", "8000").returncode == 0
    assert clone.notes() == [
        "venv",
        "pip serve.txt",
        "pip this folder",
        "farebox serve --port 8000",
    ]
    clone.run("serve")
    assert clone.notes() == ["farebox serve"]


def test_test_installs_what_tests_need_and_runs_them(clone: Clone) -> None:
    """Shared out to processes, with the arguments that it was given."""
    assert clone.run("test", "-k", "money").returncode == 0
    *installed, run = clone.notes()
    assert installed == ["venv", "pip dev.txt", "pip this folder"]
    assert run == "-m pytest -n auto --dist loadfile --no-loadscope-reorder -k money"


@pytest.mark.parametrize(
    ("named", "capture", "shared"),
    [
        (["tests"], "fd", True),
        (["tests/core", "tests/billing"], "fd", True),
        (["tests/core", "tests/core/test_money.py"], "fd", True),
        (["tests/core/test_money.py", "tests/core/test_ids.py"], "fd", False),
        (["tests/core/test_ids.py::test_a[tests/core]"], "fd", False),
        (["tests"], "no", False),
    ],
)
def test_folders_are_run_by_several_processes_and_files_by_one(
    pytestconfig: pytest.Config, named: list[str], capture: str, shared: bool
) -> None:
    """To start several takes longer than a few tests, and prints nothing while a test runs."""
    asked = SimpleNamespace(args=named, option=SimpleNamespace(capture=capture))
    processes = pytestconfig.hook.pytest_xdist_auto_num_workers(config=asked)
    assert (processes > 0, processes <= 4) == (shared, True)


def test_conformance_runs_where_the_user_stands(clone: Clone, tmp_path: Path) -> None:
    """So that the document is found by the name that the user gave it."""
    assert clone.run("conformance", "--schema", "x.yaml", "URL", "KEY", "MODEL").returncode == 0
    assert clone.notes()[-1] == (
        f"in {tmp_path.name}: -P -m tests.conformance --schema x.yaml URL KEY MODEL"
    )

"""The command as a process: help at once, usage errors as sentences, never a traceback."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from farebox import __version__


def farebox(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run the installed command with a clean environment of its own."""
    clean = {name: value for name, value in os.environ.items() if "FAREBOX" not in name}
    return subprocess.run(
        [Path(sys.executable).with_name("farebox"), *arguments],
        capture_output=True,
        text=True,
        env=clean | environ,
        timeout=60,
        check=False,
    )


def test_the_version_is_told() -> None:
    """`--version` prints it on stdout."""
    done = farebox("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"farebox {__version__}\n", "")


def test_help_names_every_noun() -> None:
    """So does the command without arguments, which is a usage error."""
    done = farebox("--help")
    assert done.returncode == 0
    for noun in ("serve", "apply", "export", "accounts", "keys", "receipts", "usage", "doctor"):
        assert f" {noun} " in done.stdout
    for arguments in ((), ("keys",)):
        bare = farebox(*arguments)
        assert (bare.returncode, bare.stdout) == (2, "")
        assert bare.stderr == farebox(*arguments, "--help").stdout


def test_help_shows_what_takes_a_value() -> None:
    """A flag stands alone; an option has a word for its value, not a type."""
    shown = farebox("serve", "--help").stdout
    assert "--no-local " in shown
    assert "--port PORT" in shown
    assert "<" not in shown


@pytest.mark.parametrize(
    ("called", "path", "again"),
    [
        ("{here}/farebox", "{here}", "farebox"),
        ("{here}/farebox", "/nowhere", "{here}/farebox"),
        ("{here}/other/farebox", "{here}", "{here}/other/farebox"),
        ("-c", "{here}", "farebox"),
    ],
)
def test_commands_are_named_as_this_shell_would_find_them(
    tmp_path: Path, called: str, path: str, again: str
) -> None:
    """A stranger's farebox is in the .venv of a clone, which is on nobody's PATH."""
    for folder in (tmp_path, tmp_path / "other"):
        folder.mkdir(exist_ok=True)
        (folder / "farebox").touch(mode=0o755)
    code = (
        "import sys; sys.argv[0] = sys.argv[1];"
        "from farebox.cli.common import program; print(program())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, called.format(here=tmp_path)],
        env={"PATH": path.format(here=tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == again.format(here=tmp_path)


def test_help_loads_nothing_heavy() -> None:
    """Neither the store's nor the server's libraries are needed to say what there is."""
    code = (
        "import sys; from farebox.cli.main import app; app(['--help'], standalone_mode=False);"
        "heavy = {'sqlalchemy', 'pydantic', 'starlette', 'alembic', 'jinja2', 'cryptography'};"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["acounts"], "No such command 'acounts'. Did you mean 'accounts'? See `farebox --help`."),
        (["accounts", "show"], "Missing argument 'NAME'. See `farebox accounts show --help`."),
        (
            ["accounts", "credit", "ann", "-5", "--reason", "r"],
            (
                "No such option: -5. No amount here is below zero. See `farebox accounts credit"
                " --help`."
            ),
        ),
        (["keys", "list", "--x"], "No such option: --x. See `farebox keys list --help`."),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], sentence: str) -> None:
    """On stderr, with exit code 2 and a way to learn more."""
    done = farebox(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{sentence}\n")


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (["--config", "/nowhere/farebox.toml"], 2, "/nowhere/farebox.toml cannot be read"),
        (["--database", "mysql://u:pw@h/d"], 2, "--database must be"),
        (["--data-dir", "/dev/null/x"], 1, "The store /dev/null/x/farebox.db cannot be opened"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_sentence(
    flags: list[str], code: int, sentence: str
) -> None:
    """Each wrong place has its exit code, and no password is repeated."""
    done = farebox("accounts", "list", *flags)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert "pw" not in done.stderr


def test_another_stores_secret_is_a_conflict(tmp_path: Path) -> None:
    """A key is not made with a secret that the store does not know: exit code 5."""
    flags = ["--data-dir", str(tmp_path)]
    assert farebox("accounts", "create", "ann", *flags).returncode == 0
    assert farebox("keys", "create", "--account", "ann", *flags).returncode == 0
    (tmp_path / "secret").write_bytes(b"x" * 32)
    done = farebox("keys", "create", "--account", "ann", *flags)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("The master secret is not the one")


def test_a_defect_is_one_sentence_unless_asked(tmp_path: Path) -> None:
    """What nobody foresaw ends without a traceback, and with one under FAREBOX_DEBUG=1."""
    flags = ["accounts", "create", "a", "--credits", "1", "--data-dir", str(tmp_path)]
    assert farebox(*flags).returncode == 0
    with closing(sqlite3.connect(tmp_path / "farebox.db")) as database:
        database.executescript(
            "CREATE TRIGGER spoil BEFORE INSERT ON transfers"
            " BEGIN SELECT RAISE(ABORT, 'spoilt'); END"
        )
    flags = ["accounts", "credit", "a", "1", "--reason", "r", "--data-dir", str(tmp_path)]
    done = farebox(*flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Something went wrong: IntegrityError")
    assert "Traceback" not in done.stderr
    assert "Traceback" in farebox(*flags, FAREBOX_DEBUG="1").stderr

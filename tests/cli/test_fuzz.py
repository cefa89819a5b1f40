"""Whatever is typed: a verb does its work or ends in a sentence, and no account stops adding up."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from farebox.cli.main import app
from farebox.store import open_store

# The bytes of a command line may be no UTF-8, which Python shows as lone surrogates.
_CHARACTERS = st.characters(exclude_characters="\0") | st.just("\udcff")
_TEXT = st.text(_CHARACTERS, max_size=12)
_WORD = _TEXT | st.sampled_from(["", "ann", "default", "group", "-1", "0", "1", "key_1", "req_1"])
_NUMBER = st.sampled_from(["1", "0.5", "-1", "1e9", "NaN", "1_0", "٣", "1e-999999", "9" * 30])
_AMOUNT = _NUMBER | st.decimals(allow_nan=False).map(str) | _TEXT
_SPAN = st.sampled_from(["30d", "0", "1h", "99999999w", "2026-01-01T00:00:00Z", "٣d"]) | _WORD
_TOML = st.sampled_from(
    ["[server]\n", "[[channels]]\n", "[[models]]\n", "[[groups]]\n", 'id = "a"\n', 'rate = "x"\n']
)
_FILE = st.lists(_TOML | _TEXT, max_size=6).map("".join)


def _options(**values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Any of these options, each written `--name=value`, so that a value may begin with a dash."""
    chosen = st.fixed_dictionaries({}, optional=values)
    return chosen.map(lambda each: [f"--{k.replace('_', '-')}={v}" for k, v in each.items()])


def _verb(*words: str | st.SearchStrategy[Any]) -> st.SearchStrategy[list[str]]:
    """A command line: words as they are, values behind `--` and options in front of it."""
    plain = [word for word in words if isinstance(word, str)]
    drawn = [word for word in words if not isinstance(word, str)]
    return st.tuples(*drawn).map(lambda found: _line(plain, found))


def _line(plain: list[str], found: tuple[Any, ...]) -> list[str]:
    options = [option for each in found if isinstance(each, list) for option in each]
    return [*plain, *options, "--", *(each for each in found if isinstance(each, str))]


_ACCOUNT = {"rate": _AMOUNT, "group": _WORD, "credit_limit": _AMOUNT}
_LINES = st.one_of(
    _verb("accounts", "create", _options(credits=_AMOUNT, **_ACCOUNT), _WORD),
    _verb("accounts", "set", _options(**_ACCOUNT), _WORD),
    _verb("accounts", "credit", _options(reason=_WORD), _WORD, _AMOUNT),
    _verb("accounts", "debit", _options(reason=_WORD), _WORD, _AMOUNT),
    _verb("accounts", "show", _WORD),
    _verb("keys", "create", _options(account=_WORD, name=_WORD, models=_WORD, expires=_SPAN)),
    _verb("keys", "list", _options(account=_WORD)),
    _verb("keys", "revoke", _WORD),
    _verb("keys", "roll", _options(overlap=_SPAN), _WORD),
    _verb("receipts", "show", _WORD),
    _verb("usage", _options(by=_WORD, since=_SPAN)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of all examples, with one account that has a key."""
    folder = tmp_path_factory.mktemp("fuzz")
    _run(folder, ["accounts", "create", "ann", "--credits", "5"])
    _run(folder, ["keys", "create", "--account", "ann"])
    return folder


def _run(folder: Path, line: list[str], stdin: str = "") -> Result:
    environ = {"FAREBOX_DATA_DIR": str(folder), "HOME": str(folder)}
    with contextlib.redirect_stderr(io.StringIO()):
        return CliRunner().invoke(app, line, input=stdin, env=environ, catch_exceptions=True)


def _is_told(done: Result) -> None:
    """Done, or refused by an exit code of the contract. Raises what only a defect raises."""
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in range(6)
    if done.exit_code:
        assert done.stdout == ""
        assert done.stderr.strip()


@settings(max_examples=150)
@given(line=_LINES)
def test_no_value_of_a_verb_is_a_defect(folder: Path, line: list[str]) -> None:
    """Names, amounts, rates, spans and ids of any kind; and every account adds up after it."""
    _is_told(_run(folder, line))
    store = open_store(f"sqlite:///{folder}/farebox.db", folder)
    try:
        for account in store.accounts():
            assert account.held_nanocredits == account.spent_nanocredits == 0
            assert account.credited_nanocredits == account.available_nanocredits
            assert account.available_nanocredits >= -account.credit_limit_nanocredits
    finally:
        store.close()


@given(text=_FILE)
def test_no_file_is_a_defect(folder: Path, text: str) -> None:
    """`apply --dry-run -` of anything: a difference, or what is wrong with it."""
    _is_told(_run(folder, ["apply", "--dry-run", "-"], text.encode(errors="replace").decode()))


def _verbs(command: Any, path: list[str]) -> Iterator[list[str]]:
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from _verbs(child, [*path, name])
        else:
            yield [*path, name]


VERBS = list(_verbs(typer.main.get_command(app), []))
# One process types them all: starting one for each would take longer than everything else.
TYPE_ALL = """
import contextlib, io, json, sys
from farebox.cli.main import main
told = []
for line in json.loads(sys.argv[1]):
    sys.argv = ["farebox", *line]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        told.append((end.code, out.getvalue(), err.getvalue()))
print(json.dumps(told))
"""


def test_every_verb_refuses_an_option_that_it_does_not_have() -> None:
    """Exit code 2, nothing on stdout, and one sentence that says where to look."""
    lines = [[*verb, "--no-such-option"] for verb in VERBS]
    done = subprocess.run(
        [sys.executable, "-c", TYPE_ALL, json.dumps(lines)], capture_output=True, check=True
    )
    assert json.loads(done.stdout) == [
        [2, "", f"No such option: --no-such-option. See `farebox {' '.join(verb)} --help`.\n"]
        for verb in VERBS
    ]

"""`farebox apply` and `export`: the catalogue as a file, through the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from farebox.cli.main import app

FILE = """
[server]
port = 1234

[[channels]]
id = "ds"
vendor = "deepseek"
api_key = "file:secret.txt"

[[models]]
id = "模型/pro"
aliases = ["pro"]
channels = [{ channel = "ds", model = "deepseek-v4-pro" }]

[models.price]
input = "1.32"
output = "3.96"
from = 2026-11-01
tiers = { flex = "0.5" }
tools = { web_search = "0.01" }
long_context = { threshold = 272000, input_multiplier = "2" }
windows = [{ days = "mon-fri", utc = "01:00-04:00", multiplier = "2" }]

[[groups]]
id = "free"
rate = "0"
models = ["pro*"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file beside an empty data folder."""
    path = tmp_path / "farebox.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def _run(
    tmp_path: Path, *arguments: str | Path, stdin: str | None = None, **environ: str
) -> Result:
    folder = ["--data-dir", str(tmp_path / "data")]
    environ = {"HOME": str(tmp_path), "FAREBOX_CONFIG": "", **environ}
    return CliRunner().invoke(
        app, [*map(str, arguments), *folder], input=stdin, env=environ, catch_exceptions=False
    )


def test_a_dry_run_prints_the_difference_and_changes_nothing(tmp_path: Path, file: Path) -> None:
    """The difference is on stdout, the talk on stderr."""
    result = _run(tmp_path, "apply", file, "--dry-run")
    assert result.exit_code == 0
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == [
        "+ channel ds",
        "+ model 模型/pro",
        "+ group free",
        "+ group default",
    ]
    assert result.stderr == "This was a dry run: nothing was changed.\n"
    assert _run(tmp_path, "export").stdout == _run(tmp_path / "other", "export").stdout


def test_apply_says_which_version_is_in_force(tmp_path: Path, file: Path) -> None:
    """Applied again, nothing differs and no version is made."""
    first = _run(tmp_path, "apply", file)
    assert (first.exit_code, first.stderr) == (
        0,
        "Version 1 is in force; a running server follows within 2 seconds.\n",
    )
    again = _run(tmp_path, "apply", file)
    assert (again.stdout, again.stderr) == ("", "No difference; version 1 stays in force.\n")


def test_what_export_prints_is_what_apply_reads(tmp_path: Path, file: Path) -> None:
    """`export | apply --dry-run -` shows no difference; [server] is not in it."""
    _run(tmp_path, "apply", file)
    exported = _run(tmp_path, "export")
    assert "1234" not in exported.stdout
    result = _run(tmp_path, "apply", "--dry-run", "-", stdin=exported.stdout)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No difference.\n")


def test_json_has_the_changes_and_the_document(tmp_path: Path, file: Path) -> None:
    """Old and new values by field."""
    _run(tmp_path, "apply", file)
    file.write_text(FILE.replace('"3.96"', '"4"'), encoding="utf-8")
    changed = json.loads(_run(tmp_path, "apply", file, "--json").stdout)
    assert changed == {
        "changes": [
            {
                "change": "changed",
                "kind": "model",
                "id": "模型/pro",
                "field": "price[2026-11-01].output",
                "old": "3.96",
                "new": "4",
            }
        ],
        "dry_run": False,
        "version": 2,
        "source": "file",
        "origin": str(file),
    }
    document = json.loads(_run(tmp_path, "export", "--json").stdout)
    assert document["models"][0]["price"]["from"] == "2026-11-01"


def test_a_file_reference_is_kept_with_its_whole_path(tmp_path: Path, file: Path) -> None:
    """It starts at the folder of the file, wherever the server runs."""
    _run(tmp_path, "apply", file)
    document = json.loads(_run(tmp_path, "export", "--json").stdout)
    assert document["channels"][0]["api_key"] == f"file:{tmp_path}/secret.txt"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[models]]\nid = 7", 'models[0].id must be a text in quotes, "7", not 7.'),
        ('[[groups]]\nid = "g"\nrate = "x"', "groups[0].rate 'x' is not a decimal number"),
        ("[[model]]", '"model" is not a table of it. Did you mean "models"?'),
        ("[server]\nport = 70000\n[billing]", "[server] port must be a port from 1 to 65535"),
        ("[server]", "says nothing of channels, models or groups, so nothing was changed."),
        ("[", "is not valid TOML: "),
    ],
)
def test_a_wrong_file_changes_nothing_and_is_exit_code_2(
    tmp_path: Path, file: Path, text: str, sentence: str
) -> None:
    """One sentence each, with the file's name."""
    _run(tmp_path, "apply", file)
    before = _run(tmp_path, "export").stdout
    file.write_text(text, encoding="utf-8")
    result = _run(tmp_path, "apply", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(str(file))
    assert sentence in result.stderr
    assert _run(tmp_path, "export").stdout == before


def test_standard_input_is_named_in_errors(tmp_path: Path) -> None:
    """It has no other name."""
    result = _run(tmp_path, "apply", "-", stdin="[billing]\nx = 1")
    assert result.exit_code == 2
    assert result.stderr.startswith("standard input: billing.x is not known here.")


def test_a_missing_file_and_no_file_are_exit_code_2(tmp_path: Path) -> None:
    """Both say what to do."""
    missing = _run(tmp_path, "apply", tmp_path / "no.toml")
    assert missing.exit_code == 2
    assert "cannot be read: No such file or directory" in missing.stderr
    nothing = _run(tmp_path, "apply")
    assert (nothing.exit_code, nothing.stderr.split(",")[0]) == (2, "Name the FILE to apply")


def test_the_store_that_the_file_names_is_the_one_applied_to(tmp_path: Path, file: Path) -> None:
    """As with `serve --config FILE`; another configuration wins over it."""
    file.write_text(
        f'[server]\ndata_dir = "by-file"\n{FILE.replace("[server]", "")}'.replace("port = 1234", "")
    )
    runner = CliRunner()
    environ = {"HOME": str(tmp_path), "FAREBOX_CONFIG": ""}
    assert runner.invoke(app, ["apply", str(file)], env=environ).exit_code == 0
    assert (tmp_path / "by-file" / "farebox.db").exists()
    other = tmp_path / "other.toml"
    other.write_text('[server]\ndata_dir = "by-other"\n')
    assert (
        runner.invoke(app, ["apply", str(file), "--config", str(other)], env=environ).exit_code == 0
    )
    assert (tmp_path / "by-other" / "farebox.db").exists()


def test_release_gives_the_catalogue_back_to_the_console(tmp_path: Path, file: Path) -> None:
    """It needs no file; a dry run says who manages it."""
    assert "no catalogue yet" in _run(tmp_path, "apply", "--release").stderr
    _run(tmp_path, "apply", file)
    dry = _run(tmp_path, "apply", "--release", "--dry-run")
    assert dry.stderr == f"This was a dry run: the catalogue is managed by {file}.\n"
    released = json.loads(_run(tmp_path, "apply", "--release", "--json").stdout)
    assert (released["version"], released["source"], released["origin"]) == (2, "console", "")
    again = json.loads(_run(tmp_path, "apply", "--release", "--json").stdout)
    assert again["version"] == 2
    with_file = json.loads(_run(tmp_path, "apply", file, "--release", "--json").stdout)
    assert (with_file["changes"], with_file["source"]) == ([], "console")

"""`farebox doctor`: problems fail, warnings do not, and nothing is changed."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from farebox.cli.main import app

FILE = """
[[channels]]
id = "ds"
vendor = "deepseek"
api_key = "env:MY_DEEPSEEK"

[[channels]]
id = "circle"
vendor = "openai_compatible"
base_url = "http://127.0.0.1:8790/v1"

[[models]]
id = "below"
channels = [{ channel = "ds", model = "m" }]
price = { input = "1", output = "4" }
cost = { input = "2", output = "2", cache_read = "0", tiers = { priority = "2" } }

[[models]]
id = "unsold"
channels = [{ channel = "circle", model = "m" }]
"""


def _run(tmp_path: Path, *arguments: str, **environ: str) -> Result:
    command = [*arguments, "--data-dir", str(tmp_path / "data")]
    environ = {"HOME": str(tmp_path), "FAREBOX_CONFIG": "", **environ}
    return CliRunner().invoke(app, command, env=environ, catch_exceptions=False)


def _apply(tmp_path: Path, text: str) -> None:
    file = tmp_path / "farebox.toml"
    file.write_text(text)
    assert _run(tmp_path, "apply", str(file)).exit_code == 0


def _findings(result: Result) -> dict[tuple[str, str], str]:
    found: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    return {(each["level"], each["subject"]): each["text"] for each in found}


def test_a_new_store_is_healthy(tmp_path: Path) -> None:
    """It has no secret and no catalogue yet, which is nothing wrong."""
    result = _run(tmp_path, "doctor", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["ok"], report["margins"]) == (True, [])
    assert [(each["level"], each["subject"]) for each in report["findings"]] == [
        ("ok", "data folder"),
        ("ok", "store"),
        ("ok", "secret"),
        ("ok", "local model"),
        ("ok", "vocabularies"),
        ("warning", "catalogue"),
    ]
    assert not (tmp_path / "data" / "secret").exists()


def test_a_reference_that_cannot_be_resolved_is_a_problem(tmp_path: Path) -> None:
    """It is named, and gone as soon as it is set. A channel to ourselves is a problem, too."""
    _apply(tmp_path, FILE)
    result = _run(tmp_path, "doctor", "--json")
    assert result.exit_code == 1
    found = _findings(result)
    assert found["problem", "channel ds"] == "closed: environment variable MY_DEEPSEEK is not set"
    assert found["problem", "channels"].startswith("Channel circle leads back to this gateway")
    assert ("ok", "channel ds") in _findings(_run(tmp_path, "doctor", "--json", MY_DEEPSEEK="k"))


def test_models_below_cost_are_warnings_and_margins_are_shown(tmp_path: Path) -> None:
    """As shares of the cost; what costs nothing has no margin."""
    _apply(tmp_path, FILE)
    result = _run(tmp_path, "doctor", "--json", MY_DEEPSEEK="k")
    warnings = [
        f"{each['subject']}: {each['text']}"
        for each in json.loads(result.stdout)["findings"]
        if each["level"] == "warning"
    ]
    assert warnings == [
        "model below: sells below cost: input 1 < 2, cache_write 1.25 < 2.5",
        "model below: costs more at times (tiers), which its price does not follow",
        "model unsold: has no price, so it is not sold",
    ]
    assert json.loads(result.stdout)["margins"] == [
        {"model": "below", "margin": {"input": "-0.5", "output": "1", "cache_write": "-0.5"}}
    ]


def test_a_price_to_come_that_is_below_cost_is_told_ahead(tmp_path: Path) -> None:
    """Once, with its day; so is a cost that rises above the price."""
    dated = """
    [[models]]
    id = "m"
    channels = [{ channel = "ds", model = "m" }]
    price = [
        { input = "3", output = "2" },
        { input = "1", output = "2", from = 2998-01-01 },
        { input = "1", output = "2", cache_read = "0.2", from = 2998-06-01 },
    ]
    cost = [
        { input = "2", output = "2", cache_write = "0" },
        { input = "2", output = "3", cache_write = "0", from = 2999-01-01 },
    ]
    """
    _apply(tmp_path, FILE.partition("[[models]]")[0] + dated)
    result = _run(tmp_path, "doctor", "--json", MY_DEEPSEEK="k")
    assert [
        each["text"]
        for each in json.loads(result.stdout)["findings"]
        if each["subject"] == "model m"
    ] == [
        "sells below cost: input 1 < 2, cache_read 0.1 < 0.2 from 2998-01-01",
        "sells below cost: input 1 < 2 from 2998-06-01",
        "sells below cost: input 1 < 2, output 2 < 3 from 2999-01-01",
    ]
    assert json.loads(result.stdout)["margins"] == [
        {"model": "m", "margin": {"input": "0.5", "output": "0", "cache_read": "0.5"}}
    ]


def test_a_secret_of_another_store_is_a_problem(tmp_path: Path) -> None:
    """So is one that is missing or open to others."""
    _run(tmp_path, "accounts", "create", "ada")
    _run(tmp_path, "keys", "create", "--account", "ada")
    secret = tmp_path / "data" / "secret"
    assert _findings(_run(tmp_path, "doctor", "--json"))["ok", "secret"] == "belongs to this store"
    secret.chmod(0o644)
    assert "chmod 600" in _findings(_run(tmp_path, "doctor", "--json"))["problem", "secret"]
    secret.chmod(0o600)
    secret.write_bytes(b"x" * 32)
    found = _findings(_run(tmp_path, "doctor", "--json"))
    assert found["problem", "secret"].startswith("The master secret is not the one")
    secret.unlink()
    found = _findings(_run(tmp_path, "doctor", "--json"))
    assert "is missing" in found["problem", "secret"]


def test_people_get_a_table_and_a_sentence(tmp_path: Path) -> None:
    """The table is on stdout."""
    _apply(tmp_path, FILE)
    result = _run(tmp_path, "doctor")
    assert "PROBLEM  channel ds" in result.stdout
    assert "input -50.0 %, output +100.0 %" in result.stdout
    assert result.stderr == "Something is wrong, see PROBLEM above.\n"

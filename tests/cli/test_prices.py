"""`farebox prices` as it is typed: what is in force, how it came about, and a new one."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run

FILE = """
[[channels]]
id = "ds"
vendor = "deepseek"
api_key = "env:DEEPSEEK_API_KEY"

[[models]]
id = "deepseek-v4-pro"
aliases = ["pro"]
channels = [{ channel = "ds", model = "up" }]

[[models.price]]
input = "6"
output = "7"
from = 2999-01-01

[[models.price]]
input = "1"
output = "2"
image_input = "3"
tiers = { flex = "0.5" }
tools = { web_search = "0.01" }
long_context = { threshold = 272000, input_multiplier = "2" }
windows = [{ days = "mon-fri", utc = "01:00-04:00", multiplier = "2" }]

[[models]]
id = "unsold"
"""
BEFORE = {
    "input": "1",
    "output": "2",
    "cache_read": "0.1",
    "cache_write": "1.25",
    "cache_write_1h": "2",
    "audio_input": "1",
    "audio_output": "2",
    "image_input": "3",
}
SHAPES = {
    "long_context": {"threshold": 272000, "input_multiplier": "2", "output_multiplier": "1"},
    "tiers": {"flex": "0.5"},
    "windows": [{"days": "mon,tue,wed,thu,fri", "utc": "01:00-04:00", "multiplier": "2"}],
    "tools": {"web_search": "0.01"},
}
COMING = {
    "from": "2999-01-01",
    "price": {
        "input": "6",
        "output": "7",
        "cache_read": "0.6",
        "cache_write": "7.5",
        "cache_write_1h": "12",
        "audio_input": "6",
        "audio_output": "7",
    },
}
LISTED = {
    "model": "deepseek-v4-pro",
    "version": 1,
    "from": None,
    "price": BEFORE | SHAPES,
    "next": [COMING],
}


@pytest.fixture
def file(run: Run, tmp_path: Path) -> Path:
    """The file that manages the catalogue, applied."""
    path = tmp_path / "farebox.toml"
    path.write_text(FILE)
    assert run("apply", str(path)).exit_code == 0
    return path


@pytest.fixture
def released(run: Run, file: Path) -> None:
    """The same without a file that manages it: version 2."""
    assert run("apply", "--release").exit_code == 0


def _json(run: Run, *arguments: str) -> object:
    result = run("prices", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.usefixtures("file")
def test_list_shows_what_is_in_force_and_what_comes(run: Run) -> None:
    """All classes, and what multiplies them; a model without a price is there, unsold."""
    unsold = {"model": "unsold", "version": 1, "from": None, "price": None, "next": []}
    assert _json(run, "list") == [LISTED, unsold]
    assert _json(run, "list", "PRO") == [LISTED]
    rows = [re.split(r"  +", line.strip()) for line in run("prices", "list").stdout.splitlines()]
    assert rows == [
        [
            *("model", "input", "output", "cache read", "cache write", "cache write 1h"),
            *("audio input", "audio output", "image input", "from", "version", "terms", "to come"),
        ],
        [
            *("deepseek-v4-pro", "1", "2", "0.1", "1.25", "2", "1", "2", "3", "-", "1"),
            (
                "above 272,000 tokens input × 2, output × 1; tier flex × 0.5; "
                "mon,tue,wed,thu,fri 01:00-04:00 UTC × 2; web_search 0.01 a call"
            ),
            "from 2999-01-01 input 6, output 7",
        ],
        ["unsold", *"-" * 9, "1", "not sold"],
    ]


def test_without_a_catalogue_there_are_no_prices(run: Run) -> None:
    """It is no error to ask."""
    assert _json(run, "list") == []
    assert run("prices", "list", "pro").exit_code == 3


@pytest.mark.usefixtures("released")
def test_set_makes_a_version_in_which_the_price_counts_from_now_on(run: Run) -> None:
    """Classes that are not named follow the rule; the rest of the price before it is kept, and so
    is what is to come.
    """
    result = run("prices", "set", "Pro", "--input", "4", "--output", "8", "--cache-read", "1")
    assert (result.exit_code, result.stderr.splitlines()) == (
        0,
        [
            "Kept of the price before it: long_context, tiers, windows, tools.",
            "Version 3 is in force; a running server follows within 2 seconds.",
        ],
    )
    assert dict(re.split(r": +", line) for line in result.stdout.splitlines())["cache_write"] == "5"
    now = {
        "input": "4",
        "output": "8",
        "cache_read": "1",
        "cache_write": "5",
        "cache_write_1h": "8",
        "audio_input": "4",
        "audio_output": "8",
    }
    assert _json(run, "list", "pro") == [LISTED | {"version": 3, "price": now | SHAPES}]
    exported = run("export").stdout
    assert exported.count("[[models.price]]") == 2


@pytest.mark.usefixtures("released")
def test_set_adds_a_price_that_begins_on_a_day(run: Run) -> None:
    """The one in force stays. A second one for that day takes the place of the first."""
    command = (
        "set pro --input 4 --output 8 --cache-read 0 --cache-write 0 --cache-write-1h 0"
        " --audio-input 9 --audio-output 10 --image-input 11 --from 2998-01-01"
    )
    new = _json(run, *command.split())
    classes = {
        "input": "4",
        "output": "8",
        "cache_read": "0",
        "cache_write": "0",
        "cache_write_1h": "0",
        "audio_input": "9",
        "audio_output": "10",
        "image_input": "11",
    }
    dated = {"from": "2998-01-01", "price": classes | SHAPES}
    assert new == LISTED | {"version": 3, "next": [dated, COMING]}
    again = run("prices", "set", "pro", "--input", "5", "--output", "8", "--from", "2998-01-01")
    assert "replaces another price that was to begin on 2998-01-01" in again.stderr
    (listed,) = json.loads(run("prices", "list", "pro", "--json").stdout)
    assert [each["price"]["input"] for each in listed["next"]] == ["5", "6"]


@pytest.mark.usefixtures("released")
def test_history_tells_each_change_of_a_price(run: Run, file: Path) -> None:
    """Which version, when, by whom, from which day; and which of them count."""
    run("prices", "set", "pro", "--input", "4", "--output", "8")
    run("prices", "set", "pro", "--input", "5", "--output", "8", "--from", "2998-01-01")
    file.write_text(FILE.replace("6", "5").replace('[[models]]\nid = "unsold"', ""))
    run("apply", str(file))
    changes = _json(run, "history", "deepseek-v4-pro")
    assert isinstance(changes, list)
    assert [
        (
            *(each["version"], each["source"], each["origin"], each["state"], each["from"]),
            each["price"]["input"],
        )
        for each in changes
    ] == [
        (1, "file", str(file), "past", None, "1"),
        (1, "file", str(file), "past", "2999-01-01", "6"),
        (3, "console", "", "past", None, "4"),
        (4, "console", "", "past", "2998-01-01", "5"),
        (5, "file", str(file), "withdrawn", "2998-01-01", "5"),
        (5, "file", str(file), "in_force", None, "1"),
        (5, "file", str(file), "coming", "2999-01-01", "5"),
    ]
    lines = run("prices", "history", "PRO").stdout.splitlines()
    assert [re.split(r"  +", line.strip())[3] for line in lines] == [
        *("state", "past", "past", "past", "past", "withdrawn", "in force", "to come"),
    ]


@pytest.mark.usefixtures("released")
def test_history_knows_models_that_are_gone(run: Run, file: Path) -> None:
    """Their price is withdrawn by the version that has them no more."""
    file.write_text("[[channels]]\nid = 'ds'\nvendor = 'deepseek'\napi_key = 'env:X'\n")
    run("apply", str(file))
    changes = _json(run, "history", "pro")
    assert isinstance(changes, list)
    assert [(each["version"], each["state"], each["price"]["input"]) for each in changes] == [
        (1, "past", "1"),
        (1, "past", "6"),
        (3, "withdrawn", "1"),
        (3, "withdrawn", "6"),
    ]
    assert run("prices", "list", "pro").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("set deepseek-v4-pr --input 1 --output 2", 3, "Did you mean 'deepseek-v4-pro'?"),
        ("history llama", 3, "There is no model 'llama' in the catalogue."),
        ("list llama", 3, "There is no model 'llama' in the catalogue."),
        (
            "set pro --input 0.0000000001 --output 2",
            2,
            "--input '0.0000000001' is finer than 0.000000001 credits per million tokens",
        ),
        ("set pro --input 0.000000001 --output 2", 2, "finer than the smallest unit kept"),
        ("set pro --input 1 --output -1", 2, "--output '-1' is below zero."),
        ("set pro --input 1 --output 1,5", 2, "--output '1,5' is not a decimal number"),
        ("set pro --input 1 --output 2 --from 2020-02-29", 2, "--from 2020-02-29 is over"),
        ("set pro --input 1 --output 2 --from soon", 2, "--from 'soon' is not a day"),
        ("set pro --input 1", 2, "--output"),
    ],
)
@pytest.mark.usefixtures("released")
def test_what_cannot_be_done_is_a_sentence_and_changes_nothing(
    run: Run, arguments: str, code: int, sentence: str
) -> None:
    """The code of the contract, and nothing on stdout."""
    before = run("export").stdout
    result = run("prices", *arguments.split())
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert run("export").stdout == before
    assert run("prices", "list", "pro", "--json").stdout.count('"version": 2') == 1


def test_a_file_keeps_its_prices(run: Run, file: Path) -> None:
    """While it manages the catalogue a price is changed there."""
    result = run("prices", "set", "pro", "--input", "1", "--output", "2")
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr == (
        f"The catalogue is managed by {file}. Change the price there, or give the catalogue up with"
        " `farebox apply --release`.\n"
    )
    assert _json(run, "list", "pro") == [LISTED]

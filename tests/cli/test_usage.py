"""`farebox usage` as it is typed, on a store without calls and with one."""

import json
from pathlib import Path

from farebox.core import clock
from farebox.core.measured import Measured
from farebox.core.usage import Usage
from farebox.store import open_store
from tests.cli.conftest import Run, settle_in
from tests.settlements import settlement


def _settle_one(folder: Path) -> None:
    call = settlement(
        created_us=clock.now_us(),
        usage=Usage(uncached_input=1000, output=50),
        due_nanocredits=1_500_000,
    )
    settle_in(folder, call)


def test_usage_is_summed(run: Run, tmp_path: Path) -> None:
    """--by chooses what the rows are of; the total is the same."""
    run("accounts", "create", "ann", "--credits", "1")
    _settle_one(tmp_path / "data")
    for by, label in (("model", "m-1"), ("key", "key_1")):
        report = json.loads(run("usage", "--by", by, "--since", "1d", "--json").stdout)
        assert list(report) == ["since", "until", "rows", "total"]
        assert [(row[by], row["calls"], row["charge_nanocredits"]) for row in report["rows"]] == [
            (label, 1, 1_500_000)
        ]
        assert report["total"]["tokens"]["uncached_input"] == 1000


def test_for_people_there_is_a_table_with_a_total(run: Run, tmp_path: Path) -> None:
    """Charges are in credits, and the span is told on stderr."""
    run("accounts", "create", "ann", "--credits", "1")
    _settle_one(tmp_path / "data")
    result = run("usage")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert (rows[0][:2], rows[0][-1]) == (["model", "calls"], "charge")
    assert "output" in rows[0]
    assert "audio" not in rows[0]  # nobody used it
    assert (rows[1][:3], rows[1][-1]) == (["m-1", "1", "1000"], "0.0015")
    assert (rows[2][:3], rows[2][-1]) == (["total", "1", "1000"], "0.0015")
    assert result.stderr.endswith("charges in credits\n")


def test_what_was_absorbed_is_a_column_where_there_is_some(run: Run, tmp_path: Path) -> None:
    """Beside the charge; in JSON it is always there."""
    run("accounts", "create", "ann", "--credits", "0.001")
    _settle_one(tmp_path / "data")
    head, row, total = (line.split() for line in run("usage").stdout.splitlines())
    assert (head[-2:], row[-2:], total[-2:]) == (
        ["charge", "absorbed"],
        ["0.001", "0.0005"],
        ["0.001", "0.0005"],
    )
    (row,) = json.loads(run("usage", "--json").stdout)["rows"]
    assert (row["charge_nanocredits"], row["absorbed_nanocredits"]) == (1_000_000, 500_000)


def test_calls_that_were_not_delivered_are_listed(run: Run, tmp_path: Path) -> None:
    """Which, whose, when and for how much: an operator may want to refund them."""
    run("accounts", "create", "ann", "--credits", "1")
    _settle_one(tmp_path / "data")
    empty = run("usage", "--undelivered", "--json")
    assert json.loads(empty.stdout)["rows"] == []
    now_us = clock.now_us()
    call = settlement(
        request_id="req_2", outcome="undelivered", created_us=now_us, due_nanocredits=9
    )
    settle_in(tmp_path / "data", call)
    report = json.loads(run("usage", "--undelivered", "--since", "1h", "--json").stdout)
    assert report["rows"] == [
        {
            "request_id": "req_2",
            "account": "ann",
            "key_id": "key_1",
            "model": "m-1",
            "created_at": clock.rfc3339(now_us),
            "charge_nanocredits": 9,
        }
    ]
    assert report["total"] == {"calls": 1, "charge_nanocredits": 9}
    result = run("usage", "--undelivered")
    assert result.stdout.split()[-6:-1] == ["req_2", "ann", "key_1", "m-1", clock.rfc3339(now_us)]
    assert result.stderr.endswith("1 calls, 0.000000009 credits.\n")


def test_a_wrong_question_is_refused(run: Run) -> None:
    """Exit code 2 and a sentence."""
    for arguments in (("--by", "account"), ("--since", "soon")):
        result = run("usage", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert arguments[0] in result.stderr


def _measure_one(folder: Path) -> None:
    store = open_store(f"sqlite:///{folder}/farebox.db", folder)
    store.add_measured(Measured("m-1", "o200k_base", False, 1000, 1024, 12_500), clock.now_us())
    store.close()


def test_calibration_is_told_by_model(run: Run, tmp_path: Path) -> None:
    """As a table with shares in per cent, and as JSON."""
    run("accounts", "create", "ann")
    _measure_one(tmp_path / "data")
    result = run("usage", "--calibration", "--since", "1d")
    head, row = result.stdout.splitlines()
    assert " ".join(head.split()) == (
        "model vocabulary count calls counted reported factor mean off by most off by"
    )
    assert " ".join(row.split()) == "m-1 o200k_base estimated 1 1000 1024 1.024 1.25 % 1.25 %"
    assert "reported ÷ counted" in result.stderr
    report = json.loads(run("usage", "--calibration", "--json").stdout)
    assert report["rows"][0]["factor"] == "1.024"


def test_without_measurements_a_sentence_says_how_there_are_some(run: Run) -> None:
    """For people; JSON has no rows."""
    result = run("usage", "--calibration")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "/v1/messages/count_tokens" in result.stderr
    assert json.loads(run("usage", "--calibration", "--json").stdout)["rows"] == []

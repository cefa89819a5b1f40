"""`farebox receipts` as it is typed, after one call."""

import json
from pathlib import Path

import pytest

from farebox.core import clock
from farebox.core.call import Attempt
from farebox.core.usage import Usage
from tests.cli.conftest import Run, settle_in
from tests.settlements import settlement

CATALOGUE = """
[[channels]]
id = "main"
vendor = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"

[[models]]
id = "m-1"
channels = [{ channel = "main", model = "up" }]
price = { input = "2", output = "8" }
"""


@pytest.fixture
def called(run: Run, tmp_path: Path) -> Run:
    """A store with one call in it: 1000 tokens in, 50 out, at rate 0.5, so 0.0012 credits."""
    path = tmp_path / "farebox.toml"
    path.write_text(CATALOGUE)
    assert run("apply", str(path)).exit_code == 0
    run("accounts", "create", "ann", "--credits", "1", "--rate", "0.5")
    settle_in(
        tmp_path / "data",
        settlement(
            request_id="req_abc",
            stream=False,
            created_us=clock.now_us(),
            rate_ppm=500_000,
            usage=Usage(uncached_input=1000, output=50),
            due_nanocredits=1_200_000,
            attempts=(Attempt(1, "main", 200, None, 90, 40),),
        ),
    )
    return run


def test_a_receipt_is_printed_whole(called: Run) -> None:
    """With --json it is the object of GET /v1/receipts, by either id."""
    result = called("receipts", "show", "req_abc", "--json")
    receipt = json.loads(result.stdout)
    assert (receipt["request_id"], receipt["account"]) == ("req_abc", "ann")
    assert [line["amount"] for line in receipt["lines"]] == ["1000000", "200000"]
    assert receipt["charge_nanocredits"] == 1_200_000
    assert called("receipts", "show", "resp_abc", "--json").stdout == result.stdout


def test_for_people_a_receipt_has_lines_and_attempts(called: Run) -> None:
    """Amounts in credits: the charge, then a row a class, the rounding, and a row an attempt."""
    rows = [line.split() for line in called("receipts", "show", "req_abc").stdout.splitlines()]
    assert ["charge:", "0.0012", "credits"] in rows
    assert ["uncached_input", "1000", "2", "1", "0.001"] in rows
    assert ["output", "50", "8", "1", "0.0002"] in rows
    assert ["rounding", "0"] in rows
    assert ["1", "main", "200", "-", "90", "40"] in rows


def test_an_unknown_receipt_is_not_found(called: Run) -> None:
    """Exit code 3 and a sentence."""
    result = called("receipts", "show", "req_nix")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "There is no receipt 'req_nix'" in result.stderr

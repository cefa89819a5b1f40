"""`farebox receipts` as it is typed, after one call."""

import json
import re
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
            hold_nanocredits=5_000_000,
            flags=("estimated",),
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


def test_for_people_a_receipt_is_whole(called: Run) -> None:
    """As a customer may be shown it: what was asked for, a row a class, the sums, the attempts."""
    text = called("receipts", "show", "req_abc").stdout
    times = dict(re.findall(r"^(admitted|settled): +(\S+)$", text, re.MULTILINE))
    assert " ".join(text.split()) == " ".join(
        f"""
        request_id: req_abc account: ann key_id: key_1 model: m-1 channel: main dialect: chat
        stream: no outcome: complete admitted: {times["admitted"]} settled: {times["settled"]}
        price version: 1 rate: 0.5 flag estimated: the vendor reported no usage; tokens are what
        was received, and an estimate of what was sent
        class tokens price per million multiplier credits
        uncached_input 1000 2 1 0.001
        output 50 8 1 0.0002
        rounding 0
        total 0.0012
        Credits are those of the price × multiplier × rate 0.5.
        held: 0.005 credits while the call ran
        charge: 0.0012 credits, from lease 1
        attempt channel status error ms ttft ms
        1 main 200 - 90 40
        """.split()
    )


def test_what_the_account_did_not_have_is_told(called: Run, tmp_path: Path) -> None:
    """Absorbed, in a sentence; a call without lines has none."""
    run = called
    run("accounts", "create", "bob")
    settle_in(
        tmp_path / "data",
        settlement(request_id="req_poor", account_id=2, due_nanocredits=5, model="gone"),
    )
    text = run("receipts", "show", "req_poor").stdout
    assert "absorbed: 0.000000005 credits that the account did not have" in " ".join(text.split())
    assert "class" not in text


def test_an_unknown_receipt_is_not_found(called: Run) -> None:
    """Exit code 3 and a sentence."""
    result = called("receipts", "show", "req_nix")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "There is no receipt 'req_nix'" in result.stderr

"""What an operator does beside a running gateway: prices, budgets, and credits that it has in
hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farebox.core.money import parse_credits
from tests.e2e.config import keys, write_config
from tests.e2e.serving import Serving, until
from tests.fakes.upstream import FakeUpstream

SAID = [{"role": "user", "content": "Hello"}]
DATED = """
[[models]]
id = "dated"
max_output = 4000
channels = [{ channel = "openai", model = "gpt-5.6" }]

[[models.price]]
input = "6"
output = "6"
from = 2999-01-01

[[models.price]]
input = "3"
output = "4"
from = 2020-01-01

[[models.price]]
input = "1"
output = "1"

[[models]]
id = "later"
channels = [{ channel = "openai", model = "gpt-5.6" }]
price = { input = "1", output = "1", from = 2999-01-01 }
"""


@pytest.fixture(scope="module")
def operated(
    fake_upstream_server: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    """A gateway whose catalogue no file manages, and which keeps credit in hand for long."""
    folder: Path = tmp_path_factory.mktemp("operated")
    config = write_config(folder / "farebox.toml", fake_upstream_server, DATED)
    environ = keys(fake_upstream_server) | {"FAREBOX_LEASE_IDLE_S": "4"}
    args = ("--data-dir", str(folder / "data"), "--no-local", "--workers", "1")
    serving = Serving(folder, args, environ)
    serving.cli("apply", str(config), "--release")
    with serving:
        yield serving


def _account(gateway: Serving, name: str, *limits: str, credits: str = "1") -> str:
    gateway.cli("accounts", "create", name, "--credits", credits)
    return gateway.cli("keys", "create", "--account", name, *limits)["key"]


def _charge(gateway: Serving, key: str, model: str) -> dict[str, Any]:
    answer = gateway.chat(key, model=model, messages=SAID)
    assert answer.status == 200, answer.body
    return gateway.receipt(answer, key)


def _by_hand(receipt: dict[str, Any], price_in: str, price_out: str) -> int:
    usage = receipt["usage"]
    per_token = parse_credits(price_in) // 10**6, parse_credits(price_out) // 10**6
    return usage["uncached_input"] * per_token[0] + usage["output"] * per_token[1]


def test_the_price_whose_day_has_come_is_charged(operated: Serving) -> None:
    """Neither the one before it nor the one to come; and what is not sold yet is 404."""
    key = _account(operated, "dated")
    receipt = _charge(operated, key, "dated")
    assert receipt["charge_nanocredits"] == _by_hand(receipt, "3", "4") > 0
    assert operated.get("/v1/models/dated", key).json["price"]["input"] == "3"
    row = next(row for row in operated.get("/pricing.json").json["models"] if row["id"] == "dated")
    assert (row["price"]["output"], row["next_price"]["from"]) == ("4", "2999-01-01")
    later = operated.chat(key, model="later", messages=SAID)
    assert (later.status, later.json["error"]["code"]) == (404, "model_not_found")


def test_a_price_that_is_set_counts_within_two_seconds(operated: Serving) -> None:
    """Receipts from before show what was charged then, by the version that they name."""
    key = _account(operated, "setter")
    old = _charge(operated, key, "dated")
    operated.cli("prices", "set", "dated", "--input", "7", "--output", "8")

    def is_new() -> bool:
        return operated.get("/v1/models/dated", key).json["price"]["input"] == "7"

    until(is_new, 2, "the new price")
    new = _charge(operated, key, "dated")
    assert new["charge_nanocredits"] == _by_hand(new, "7", "8")
    assert new["price_version"] > old["price_version"]
    again = operated.get(f"/v1/receipts/{old['request_id']}", key).json
    assert again == old
    changes = operated.cli("prices", "history", "dated")
    assert [(each["state"], each["price"]["input"]) for each in changes] == [
        *(("past", "3"), ("coming", "6"), ("in_force", "7")),
    ]


def test_a_key_is_refused_when_its_budget_is_used_up(operated: Serving) -> None:
    """429 with a code of its own, while another key of the account goes on; a new budget helps."""
    key = _account(operated, "budgeted", "--budget", "0.02", "--per", "day")
    key_id = next(row["id"] for row in operated.cli("keys", "list", "--account", "budgeted"))
    spent = _charge(operated, key, "gpt-5.6")["charge_nanocredits"]
    assert operated.cli("keys", "show", key_id)["budget_spent_nanocredits"] == spent > 0
    operated.cli("keys", "set", key_id, "--budget", "0.000000001")

    def refused() -> bool:
        return operated.chat(key, model="gpt-5.6", messages=SAID, max_tokens=16).status == 429

    until(refused, 5, "the lower budget")
    answer = operated.chat(key, model="gpt-5.6", messages=SAID)
    assert answer.json["error"]["code"] == "key_budget_exceeded"
    assert answer.json["error"]["type"] == "insufficient_quota"
    assert answer.headers["x-should-retry"] == "false"
    other = operated.cli("keys", "create", "--account", "budgeted")["key"]
    assert operated.chat(other, model="gpt-5.6", messages=SAID).status == 200
    operated.cli("keys", "set", key_id, "--no-budget")
    until(lambda: not refused(), 5, "no budget")


def test_a_debit_takes_what_the_gateway_has_in_hand(operated: Serving) -> None:
    """All that calls have left, at once, though the gateway would have kept it for a while."""
    key = _account(operated, "debited")
    _charge(operated, key, "gpt-5.6")
    shown = operated.cli("accounts", "show", "debited")
    taken = operated.cli(
        *("accounts", "debit", "debited", shown["balance"], "--reason", "closed"),
    )
    assert (taken["balance_nanocredits"], taken["held_nanocredits"]) == (0, 0)
    kinds = [line["kind"] for line in operated.cli("accounts", "statement", "debited")]
    assert kinds[:2] == ["debit", "lease_return"]
    assert operated.chat(key, model="gpt-5.6", messages=SAID).status == 429

"""Receipts: every line from the tokens, price and rate of the call, adding up to its charge."""

from decimal import Decimal
from typing import Any

import pytest

from farebox.admin import accounts, catalogue, receipts
from farebox.core.call import Attempt
from farebox.core.ports import Settlement
from farebox.core.usage import Usage
from farebox.errors import NotFound
from farebox.store import Store
from tests import settlements
from tests.charging import settle

DOCUMENT: dict[str, Any] = {
    "channels": [
        {
            "id": "main",
            "vendor": "openai_compatible",
            "base_url": "http://127.0.0.1:9/v1",
        }
    ],
    "models": [
        {
            "id": "m-1",
            "channels": [{"channel": "main", "model": "up"}],
            "price": {"input": "2", "output": "8"},
        }
    ],
}
USAGE = Usage(uncached_input=1001, cache_read=500, cache_write=100, output=33)
# 0.8 × (1001 × 2000 + 500 × 200 + 100 × 2500 + 33 × 8000) nano-credits
DUE = 2_092_800


def settlement(**more: object) -> Settlement:
    """A call at rate 0.8 that cost 0.0020928 credits."""
    parts: dict[str, object] = {
        "request_id": "req_abc",
        "rate_ppm": 800_000,
        "usage": USAGE,
        "due_nanocredits": DUE,
        "hold_nanocredits": 5_000_000,
        "flags": ("estimated",),
        "attempts": (
            Attempt(1, "gone", None, "connect", 3),
            Attempt(2, "main", 200, None, 90, 40),
        ),
    }
    return settlements.settlement(**(parts | more))


@pytest.fixture
def stocked(store: Store) -> Store:
    """A store with a catalogue, and the accounts 1 (with money) and 2."""
    catalogue.apply(store, DOCUMENT, "file", "f.toml")
    accounts.create(store, "ann", credits="1")
    accounts.create(store, "bob")
    return store


def test_a_receipt_has_the_shape_of_the_contract(stocked: Store) -> None:
    """All of it, with the exact amounts worked out by hand."""
    settle(stocked, settlement())
    tokens = USAGE.as_dict()

    def line(name: str, price: int, amount: str) -> dict[str, object]:
        return {
            "class": name,
            "tokens": tokens[name],
            "price_nanocredits_per_million": price,
            "multiplier": "1",
            "amount": amount,
        }

    receipt = receipts.show(stocked, "req_abc")
    assert receipt == {
        "request_id": "req_abc",
        "account": "ann",
        "key_id": "key_1",
        "model": "m-1",
        "channel": "main",
        "dialect": "chat",
        "stream": True,
        "service_tier": None,
        "outcome": "complete",
        "created_at": "2026-11-23T12:00:00.000Z",
        "settled_at": receipt["settled_at"],
        "price_version": 1,
        "rate": "0.8",
        "usage": tokens,
        "lines": [
            line("uncached_input", 2_000_000_000, "1601600"),
            line("cache_read", 200_000_000, "80000"),
            line("cache_write", 2_500_000_000, "200000"),
            line("output", 8_000_000_000, "211200"),
        ],
        "rounding": "0",
        "hold_nanocredits": 5_000_000,
        "charge_nanocredits": DUE,
        "absorbed_nanocredits": 0,
        "lease_id": 1,
        "flags": ["estimated"],
        "attempts": [
            {
                "n": 1,
                "channel": "gone",
                "status": None,
                "error": "connect",
                "ms": 3,
                "ttft_ms": None,
            },
            {"n": 2, "channel": "main", "status": 200, "error": None, "ms": 90, "ttft_ms": 40},
        ],
    }


def test_amounts_and_rounding_add_up_to_charge_and_absorbed(stocked: Store) -> None:
    """Σ amount + rounding = charge + absorbed, also with fractions and without money."""
    settle(stocked, settlement(account_id=2, rate_ppm=333_333, due_nanocredits=872_000))
    receipt = receipts.show(stocked, "req_abc")
    amounts = [Decimal(line["amount"]) for line in receipt["lines"]]
    assert sum(amounts) == Decimal("871999.128")
    assert Decimal(receipt["rounding"]) == Decimal("0.872")
    assert (receipt["charge_nanocredits"], receipt["absorbed_nanocredits"]) == (0, 872_000)


def test_a_receipt_uses_the_price_of_its_own_time(stocked: Store) -> None:
    """A price that changed later changes no receipt."""
    settle(stocked, settlement())
    before = receipts.show(stocked, "req_abc")
    model = DOCUMENT["models"][0] | {"price": {"input": "9", "output": "9"}}
    catalogue.apply(stocked, DOCUMENT | {"models": [model]}, "file", "f.toml")
    assert receipts.show(stocked, "req_abc") == before


def test_a_call_that_was_let_off_has_no_lines(stocked: Store) -> None:
    """Nothing due: no lines, whatever was counted."""
    settle(stocked, settlement(due_nanocredits=0, outcome="upstream_failed"))
    receipt = receipts.show(stocked, "req_abc")
    assert (receipt["lines"], receipt["rounding"], receipt["charge_nanocredits"]) == ([], "0", 0)


@pytest.mark.parametrize("kind", ["resp", "msg"])
def test_the_id_of_an_answer_leads_to_the_same_receipt(stocked: Store, kind: str) -> None:
    """`resp_`, `msg_` and `req_` with one body are one call."""
    settle(stocked, settlement())
    assert receipts.show(stocked, f"{kind}_abc") == receipts.show(stocked, "req_abc")


@pytest.mark.parametrize("request_id", ["req_x", "resp_", "msg_", "abc", "", "req", "x_abc"])
def test_an_unknown_id_is_not_found(stocked: Store, request_id: str) -> None:
    """So is anything that is no id."""
    settle(stocked, settlement())
    with pytest.raises(NotFound, match="There is no receipt"):
        receipts.show(stocked, request_id)


def test_another_accounts_receipt_is_not_found(stocked: Store) -> None:
    """To the wrong account it looks exactly like an id that does not exist."""
    settle(stocked, settlement())
    assert receipts.show(stocked, "req_abc", 1)["account"] == "ann"
    with pytest.raises(NotFound) as others:
        receipts.show(stocked, "req_abc", 2)
    assert "There is no receipt 'req_abc'" in str(others.value)

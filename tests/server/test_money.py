"""GET /v1/credits and /v1/receipts/{id}."""

import pytest

pytestmark = pytest.mark.anyio


async def test_credits_are_the_callers_own(worker):
    """Each key sees the account that it belongs to."""
    other = worker.keys.add("bob")
    await worker.state.directory.reload()
    for secret, name in ((worker.secret, "account 1"), (other, "account 2")):
        answer = await worker.ask("GET", "/v1/credits", secret=secret)
        assert (answer.status, answer.json) == (200, {"name": name, "balance": "4.25"})
        assert answer.headers["cache-control"] == "no-store"


async def test_a_receipt_is_shown_to_its_account_only(worker):
    """Another account's receipt and one that never was are the same 404."""
    other = worker.keys.add("bob")
    await worker.state.directory.reload()
    worker.reads.receipts["req_1", 1] = {"request_id": "req_1", "charge_nanocredits": 7}
    answer = await worker.ask("GET", "/v1/receipts/req_1", secret=worker.secret)
    assert (answer.status, answer.json["charge_nanocredits"]) == (200, 7)
    foreign = await worker.ask("GET", "/v1/receipts/req_1", secret=other)
    assert foreign.status == 404
    never = await worker.ask("GET", "/v1/receipts/req_2", secret=worker.secret)
    assert (
        never.json["error"]["message"].replace("req_2", "req_1") == foreign.json["error"]["message"]
    )


@pytest.mark.parametrize("path", ["credits", "receipts/req_1", "models", "models/m"])
async def test_a_key_is_needed(worker, path):
    """Nothing of an account is shown without its key."""
    answer = await worker.ask("GET", f"/v1/{path}")
    assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/v1/credits", "/v1/receipts/req_1"])
async def test_a_store_that_cannot_be_read_is_503(worker, path):
    """It is nobody's defect, and may be over soon: clients are told to try again."""
    worker.reads.broken = True
    answer = await worker.ask("GET", path, secret=worker.secret)
    assert (answer.status, answer.json["error"]["code"]) == (503, "billing_unavailable")
    assert answer.headers["retry-after"] == "5"

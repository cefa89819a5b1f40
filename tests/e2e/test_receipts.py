"""One answer of an upstream costs the same, whichever API and form it was asked for in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.config import MODELS
from tests.e2e.serving import Answer, Serving

SCRIPT = "say: one two three\ntokens: 1000 600 50 20"
OWN = ("request_id", "dialect", "stream", "created_at", "attempts", "hold_nanocredits")


def _respond(gateway: Serving, **body: Any) -> Answer:
    return gateway.request("POST", "/v1/responses", json.dumps(body).encode())


def _costs(gateway: Serving, answer: Answer) -> dict[str, Any]:
    """What a receipt says of the money: all that is not the call's own."""
    assert answer.status == 200, answer.body
    receipt = gateway.receipt(answer)
    return {name: value for name, value in receipt.items() if name not in OWN}


@pytest.mark.parametrize("vendor", MODELS)
def test_chat_and_responses_of_one_answer_have_equal_receipts(
    gateway: Serving, vendor: str
) -> None:
    """Natively and translated, whole and streamed: the usage, each line, the charge."""
    model = MODELS[vendor]
    messages = [{"role": "user", "content": SCRIPT}]
    answers = [
        gateway.chat(model=model, messages=messages, max_tokens=500),
        gateway.chat(model=model, messages=messages, max_tokens=500, stream=True),
        _respond(gateway, model=model, input=SCRIPT, max_output_tokens=500),
        _respond(gateway, model=model, input=SCRIPT, max_output_tokens=500, stream=True),
    ]
    first, *others = [_costs(gateway, answer) for answer in answers]
    assert first["charge_nanocredits"] > 0
    assert first["usage"]["cache_read"] == 600
    assert others == [first] * 3
    shown = answers[2].json["usage"]
    assert (shown["input_tokens"], shown["output_tokens"]) == (1000, 50)
    assert shown["input_tokens_details"]["cached_tokens"] == 600
    assert shown["output_tokens_details"]["reasoning_tokens"] in (0, 20)  # not every vendor tells

"""One price: the page, its JSON, the list of models and the charge of a call say the same."""

import math
import re
from fractions import Fraction

import pytest

from farebox.console import pricing
from tests.server.test_chat import BODY, RAW_ANSWER, USAGE
from tests.server.worker import JSON_HEAD, make_worker, running

pytestmark = pytest.mark.anyio


async def test_page_json_models_and_charge_agree():
    """What a call is charged is its tokens times the prices that are shown in three places."""
    worker = make_worker()
    pages = pricing.routes(lambda: worker.state.gateway.catalogue, worker.state.settings)
    async with running(worker, pages):
        public = (await worker.ask("GET", "/pricing.json")).json["models"]
        html = (await worker.ask("GET", "/pricing")).body.decode()
        own = (await worker.ask("GET", "/v1/models", secret=worker.secret)).json["data"]
        worker.will_answer(JSON_HEAD, RAW_ANSWER)
        assert (await worker.call(BODY)).status == 200
    rows = {row["id"]: row for row in public}
    for item in own:
        row = {name: value for name, value in rows[item["id"]].items() if name != "next_price"}
        assert {name: item[name] for name in row} == row
    price = rows["m"]["price"]
    shown = re.search(r'<tr data-model="m">.*?</tr>', html, re.DOTALL)
    assert shown is not None
    assert dict(re.findall(r'data-class="(\w+)">([^<]+)<', shown[0])) == price
    (settlement,) = worker.books.settlements
    exact = USAGE["prompt_tokens"] * Fraction(price["input"])
    exact += USAGE["completion_tokens"] * Fraction(price["output"])
    assert settlement.due_nanocredits == math.ceil(exact / 1_000_000 * 10**9)

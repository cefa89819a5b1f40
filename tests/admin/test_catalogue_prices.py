"""Prices that begin on a day: how they are written, what is sold by them, and how they differ."""

import tomllib
from datetime import date
from typing import Any

from farebox.admin import catalogue
from farebox.admin.catalogue_file import check
from farebox.billing.prices import read_price, show_day
from farebox.core.money import show_credits
from tests.admin.catalogues import DEEPSEEK, MODEL, Store, snapshot_of


def _priced(*prices: dict[str, Any]) -> dict[str, Any]:
    model = {key: value for key, value in MODEL.items() if key != "cost"}
    return {"channels": [DEEPSEEK], "models": [{**model, "price": list(prices)}]}


ALWAYS = {"input": "1", "output": "2"}
SOON = {"input": "3", "output": "4", "from": date(2027, 1, 1)}
LATE = {"input": "5", "output": "6", "from": "2027-02-01", "tiers": {"flex": "0.5"}}


def test_a_model_has_the_prices_of_its_tables_in_the_order_of_their_days() -> None:
    """Their order in the file does not matter, and one alone is a table."""
    document = check(_priced(LATE, ALWAYS, SOON))
    soon = {**SOON, "from": "2027-01-01"}
    assert document["models"][0]["price"] == [ALWAYS, soon, LATE]
    model = snapshot_of(document).models["deepseek-v4-pro"]
    assert model.prices == tuple(read_price(each) for each in (ALWAYS, SOON, LATE))
    begins_us = [price.starts_us for price in model.prices]
    assert begins_us == [0, 1_798_761_600_000_000, 1_801_440_000_000_000]
    at = [model.price_at(us) for us in (begins_us[1] - 1, begins_us[1], begins_us[2])]
    assert at == list(model.prices)
    assert check(_priced(SOON))["models"][0]["price"] == soon
    assert snapshot_of(_priced(SOON)).models["deepseek-v4-pro"].price_at(begins_us[1] - 1) is None


def test_a_cost_that_changes_changes_the_cache_prices_that_are_the_vendors() -> None:
    """On the same day, unless the price names its own; days without a difference are none."""
    vendors = [
        {**ALWAYS, "cache_read": "0.1", "cache_write": "0"},
        {**ALWAYS, "cache_read": "0.1", "cache_write": "0", "from": "2026-12-01"},
        {**ALWAYS, "cache_read": "0.2", "cache_write": "0", "from": "2027-01-15"},
    ]
    document = _priced(ALWAYS, SOON, LATE)
    document["models"][0]["cost"] = vendors
    by_vendor = snapshot_of({**document, "billing": {"cache_prices": "vendor"}})
    found = by_vendor.models["deepseek-v4-pro"].prices
    assert [
        (show_day(price.starts_us), show_credits(price.input), show_credits(price.cache_read))
        for price in found
    ] == [
        (None, "1", "0.1"),
        ("2027-01-01", "3", "0.1"),
        ("2027-01-15", "3", "0.2"),
        ("2027-02-01", "5", "0.2"),
    ]
    assert {price.cache_write for price in found} == {0}
    by_rule = snapshot_of(document).models["deepseek-v4-pro"]
    assert [price.cache_read * 10 for price in by_rule.prices] == [
        price.input for price in by_rule.prices
    ]


def test_prices_differ_by_their_days() -> None:
    """One that comes or goes is one difference; of one that stays each field is."""
    store = Store()
    catalogue.apply(store, _priced(ALWAYS, SOON), "file", "a.toml")
    applied = catalogue.apply(
        store, _priced(LATE, {**ALWAYS, "output": "9", "cache_read": "0"}), "file", "a.toml"
    )
    assert [change.line for change in applied.changes] == [
        "~ model deepseek-v4-pro price.cache_read: (default) → 0",
        "~ model deepseek-v4-pro price.output: 2 → 9",
        "~ model deepseek-v4-pro price[2027-01-01]: input 3, output 4 → (none)",
        "~ model deepseek-v4-pro price[2027-02-01]: (none) → input 5, output 6, tiers.flex 0.5",
    ]
    assert applied.changes[-2].as_dict() == {
        "change": "changed",
        "kind": "model",
        "id": "deepseek-v4-pro",
        "field": "price[2027-01-01]",
        "old": {"input": "3", "output": "4"},
        "new": None,
    }
    dearer = _priced(LATE | {"input": "7"}, ALWAYS | {"output": "9", "cache_read": "0"})
    assert [each.line for each in catalogue.apply(store, dearer, "file", "a.toml").changes] == [
        "~ model deepseek-v4-pro price[2027-02-01].input: 5 → 7"
    ]
    assert catalogue.apply(Store(), _priced(ALWAYS, SOON), "file", "").changes[1].line == (
        '+ model deepseek-v4-pro  aliases ["pro"], context 1000000, max_output 384000,'
        ' channels [{"channel": "ds", "model": "v4-pro"}], price.input 1, price.output 2,'
        " price[2027-01-01].input 3, price[2027-01-01].output 4"
    )


def test_export_prints_a_table_for_each_day() -> None:
    """And apply reads them as they were."""
    store = Store()
    catalogue.apply(store, _priced(LATE, SOON, ALWAYS), "file", "a.toml")
    text = catalogue.export(store)
    assert text.count("[[models.price]]") == 3
    assert catalogue.apply(store, tomllib.loads(text), "file", "a.toml", dry_run=True).changes == ()

"""What the manual shows as an example is true of the code."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farebox.admin import catalogue_file as tables
from farebox.billing import prices
from farebox.billing.charge import bill
from farebox.core.money import parse_credits, parse_multiplier, show_credits
from farebox.core.settings import Settings
from farebox.core.usage import CLASSES, Usage
from farebox.settings import load
from farebox.vendors import registry
from tests.shape.tree import ROOT

BILLING = (ROOT / "docs" / "billing.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "docs" / "farebox.toml"


def test_the_example_file_is_a_whole_configuration() -> None:
    """Its settings load, and its catalogue can be applied."""
    loaded = load(EXAMPLE, {}, {"HOME": "/home/ada"})
    assert (loaded.settings.port, loaded.notes) == (8790, ())
    assert loaded.document is not None
    checked = tables.check(loaded.document)
    assert {channel["vendor"] for channel in checked["channels"]} >= {"deepseek", "local"}
    assert set(tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))) >= {"server", *tables.TABLES}


KEYS = [
    field.encode_name
    for table in (
        tables.BillingTable,
        tables.ChannelTable,
        tables.ModelTable,
        tables.GroupTable,
    )
    for field in msgspec.structs.fields(table)
]


@pytest.mark.parametrize("key", sorted({*KEYS, *prices._KEYS}))
def test_every_key_of_the_catalogue_has_a_row(key: str) -> None:
    """In the first column of a table of the page on configuration."""
    assert re.search(rf"^\|[^|]*`{key}`[^|]*\|", CONFIGURATION, re.MULTILINE)


def _default(text: str) -> Any:
    number = re.fullmatch(r"([\d.]+)(?: (KiB|MiB))?", text)
    if number:
        return float(number[1]) * {None: 1, "KiB": 1024, "MiB": 1024 * 1024}[number[2]]
    return {"true": True, "none": ()}.get(text, text.strip("`"))


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)][2:-1])
def test_the_page_states_the_default_of_a_setting(name: str) -> None:
    """As it is in the code; those that depend on the machine are told in words."""
    row = re.search(rf"^\| `{name}` \| ([^|]+) \|", CONFIGURATION, re.MULTILINE)
    assert row is not None
    if name not in ("secret_file", "public_url"):
        settings = Settings(Path("/d"), "sqlite:////d/x")
        assert _default(row[1]) == getattr(settings, name)


def test_every_variable_of_a_vendor_is_named() -> None:
    """Key and base URL."""
    for vendor in registry.all().values():
        if vendor.env_name:
            assert f"`{vendor.env_name}`" in CONFIGURATION
            assert f"`{vendor.env_name.removesuffix('_API_KEY')}_BASE_URL`" in CONFIGURATION


def test_the_worked_example_is_what_the_biller_charges() -> None:
    """Each line and the sum, from the figures of the page itself."""
    rows = re.findall(
        r"^\| ([a-z ]+?) \| ([\d ]+) \| ([\d.]+) \| ([\d.]+) \|$", BILLING, re.MULTILINE
    )
    tokens = {name.replace(" ", "_"): int(count.replace(" ", "")) for name, count, _, _ in rows}
    price = prices.read_price({"input": "4", "output": "20"})
    receipt = bill(Usage(**tokens), price, parse_multiplier("0.8"), 0)
    assert [
        (line.name, show_credits(line.price_nanocredits_per_million)) for line in receipt.lines
    ] == [(name.replace(" ", "_"), shown) for name, _, shown, _ in rows]
    assert bill(Usage(**tokens), price, 1_000_000, 0).due_nanocredits == sum(
        parse_credits(amount) for *_, amount in rows
    )
    total = re.search(r"\*\*([\d.]+)\*\*", BILLING)
    assert total is not None
    assert receipt.due_nanocredits == parse_credits(total[1]) == 24_320_000
    assert "24 320 000 nano-credits" in BILLING


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_of_tokens_is_explained(name: str) -> None:
    """In the table of classes."""
    assert f"| `{name}` |" in BILLING

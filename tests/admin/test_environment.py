"""Vendor keys of the environment become channels; the gateway's own key and address never do."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from farebox.admin import catalogue, environment
from farebox.admin.catalogue_file import check
from farebox.billing.prices import read_price
from farebox.core.settings import Settings
from farebox.vendors import registry

SETTINGS = Settings(Path("/srv/farebox"), "sqlite:////srv/farebox/farebox.db")
KEYS = {vendor.env_name: "sk-test" for vendor in registry.all().values() if vendor.env_name}


def _derive(
    environ: dict[str, str], settings: Settings = SETTINGS, **options: Any
) -> environment.Derived:
    options = {"local": False, "is_local": lambda host: host == "own.example.org", **options}
    return environment.derive(environ, settings, **options)


def test_the_contracts_variables_are_known() -> None:
    """Each belongs to one vendor."""
    names = {"OPENAI", "ANTHROPIC", "DEEPSEEK", "ZAI", "ZHIPU", "MIMO"}
    assert set(KEYS) == {f"{name}_API_KEY" for name in names}


def test_no_key_and_no_local_model_is_an_empty_catalogue() -> None:
    """An empty variable is no key."""
    derived = _derive({"OPENAI_API_KEY": " "})
    assert derived == environment.Derived({"channels": [], "models": []}, (), ())


def test_every_key_makes_a_channel_and_its_vendors_models() -> None:
    """The five families are listed, and found by alias and in any case."""
    derived = _derive(KEYS)
    assert derived.ignored == ()
    assert len(derived.found) == len(KEYS)
    snapshot = catalogue.snapshot(check(derived.document), 1, 0)
    assert {channel.id: channel.api_key for channel in snapshot.channels.values()} == {
        vendor.name: f"env:{vendor.env_name}"
        for vendor in registry.all().values()
        if vendor.env_name
    }
    for name, canonical in {
        "gpt-4o": "gpt-4o",
        "gpt-5.6-sol": "gpt-5.6",
        "deepseek-v4-flash": "deepseek-flash",
        "zhipu/glm-5.3": "ZHIPU/GLM-5.3",
        "glm-5.3": "ZHIPU/GLM-5.3",
        "MIMO-V2.6-pro": "xiaomi/mimo-v2.6-pro",
        "claude-opus-4-5-20251101": "claude-opus-4-5",
    }.items():
        model = snapshot.find(name)
        assert model is not None
        assert model.id == canonical


def test_zai_and_zhipu_serve_the_same_models_one_after_the_other() -> None:
    """With one key there is one route."""
    both = catalogue.snapshot(check(_derive(KEYS).document), 1, 0).models["ZHIPU/GLM-5.3"]
    assert [(route.channel, route.model) for route in both.routes] == [
        ("zai", "glm-5.3"),
        ("zhipu", "glm-5.3"),
    ]
    one = catalogue.snapshot(check(_derive({"ZHIPU_API_KEY": "k"}).document), 1, 0)
    assert [route.channel for route in one.models["ZHIPU/GLM-5.3"].routes] == ["zhipu"]


def test_the_local_model_is_a_channel_of_its_own() -> None:
    """Keys of the environment do not turn it off."""
    names = [channel["id"] for channel in _derive(KEYS, local=True).document["channels"]]
    assert names[-1] == "local"
    alone = _derive({}, local=True).document
    assert [model["id"] for model in alone["models"]] == ["smollm2-135m-instruct"]


def test_a_base_url_of_the_environment_is_the_channels() -> None:
    """It is named in what is told."""
    derived = _derive({"DEEPSEEK_API_KEY": "k", "DEEPSEEK_BASE_URL": "http://127.0.0.1:9/x"})
    assert derived.document["channels"][0]["base_url"] == "http://127.0.0.1:9/x"
    assert derived.found == (
        (
            "DeepSeek from DEEPSEEK_API_KEY at http://127.0.0.1:9/x (DEEPSEEK_BASE_URL),"
            " channel deepseek"
        ),
    )


def test_a_key_of_the_gateway_itself_is_ignored_with_a_sentence() -> None:
    """It is what a client of ours has in its environment."""
    derived = _derive({"OPENAI_API_KEY": "sk-fb-hunter2"})
    assert derived.document["channels"] == []
    assert len(derived.ignored) == 1
    assert derived.ignored[0].startswith(
        "OPENAI_API_KEY is ignored: it holds a key of Farebox itself"
    )
    assert "hunter2" not in derived.ignored[0]


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8790/v1", True),
        ("http://own.example.org:8790/v1", True),
        ("http://OWN.example.org:8790", True),
        ("http://own.example.org:8791/v1", False),
        ("http://own.example.org/v1", False),
        ("http://other.example.org:8790/v1", False),
        ("https://llm.example.org/v1", True),
        ("https://llm.example.org:443", True),
        ("https://llm.example.org:8790/v1", False),
    ],
)
def test_a_base_url_is_our_own_by_port_and_host_or_as_public_url(url: str, own: bool) -> None:
    """Whatever its path; another port of this machine is somebody else's."""
    settings = Settings(Path("/d"), "sqlite:////d/x", public_url="https://llm.example.org")
    derived = _derive({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": url}, settings)
    assert bool(derived.ignored) == own
    assert bool(derived.document["channels"]) != own
    if own:
        assert derived.ignored[0].startswith(
            "OPENAI_API_KEY is ignored: OPENAI_BASE_URL is the address of this very gateway."
        )


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "::1",
        "::",
        "a.localhost",
        "::ffff:127.0.0.1",
    ],
)
def test_loopback_is_this_machine_by_any_name(host: str) -> None:
    """Also the addresses that stand for all."""
    assert environment.is_local_host(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no-such-host.invalid", "a" * 300])
def test_an_address_that_cannot_be_bound_is_another_machine(host: str) -> None:
    """So is a name that is not found."""
    assert not environment.is_local_host(host)


@pytest.mark.parametrize(
    "url", ["api.openai.com", "ftp://h", "http://h:x", "https://u:p@h/v1", "https://h?k=s"]
)
def test_a_base_url_that_cannot_be_used_is_ignored_with_a_sentence(url: str) -> None:
    """The start goes on, and the address is not repeated."""
    derived = _derive({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": url})
    assert derived.document["channels"] == []
    assert len(derived.ignored) == 1
    assert url not in derived.ignored[0]


ROWS = environment.built_in_prices()


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_a_row_of_the_list_has_date_source_price_and_cost(row: dict[str, Any]) -> None:
    """Both are whole numbers in every class, with the cache prices of the rule, too."""
    assert row.keys() <= {
        "id", "aliases", "upstream", "date", "source", "context", "max_output", "price", "cost",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d{2}", row["date"])
    assert date.fromisoformat(f"{row['date']}-01") <= date(2026, 11, 30)
    assert row["source"]
    assert set(row["upstream"]) <= set(registry.all())
    price = read_price(environment.list_price(row))
    cost = read_price(row["cost"])
    assert (price.cache_read * 10, price.cache_write * 4) == (price.input, price.input * 5)
    assert {"cache_read", "cache_write"} <= row["cost"].keys()
    assert (price.windows, price.tiers, price.long_context) == (
        cost.windows,
        cost.tiers,
        cost.long_context,
    )


def test_the_list_as_a_whole_is_a_catalogue_under_both_rules() -> None:
    """No id or alias is there twice, and every mixture of prices is whole."""
    document = _derive(KEYS, local=True).document
    assert len(check(document)["models"]) == len(ROWS)
    check({**document, "billing": {"cache_prices": "vendor"}})


def test_deepseek_is_dearer_at_peak_and_openai_above_272k() -> None:
    """The list's base is the cheaper figure."""
    models = catalogue.snapshot(check(_derive(KEYS).document), 1, 0).models
    pro = models["deepseek-v4-pro"].price_at(0)
    assert pro is not None
    assert pro.input * 2 == 1_320_000_000
    assert [(w.start_minute, w.end_minute, w.multiplier_ppm) for w in pro.windows] == [
        (60, 240, 2_000_000),
        (360, 600, 2_000_000),
    ]
    gpt = models["gpt-5.5"].price_at(0)
    assert gpt is not None
    assert gpt.long_context is not None
    assert gpt.long_context.threshold == 272_000
    assert dict(gpt.tiers) == {"flex": 500_000, "priority": 2_500_000}


def test_only_models_that_the_vendor_gives_away_are_free() -> None:
    """The local model is not: its first call shows a charge."""
    free = [row["id"] for row in ROWS if read_price(environment.list_price(row)).output == 0]
    assert free == ["ZHIPU/GLM-4.7-Flash", "ZHIPU/GLM-4.5-Flash"]

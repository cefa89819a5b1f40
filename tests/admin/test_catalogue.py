"""Snapshot, resolve, apply and export: from a document to what calls are served with."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.admin import catalogue
from farebox.admin.catalogue_file import BadCatalogue, check
from farebox.billing.prices import read_price, starts_us
from farebox.core.bus import LocalEndpoint
from farebox.core.channel import Channel, ChannelOptions
from farebox.routing.catalogue import Group, Model, Route
from tests.admin.catalogues import DEEPSEEK, DOCUMENT, MODEL, Store, snapshot_of


def test_a_snapshot_holds_what_the_document_says() -> None:
    """Secrets are references in it; base URL and dialects are the vendor's unless said."""
    snapshot = snapshot_of(
        {**DOCUMENT, "groups": [{"id": "vip", "rate": "0.8", "models": ["gpt-*"]}]}
    )
    assert (snapshot.version, snapshot.created_us) == (3, 5)
    assert snapshot.channels == {
        "ds": Channel("ds", "deepseek", "https://api.deepseek.com", "env:DEEPSEEK_API_KEY")
    }
    assert snapshot.models == {
        "deepseek-v4-pro": Model(
            "deepseek-v4-pro",
            (Route("ds", "v4-pro"),),
            (read_price(MODEL["price"]),),
            aliases=("pro",),
            context=1_000_000,
            max_output=384_000,
            costs=(read_price(MODEL["cost"]),),
            owned_by="deepseek",
        )
    }
    assert snapshot.groups == {
        "vip": Group("vip", 800_000, ("gpt-*",)),
        "default": Group("default", 1_000_000),
    }


def test_everything_that_a_channel_may_say_reaches_the_snapshot() -> None:
    """One of each, none at its default."""
    table = {
        "id": "vllm",
        "vendor": "openai_compatible",
        "base_url": "http://10.0.0.5:8000/v1/",
        "weight": 3,
        "priority": -1,
        "speaks": ["chat", "responses"],
        "dedicated_account": "ada",
        "first_byte_timeout_s": 5,
        "drop": ["seed"],
        "rename": {"max_tokens": "max_new"},
        "max_tokens_field": "max_new",
        "json_schema": False,
        "developer_role": True,
        "cache_control": True,
        "reasoning_effort": False,
    }
    assert snapshot_of({"channels": [table]}).channels["vllm"] == Channel(
        "vllm",
        "openai_compatible",
        "http://10.0.0.5:8000/v1",
        weight=3,
        priority=-1,
        speaks=("chat", "responses"),
        dedicated_account="ada",
        first_byte_timeout_s=5.0,
        options=ChannelOptions(
            ("seed",), (("max_tokens", "max_new"),), "max_new", False, True, True, False
        ),
    )


def test_cache_prices_follow_the_rule_unless_the_vendors_are_wanted() -> None:
    """A price that names its own keeps it either way."""
    own = {**MODEL, "id": "own", "aliases": [], "price": {**MODEL["price"], "cache_read": "1"}}
    document = {"channels": [DEEPSEEK], "models": [MODEL, own]}
    by_rule = snapshot_of(document).models
    by_vendor = snapshot_of({**document, "billing": {"cache_prices": "vendor"}}).models
    prices = [
        (price.cache_read, price.cache_write)
        for models in (by_rule, by_vendor)
        for model in models.values()
        for price in model.prices
    ]
    assert prices == [
        (132_000_000, 1_650_000_000),
        (1_000_000_000, 1_650_000_000),
        (44_000_000, 0),
        (1_000_000_000, 0),
    ]


def test_a_model_without_a_price_is_in_the_catalogue_unsold() -> None:
    """Whether it may be called is decided elsewhere."""
    assert snapshot_of({"models": [{"id": "m"}]}).models["m"].prices == ()


def test_a_vendor_that_is_no_longer_installed_closes_its_channels() -> None:
    """Old versions must still be readable for receipts."""
    snapshot = catalogue.snapshot({"channels": [{"id": "a", "vendor": "acme"}]}, 1, 0)
    assert snapshot.channels["a"].closed == "vendor acme is not installed"


def test_references_are_resolved_and_what_cannot_be_is_closed(tmp_path: Path) -> None:
    """Each closed channel is a note that names the reference, never a value."""
    (tmp_path / "key").write_text("from-file\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "two").write_text("hunter2\nhunter3\n")
    (tmp_path / "large").write_text("x" * 20_000)
    references = {
        "by-env": "env:SET",
        "by-file": f"file:{tmp_path}/key",
        "unset": "env:UNSET",
        "absent": f"file:{tmp_path}/absent",
        "empty": f"file:{tmp_path}/empty",
        "two": f"file:{tmp_path}/two",
        "large": f"file:{tmp_path}/large",
    }
    channels = [
        {**DEEPSEEK, "id": name, "api_key": api_key} for name, api_key in references.items()
    ]
    unresolved = snapshot_of({"channels": channels})
    resolved, notes = catalogue.resolve(unresolved, {"SET": " from-env "}, None)
    opened = [channel for channel in resolved.channels.values() if not channel.closed]
    assert {channel.id: channel.api_key for channel in opened} == {
        "by-env": "from-env",
        "by-file": "from-file",
    }
    assert notes == (
        "Channel unset is closed: environment variable UNSET is not set.",
        (
            f"Channel absent is closed: file {tmp_path}/absent cannot be read"
            " (No such file or directory)."
        ),
        f"Channel empty is closed: file {tmp_path}/empty is empty.",
        f"Channel two is closed: file:{tmp_path}/two holds more than one word of printable ASCII.",
        f"Channel large is closed: file {tmp_path}/large is too large for a secret.",
    )
    assert all(channel.api_key == "" for channel in resolved.channels.values() if channel.closed)


def test_the_local_channel_gets_the_endpoint_that_the_supervisor_chose() -> None:
    """Without one it is closed; with a base URL of its own it is left alone."""
    tables = [
        {"id": "local", "vendor": "local"},
        {"id": "mine", "vendor": "local", "base_url": "http://127.0.0.1:1/v1"},
    ]
    unresolved = snapshot_of({"channels": tables})
    resolved, notes = catalogue.resolve(unresolved, {}, LocalEndpoint("http://127.0.0.1:5/v1", "k"))
    assert resolved.channels["local"] == replace(
        unresolved.channels["local"], base_url="http://127.0.0.1:5/v1", api_key="k"
    )
    assert resolved.channels["mine"] == unresolved.channels["mine"]
    assert notes == ()
    _, notes = catalogue.resolve(unresolved, {}, None)
    assert notes == ("Channel local is closed: the local model is not running.",)


def test_apply_makes_the_catalogue_what_the_document_says() -> None:
    """What it does not name is gone; the differences are lines to read."""
    store = Store()
    catalogue.apply(store, DOCUMENT, "file", "a.toml")
    changed = {
        "channels": [DEEPSEEK, {**DEEPSEEK, "id": "second", "weight": 2}],
        "models": [{**MODEL, "price": {"input": "1.4", "output": "3.96"}, "aliases": []}],
        "groups": [{"id": "default", "rate": "0.9"}],
    }
    applied = catalogue.apply(store, changed, "file", "a.toml")
    assert [change.line for change in applied.changes] == [
        "+ channel second  vendor deepseek, api_key env:DEEPSEEK_API_KEY, weight 2",
        '~ model deepseek-v4-pro aliases: ["pro"] → (default)',
        "~ model deepseek-v4-pro price.input: 1.32 → 1.4",
        "~ group default rate: 1 → 0.9",
    ]
    assert applied.version == 2
    assert store.versions[-1].document == check(changed)
    emptied = catalogue.apply(store, {"billing": {"cache_prices": "vendor"}}, "file", "a.toml")
    assert [change.line for change in emptied.changes] == [
        "~ billing cache_prices: (default) → vendor",
        "- channel ds",
        "- channel second",
        "- model deepseek-v4-pro",
        "~ group default rate: 0.9 → 1",
    ]


def test_a_dry_run_shows_the_differences_and_changes_nothing() -> None:
    """As JSON they have kind, id, field, old and new."""
    store = Store()
    applied = catalogue.apply(store, {}, "file", "a.toml", dry_run=True)
    assert store.versions == []
    assert applied.as_dict() == {
        "changes": [
            {
                "change": "added",
                "kind": "group",
                "id": "default",
                "field": "",
                "old": None,
                "new": {"id": "default", "rate": "1"},
            }
        ],
        "dry_run": True,
        "version": 0,
        "source": "file",
        "origin": "a.toml",
    }


def test_nothing_is_applied_of_a_document_that_is_wrong_anywhere() -> None:
    """It is checked as a whole first."""
    store = Store()
    with pytest.raises(BadCatalogue):
        catalogue.apply(store, {**DOCUMENT, "groups": [{"id": "g"}]}, "file", "a.toml")
    assert store.versions == []


def test_applying_the_same_again_makes_no_new_version() -> None:
    """But another source does: it says who manages the catalogue."""
    store = Store()
    catalogue.apply(store, DOCUMENT, "environment", "")
    assert catalogue.apply(store, DOCUMENT, "environment", "").version == 1
    assert catalogue.apply(store, DOCUMENT, "file", "a.toml").version == 2
    assert catalogue.apply(store, DOCUMENT, "file", "a.toml").version == 2


def test_release_gives_the_catalogue_back_unchanged() -> None:
    """A second one does nothing, nor one without a catalogue."""
    store = Store()
    assert catalogue.release(store) is None
    catalogue.apply(store, DOCUMENT, "file", "a.toml")
    catalogue.release(store)
    catalogue.release(store)
    assert [(v.source, v.origin, v.document) for v in store.versions] == [
        ("file", "a.toml", check(DOCUMENT)),
        ("console", "", check(DOCUMENT)),
    ]


ids = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12).filter(
    lambda text: text.isprintable() and " " not in text
)
thousandths = st.integers(0, 10**6).map(lambda n: f"{n / 1000:.3f}")
prices = st.fixed_dictionaries(
    {"input": thousandths, "output": thousandths},
    optional={
        "cache_read": thousandths,
        "cache_write": thousandths,
        "cache_write_1h": thousandths,
        "audio_input": thousandths,
        "image_input": thousandths,
        "from": st.dates().map(str),
        "long_context": st.just(
            {"threshold": 272_000, "input_multiplier": "2", "output_multiplier": "1.5"}
        ),
        "tiers": st.dictionaries(ids, st.sampled_from(["0.5", "2", "2.5"]), max_size=3),
        "windows": st.just([{"days": "mon-fri", "utc": "01:00-04:00", "multiplier": "2"}]),
        "tools": st.dictionaries(ids, thousandths, max_size=2),
    },
)
dated = st.lists(prices, min_size=1, max_size=3, unique_by=starts_us)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
fields = texts.filter(lambda text: text not in ("model", "messages", "stream"))  # not refused
options = st.fixed_dictionaries(
    {},
    optional={
        "weight": st.integers(1, 9),
        "priority": st.integers(-9, 9),
        "speaks": st.just(["chat", "messages"]),
        "dedicated_account": texts,
        "first_byte_timeout_s": st.floats(0.1, 100),
        "drop": st.lists(fields, max_size=2),
        "rename": st.dictionaries(fields, texts, max_size=2),
        "json_schema": st.booleans(),
    },
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Catalogues of all that a file may say."""
    names = draw(st.lists(ids, min_size=3, max_size=9, unique_by=str.casefold))
    channels = [{**DEEPSEEK, "id": name, **draw(options)} for name in names[:2]]
    routes = st.lists(
        st.fixed_dictionaries({"channel": st.sampled_from(names[:2]), "model": ids}),
        max_size=2,
        unique_by=lambda route: (route["channel"], route["model"]),
    )
    models = [
        {
            "id": name,
            "aliases": [f"{name}~alias"],
            "channels": draw(routes),
            "price": draw(prices | dated),
            "cost": draw(prices | dated),
            "context": draw(st.integers(1, 2**31 - 1)),
        }
        for name in names
    ]
    groups = [
        {"id": name, "rate": draw(thousandths), "models": draw(st.lists(ids, max_size=2))}
        for name in draw(st.lists(ids, max_size=2, unique_by=str.casefold))
    ]
    source = draw(st.sampled_from(["rule", "vendor"]))
    return {
        "billing": {"cache_prices": source},
        "channels": channels,
        "models": models,
        "groups": groups,
    }


@given(documents())
def test_what_export_prints_is_what_apply_reads(document: dict[str, Any]) -> None:
    """Applying an export shows no difference, whatever the document; and it makes a snapshot."""
    store = Store()
    catalogue.apply(store, document, "console", "")
    exported = tomllib.loads(catalogue.export(store))
    assert check(exported) == store.versions[-1].document
    assert catalogue.apply(store, exported, "file", "-", dry_run=True).changes == ()
    assert len(catalogue.snapshot(exported, 1, 0).models) == len(document["models"])


def test_export_without_a_catalogue_is_an_empty_one() -> None:
    """Applying it adds the default group and no more."""
    exported = tomllib.loads(catalogue.export(Store()))
    assert check(exported) == check({})

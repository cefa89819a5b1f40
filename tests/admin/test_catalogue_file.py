"""A catalogue is checked as a whole: every problem with its path, and no secret in any of them."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.admin.catalogue_file import BadCatalogue, anchored, check

CHANNEL = {"id": "ds", "vendor": "deepseek", "api_key": "env:DEEPSEEK_API_KEY"}
MODEL = {"id": "m", "channels": [{"channel": "ds", "model": "m"}]}
PRICE = {"input": "1.32", "output": "3.96"}


def _problems(document: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(BadCatalogue) as caught:
        check(document, "farebox.toml")
    lines = str(caught.value).splitlines()
    assert lines == [f"farebox.toml: {problem}" for problem in caught.value.problems]
    return caught.value.problems


def _channel(**changes: Any) -> dict[str, Any]:
    return {"channels": [{**CHANNEL, **changes}]}


def _model(**changes: Any) -> dict[str, Any]:
    return {"channels": [CHANNEL], "models": [{**MODEL, **changes}]}


def test_an_empty_document_offers_nothing_but_the_default_group() -> None:
    """So an account always has a group to be in."""
    assert check({}) == {
        "billing": {},
        "channels": [],
        "models": [],
        "groups": [{"id": "default", "rate": "1"}],
    }


def test_a_checked_document_leaves_defaults_out_and_can_be_checked_again() -> None:
    """What is stored is what was meant, in one form."""
    document = {
        "billing": {"cache_prices": "rule"},
        "channels": [{**CHANNEL, "weight": 1, "priority": 0, "drop": [], "base_url": ""}],
        "models": [{**MODEL, "aliases": [], "price": {**PRICE, "from": date(2026, 11, 1)}}],
        "groups": [{"id": "default", "rate": "0.8"}],
    }
    checked = check(document)
    assert checked == {
        "billing": {},
        "channels": [CHANNEL],
        "models": [{**MODEL, "price": {**PRICE, "from": "2026-11-01"}}],
        "groups": [{"id": "default", "rate": "0.8"}],
    }
    assert check(checked) == checked


def test_every_problem_is_found_at_once() -> None:
    """Positions count from 0, as in the file."""
    document = {
        "mdels": [],
        "billing": {"cache_prices": "free"},
        "channels": [{**CHANNEL, "wieght": 2}, "x", {"id": "b"}],
        "models": [
            {**MODEL, "price": {"input": 1.32, "output": "1"}},
            {**MODEL, "id": "M2", "context": 0, "channels": [{"channel": "nobody", "model": "x"}]},
        ],
        "groups": [{"id": "default", "rate": "a lot"}, {"id": "g"}],
    }
    assert _problems(document) == (
        'mdels is not known here. Did you mean "models"?',
        "billing.cache_prices must be one of rule, vendor.",
        'channels[0].wieght is not known here. Did you mean "weight"?',
        "channels[1] must be a table, not str.",
        "channels[2].vendor is missing.",
        "models[1].context must be a whole number >= 1, not 0.",
        "groups[1].rate is missing.",
        'models[0].price.input must be a decimal string such as "0.25", not 1.32.',
        'models[1].channels[0]: no channel is called "nobody".',
        "groups[0].rate 'a lot' is not a decimal number such as \"0.25\".",
    )


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"channels": {}}, "channels must be a list of tables, each begun with [[channels]]."),
        (
            _channel(id=""),
            "channels[0].id must be 1 to 200 printable characters without spaces, not ''.",
        ),
        (_channel(id=7), 'channels[0].id must be a text in quotes, "7", not 7.'),
        (_channel(weight=0), "channels[0].weight must be a whole number >= 1, not 0."),
        (
            _channel(speaks=["chat", "morse"]),
            "channels[0].speaks[1] must be one of chat, responses, messages.",
        ),
        (_channel(speaks=[]), "channels[0].speaks must be a list of length >= 1."),
        (
            _channel(first_byte_timeout_s=0),
            "channels[0].first_byte_timeout_s must be a number > 0.0, not 0.",
        ),
        (_channel(json_schema="yes"), "channels[0].json_schema must be true or false, not a text."),
        (_channel(drop=["model"]), 'channels[0]: "model" can be neither dropped nor renamed.'),
        (
            _channel(rename={"messages": "m"}),
            'channels[0]: "messages" can be neither dropped nor renamed.',
        ),
        (
            {"channels": [{"id": "x", "vendor": "openai_compatible"}]},
            "channels[0].base_url is missing: OpenAI-compatible server has no default.",
        ),
        (
            {"channels": [{"id": "x", "vendor": "openai"}]},
            'channels[0].api_key is missing: OpenAI needs one. Write "env:NAME" or "file:PATH".',
        ),
        (
            {"channels": [CHANNEL, {**CHANNEL, "id": "DS"}]},
            'channels[1].id: "DS" is taken by channels[0].id (case is ignored).',
        ),
        (
            _model(aliases=["M"]),
            'models[0].aliases[0]: "M" is taken by models[0].id (case is ignored).',
        ),
        (_model(max_output=2, context=1), "models[0].max_output is larger than its context, 1."),
        (
            _model(context=2**31),
            "models[0].context must be a whole number <= 2147483647, not 2147483648.",
        ),
        (_model(channels=[{"chanel": "ds"}]), "models[0].channels[0].chanel is not known here."),
        (_model(channels=[{"channel": "ds"}]), "models[0].channels[0].model is missing."),
        (_model(channels=MODEL["channels"] * 2), "models[0].channels[1] is there twice."),
        (_model(price={"input": "1"}), "models[0].price.output is missing."),
        (
            _model(price=[]),
            "models[0].price is an empty list; leave it out, or write a table into it.",
        ),
        (_model(price="1"), "models[0].price must be a table or a list of tables, not a text."),
        (_model(price=["1"]), "models[0].price[0] must be a table, not a text."),
        (
            _model(price=[PRICE, {**PRICE, "from": "2027-01-01", "output": "1,5"}]),
            "models[0].price[1].output '1,5' is not a decimal number such as \"0.25\".",
        ),
        (
            _model(cost=[{**PRICE, "from": "2027-01-01"}, {**PRICE, "from": date(2027, 1, 1)}]),
            (
                "models[0].cost[1].from is the day on which models[0].cost[0] begins too; each"
                " price needs a day of its own."
            ),
        ),
        (
            _model(price=[PRICE, PRICE]),
            (
                "models[0].price[1].from is the day on which models[0].price[0] begins too; each"
                " price needs a day of its own."
            ),
        ),
        (_model(cost={"input": "1", "output": "-1"}), "models[0].cost.output '-1' is below zero."),
        (
            {"groups": [{"id": "a", "rate": "1"}, {"id": "A", "rate": "1"}]},
            'groups[1].id: "A" is taken by groups[0].id (case is ignored).',
        ),
        ({"groups": [{"id": "a", "rate": "-1"}]}, "groups[0].rate '-1' is below zero."),
    ],
)
def test_a_problem_is_a_sentence_that_begins_with_its_path(
    document: dict[str, Any], problem: str
) -> None:
    """What is wrong, and what it must be."""
    assert _problems(document) == (problem,)


def test_an_unknown_vendor_is_answered_with_the_known_ones() -> None:
    """Vendors of third parties count as soon as they are installed."""
    (problem,) = _problems(_channel(vendor="deepsek"))
    assert problem.startswith(
        "channels[0].vendor: There is no vendor 'deepsek'. Known vendors: anthropic"
    )


@pytest.mark.parametrize(
    "secret", ["sk-live-hunter2", "env:sk-hunter2", "hunter2", "env:", "file:"]
)
def test_a_secret_itself_is_refused_and_not_repeated(secret: str) -> None:
    """The message may end in a log or a ticket."""
    problems = _problems(_channel(api_key=secret))
    assert problems == (
        (
            "channels[0].api_key must say where the secret is, never the secret itself: "
            'write "env:NAME" or "file:PATH".'
        ),
    )


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("api.deepseek.com", "must begin with http:// or https:// and name a host."),
        ("ftp://h", "must begin with http:// or https:// and name a host."),
        ("https://", "must begin with http:// or https:// and name a host."),
        ("https://ada:hunter2@h/v1", "must not hold a user or password: use api_key."),
        (
            "https://h/v1?key=hunter2",
            "must not hold a query or fragment: paths are appended to it.",
        ),
        ("https://h/v1#x", "must not hold a query or fragment: paths are appended to it."),
        ("https://h:hunter2/", "is not an address."),
        ("https://h/a b", "must not hold spaces or control characters."),
    ],
)
def test_a_base_url_is_an_address_and_nothing_more(url: str, problem: str) -> None:
    """It is not repeated either, since a user or query may be secret."""
    assert _problems(_channel(base_url=url)) == (f"channels[0].base_url {problem}",)


def test_a_broken_channel_does_not_make_its_models_wrong() -> None:
    """One mistake is told once."""
    document = {"channels": [{"id": "ds", "vendor": "deepseek"}], "models": [MODEL]}
    assert [problem.split(":")[0] for problem in _problems(document)] == [
        "channels[0].api_key is missing"
    ]


def test_prices_must_stay_whole_with_the_cache_prices_of_cost() -> None:
    """With cache_prices = "vendor" the mixture is what is sold, so it is checked too."""
    document = {
        "billing": {"cache_prices": "vendor"},
        **_model(
            price={**PRICE, "tiers": {"flex": "0.5"}},
            cost={**PRICE, "cache_read": "0.000000001"},
        ),
    }
    (problem,) = _problems(document)
    assert problem.startswith("models[0].price (with the cache prices of cost).cache_read")
    assert check({**document, "billing": {}})["models"][0]["cost"]["cache_read"] == "0.000000001"


def test_relative_file_references_start_at_the_files_folder() -> None:
    """Absolute ones, other references and what is not a channel stay as they are."""
    channels = [{"api_key": "file:k"}, {"api_key": "file:/k"}, {"api_key": "env:K"}, {}, "x"]
    folder = Path("/etc/farebox")
    assert anchored({"channels": channels, "models": []}, folder) == {
        "channels": [{"api_key": "file:/etc/farebox/k"}, *channels[1:]],
        "models": [],
    }
    assert anchored({"channels": 1}, folder) == {"channels": 1}


WORDS = (
    "id vendor openai api_key env:X channels models groups billing price input output 1 rate tiers"
    " windows utc long_context model cost aliases speaks chat"
)
words = st.sampled_from(WORDS.split())
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | words
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(words, values, max_size=5))
def test_whatever_a_file_holds_is_accepted_or_refused_in_sentences(
    document: dict[str, Any],
) -> None:
    """No value makes the check itself fail; what it accepts, it accepts again."""
    try:
        checked = check(document)
    except BadCatalogue:
        return
    assert check(checked) == checked

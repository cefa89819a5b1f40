"""Which model a name means to a caller, which channels may serve it, and what is near a typo."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.billing.prices import read_price
from farebox.core.channel import Channel
from farebox.errors import ModelNotAllowed, NotFound
from farebox.routing import select
from farebox.routing.catalogue import Catalogue, Group, Model, Route
from farebox.routing.select import candidates, choose_model, find_offer, is_sold, near, offered
from tests.billing.values import at

NOW = at("2026-11-23T12:00:00")
PRICE = read_price({"input": "1", "output": "2"})
LATER = read_price({"input": "1", "output": "2", "from": "2026-11-24"})
ALL = Group("default", 10**6)
CHEAP = Group("free", 10**6, ("*-mini", "glm-*"))


def _model(id: str, **more: Any) -> Model:
    return Model(id, (Route("a", f"up-{id}"),), **{"prices": (PRICE,), **more})


GPT = _model("gpt-5.6")
MINI = _model("gpt-5.6-mini", aliases=("mini",))
GLM = _model("ZHIPU/GLM-5.3", aliases=("glm-5.3",))
FREE = _model("gpt-free", prices=())
SOON = _model("gpt-5.7", prices=(LATER,))
MODELS = (GPT, MINI, GLM, FREE, SOON)


def _catalogue(*channels: Channel, models: tuple[Model, ...] = MODELS) -> Catalogue:
    return Catalogue.of(1, channels, models, [ALL, CHEAP])


def _choose(name: str, group: Group = ALL, globs: tuple[str, ...] = ()) -> Model:
    return choose_model(_catalogue(), group, globs, name, NOW)


@pytest.mark.parametrize(
    ("group", "globs", "models"),
    [
        (ALL, (), [GPT, MINI, GLM]),
        (CHEAP, (), [MINI, GLM]),
        (ALL, ("gpt-*",), [GPT, MINI]),
        (CHEAP, ("gpt-*",), [MINI]),
        (ALL, ("none",), []),
        (Group("empty", 1, ()), (), []),
    ],
)
def test_offered_is_what_is_sold_and_group_and_key_allow(
    group: Group, globs: tuple[str, ...], models: list[Model]
) -> None:
    """In the catalogue's order."""
    assert offered(_catalogue(), group, globs, NOW) == models


def test_a_price_counts_from_its_day_on() -> None:
    """Until then, as without a price, a model is not sold."""
    midnight = at("2026-11-24T00:00:00")
    assert [is_sold(SOON, moment) for moment in (midnight - 1, midnight)] == [False, True]
    assert not is_sold(FREE, midnight)
    assert choose_model(_catalogue(), ALL, (), "gpt-5.7", midnight) is SOON


@pytest.mark.parametrize(
    ("name", "globs", "model"),
    [
        ("gpt-5.6", (), GPT),
        ("GPT-5.6", ("gpt-*",), GPT),
        ("mini", ("mini",), MINI),
        ("gpt-5.6-mini", ("MINI",), MINI),
        ("zhipu/glm-5.3", ("glm-*",), GLM),
        ("GLM-5.3", ("zhipu/*", "x"), GLM),
    ],
)
def test_a_name_means_the_model_of_that_id_or_alias(
    name: str, globs: tuple[str, ...], model: Model
) -> None:
    """Case is ignored, in names and in globs."""
    assert _choose(name, globs=globs) is model


@pytest.mark.parametrize(
    ("name", "group", "globs", "hint"),
    [
        ("gpt-5.6-mni", ALL, (), " Did you mean 'gpt-5.6-mini'?"),
        ("glm-5.4", ALL, (), " Did you mean 'glm-5.3' or 'gpt-5.6'?"),
        ("claude", ALL, (), ""),
        # Not the group's, not sold yet, without a price: as if they did not exist.
        ("gpt-5.6", CHEAP, (), " Did you mean 'glm-5.3' or 'gpt-5.6-mini'?"),
        ("gpt-5.7", ALL, (), " Did you mean 'gpt-5.6' or 'glm-5.3'?"),
        ("gpt-free", ALL, ("gpt-free",), ""),
        # A key is told of what it may use only.
        ("glm-5.4", ALL, ("gpt-5.6",), " Did you mean 'gpt-5.6'?"),
    ],
)
def test_a_model_that_is_not_offered_is_not_found(
    name: str, group: Group, globs: tuple[str, ...], hint: str
) -> None:
    """404 with near names, of what the caller may use."""
    with pytest.raises(NotFound) as caught:
        _choose(name, group, globs)
    error = caught.value
    assert error.message == (
        f"The model {name!r} does not exist or is not offered to you.{hint}"
        " GET /v1/models lists what is."
    )
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")


def test_a_model_that_only_the_key_excludes_is_forbidden() -> None:
    """403, with what the key may use."""
    with pytest.raises(ModelNotAllowed) as caught:
        _choose("mini", globs=("glm-*", "gpt-5.6"))
    error = caught.value
    assert error.message == (
        "This key may not use the model 'mini', only glm-*, gpt-5.6. Use another key, or have this"
        " one's models changed."
    )
    assert (error.status, error.code, error.param) == (403, "model_not_allowed", "model")


# Channels


def _channel(id: str, **more: Any) -> Channel:
    return Channel(id, "openai", f"https://{id}", **more)


def _candidates(*channels: Channel, wires: tuple[str, ...] = ("chat",)) -> list[str]:
    routes = tuple(Route(name, f"up-{name}") for name in ("a", "b", "c", "d"))
    found = candidates(_catalogue(*channels), Model("m", routes, (PRICE,)), wires)
    assert all(each.model == f"up-{each.channel.id}" for each in found)
    return [each.channel.id for each in found]


def test_channels_come_by_priority_and_then_as_the_model_lists_them() -> None:
    """Lower first; the order of the channels themselves says nothing."""
    channels = [_channel("d"), _channel("c", priority=-1), _channel("b", priority=2), _channel("a")]
    assert _candidates(*channels) == ["c", "a", "d", "b"]


def test_channels_that_cannot_serve_are_left_out() -> None:
    """Closed, of another dialect, or gone from the catalogue."""
    channels = [
        _channel("a", closed="env:A is not set"),
        _channel("b", speaks=("responses",)),
        _channel("c", speaks=("responses", "chat")),
        _channel("other"),
    ]
    assert _candidates(*channels) == ["c"]
    assert _candidates(*channels, wires=("responses",)) == ["b", "c"]
    assert _candidates(*channels, wires=("messages",)) == []


def test_what_needs_no_translation_comes_first_within_a_priority() -> None:
    """The first dialect of the call that a channel speaks is spoken to it."""
    channels = [
        _channel("a"),
        _channel("b", speaks=("chat", "responses")),
        _channel("c", speaks=("responses",), priority=1),
        _channel("d", priority=-1),
    ]
    assert _candidates(*channels, wires=("responses", "chat")) == ["d", "b", "a", "c"]
    assert _candidates(*channels, wires=("chat", "responses")) == ["d", "a", "b", "c"]


# Near names


def test_near_names_are_the_nearest_three_within_three_changes() -> None:
    """Nearest first, then by the alphabet; case is no difference."""
    names = ["abcd", "ABCE", "abc", "abxx", "wxyz", "abcdefgh", "Xbcd"]
    assert near("abcd", names) == ["abcd", "ABCE", "Xbcd"]
    assert near("abcdef", ["abcd", "ab"]) == ["abcd"]
    assert near("abcd", []) == []


def test_a_name_that_has_little_in_common_is_not_near() -> None:
    """However short both are: nobody who asks for foo means o3."""
    assert near("foo", ["o3", "glm-5"]) == []
    assert near("gpt5", ["gpt-5", "glm-5", "o3"]) == ["gpt-5"]


def test_the_beginning_of_a_name_is_near_it() -> None:
    """The name of a family leads to its models, after what differs by a letter."""
    names = ["deepseek-v4-pro", "deepseek-flash", "Deepseek2"]
    assert near("deepseek", names) == ["Deepseek2", "deepseek-flash", "deepseek-v4-pro"]
    assert near("de", names) == []


def _distance(one: str, other: str) -> int:
    """Levenshtein's distance by its definition."""
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return _distance(one[1:], other[1:])
    return 1 + min(
        _distance(one[1:], other), _distance(one, other[1:]), _distance(one[1:], other[1:])
    )


words = st.text("abc", max_size=6)


@given(words, st.lists(words, max_size=8, unique=True))
def test_near_is_by_levenshteins_distance(name: str, names: list[str]) -> None:
    """Against its definition; names that begin with this one come last."""
    scored = sorted((_distance(name, each), each) for each in names)
    close = [
        each
        for distance, each in scored
        if distance <= 3 and distance * 2 < max(len(name), len(each))
    ]
    begun = [each for each in sorted(names) if len(name) > 2 and each.startswith(name)]
    assert near(name, names) == [*close, *(each for each in begun if each not in close)][:3]


def test_what_is_offered_is_found_once_and_its_price_anew_each_time() -> None:
    """A later call is given the same offer while its price counts; before the first price there is
    none, whatever was found before.
    """
    model = _model("m", prices=(LATER,))
    catalogue = _catalogue(Channel("a", "openai", "https://a"), models=(model,))
    after = at("2026-11-24T00:00:00")
    offer = find_offer(catalogue, ALL, (), "M", ("chat",), after)
    assert (offer.model, offer.wires, offer.price) == (model, {"chat"}, LATER)
    assert [each.model for each in offer.channels] == ["up-m"]
    assert find_offer(catalogue, ALL, (), "M", ("chat",), after + 1) is offer
    assert find_offer(catalogue, ALL, (), "M", ("chat",), after) is offer
    with pytest.raises(NotFound):
        find_offer(catalogue, ALL, (), "M", ("chat",), after - 1)


def test_an_offer_has_the_price_of_its_time() -> None:
    """To the microsecond in which the next price begins, also for a clock that is set back."""
    model = _model("m", prices=(PRICE, LATER))
    catalogue = _catalogue(Channel("a", "openai", "https://a"), models=(model,))
    begins = LATER.starts_us
    for at_us in (begins - 1, begins, begins - 1, begins + 1, 0):
        offer = find_offer(catalogue, ALL, (), "m", ("chat",), at_us)
        assert offer.price is model.price_at(at_us)


def test_an_offer_is_for_whoever_may_have_it() -> None:
    """Group, key and dialect each get their own; what is refused is refused again."""
    catalogue = _catalogue(Channel("a", "openai", "https://a"))
    assert find_offer(catalogue, ALL, (), "gpt-5.6", ("chat",), NOW).wires == {"chat"}
    assert find_offer(catalogue, ALL, (), "gpt-5.6", ("messages",), NOW).channels == ()
    for _ in range(2):
        with pytest.raises(NotFound):
            find_offer(catalogue, CHEAP, (), "gpt-5.6", ("chat",), NOW)
        with pytest.raises(ModelNotAllowed):
            find_offer(catalogue, ALL, ("glm-*",), "gpt-5.6", ("chat",), NOW)


def test_offers_that_are_remembered_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name written in ever other cases does not fill the memory."""
    monkeypatch.setattr(select, "_KEPT_OFFERS", 2)
    catalogue = _catalogue(Channel("a", "openai", "https://a"))
    for name in ("gpt-5.6", "GPT-5.6", "Gpt-5.6", "gPt-5.6", "gpt-5.6"):
        assert find_offer(catalogue, ALL, (), name, ("chat",), NOW).model is GPT
        assert len(catalogue.offers) <= 2

"""A snapshot finds models by id and alias, whatever their case, and never changes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from farebox.core.channel import Channel
from farebox.routing.catalogue import Catalogue, Group, Model, matches

GLM = Model("ZHIPU/GLM-5.3", (), (), aliases=("glm-5.3", "Best"))
MIMO = Model("xiaomi/mimo-v2.6-pro", (), (), aliases=("mimo-v2.6-pro", "best", "glm-5.3"))
STRASSE = Model("STRASSE-1", (), ())


def _catalogue(*models: Model) -> Catalogue:
    return Catalogue.of(7, [Channel("a", "openai", "https://a")], models, [Group("g", 10**6)], 5)


@pytest.mark.parametrize(
    "name",
    ["ZHIPU/GLM-5.3", "zhipu/glm-5.3", "Zhipu/Glm-5.3", "glm-5.3", "GLM-5.3", "best", "BEST"],
)
def test_a_model_is_found_by_id_and_alias_whatever_the_case(name: str) -> None:
    """An alias that two models claim is the first one's."""
    assert _catalogue(GLM, MIMO).find(name) is GLM


def test_an_id_wins_over_an_alias() -> None:
    """Also of a model that stands before it."""
    other = Model("Other", (), (), aliases=("straße-1",))
    assert _catalogue(other, STRASSE).find("straße-1") is STRASSE
    assert _catalogue(other, STRASSE).find("other") is other


@pytest.mark.parametrize("name", ["", "glm", "glm-5.3 ", "zhipu/", "*"])
def test_other_names_find_nothing(name: str) -> None:
    """No part of a name, no pattern."""
    assert _catalogue(GLM, MIMO).find(name) is None


def test_a_snapshot_lists_what_it_was_made_of() -> None:
    """In the operator's order and spelling."""
    catalogue = _catalogue(MIMO, GLM)
    assert (catalogue.version, catalogue.created_us) == (7, 5)
    assert list(catalogue.models) == [MIMO.id, GLM.id]
    assert list(catalogue.channels) == ["a"]
    assert catalogue.groups == {"g": Group("g", 10**6)}
    assert list(catalogue.names()) == [MIMO.id, *MIMO.aliases, GLM.id, *GLM.aliases]


def test_a_snapshot_is_frozen() -> None:
    """A change makes a new version."""
    with pytest.raises(FrozenInstanceError):
        _catalogue().version = 8  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("globs", "matched"),
    [
        (["*"], True),
        (["zhipu/*"], True),
        (["GLM-*"], True),
        (["gpt-*", "glm-5.?"], True),
        (["ZHIPU/GLM-5.3"], True),
        (["glm-[45].3"], True),
        (["glm"], False),
        (["gpt-*"], False),
        ([], False),
        ([""], False),
    ],
)
def test_globs_match_ids_and_aliases(globs: list[str], matched: bool) -> None:
    """Whatever the case; no glob matches nothing."""
    assert matches(GLM, globs) is matched

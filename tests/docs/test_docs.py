"""The manual is complete: what can be set, called, read or met is named in docs/."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import typer.main

from farebox.cli.main import app
from farebox.core.settings import Settings
from tests.shape.tree import ROOT, calls, parsed, python_files

MANUAL = "\n".join(
    page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").rglob("*.md"))
)
# `config` is where settings come from, not one of them.
SETTINGS = sorted({field.name for field in fields(Settings)} - {"config"})
METRIC_CLASSES = {"Counter", "Gauge", "Histogram", "Summary"}


def _verbs(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    # Typer has its own copy of click inside, whose classes are not public: hence no isinstance.
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _verbs(child, f"{path} {name}")
    elif not command.hidden:
        yield path, command


VERBS = dict(_verbs(typer.main.get_command(app), "farebox"))
OPTIONS = sorted(
    f"{verb} {max(parameter.opts, key=len)}"
    for verb, command in VERBS.items()
    for parameter in command.params
    if parameter.param_type_name == "option" and not parameter.hidden
)


def _error_codes() -> set[str]:
    """Codes of the error tree, and those given where an error is raised."""
    found: set[str] = set()
    for path in python_files("src"):
        for node in ast.walk(parsed(path)):
            value = None
            if isinstance(node, ast.keyword) and node.arg == "code":
                value = node.value
            elif path.name == "errors.py" and isinstance(node, ast.Assign):
                named = [target.id for target in node.targets if isinstance(target, ast.Name)]
                value = node.value if named == ["code"] else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.add(value.value)
    return found


def _metrics() -> set[str]:
    found: set[str] = set()
    for path in python_files("src"):
        for name, call in calls(path):
            first = call.args[0] if call.args else None
            if name.rpartition(".")[2] in METRIC_CLASSES and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def _is_named(word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", MANUAL) is not None


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_documented(name: str) -> None:
    """Each field of [server] occurs in the manual."""
    assert _is_named(name)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_documented(verb: str) -> None:
    """Each verb of the command line occurs in the manual as it is typed."""
    assert _is_named(verb)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_documented(option: str) -> None:
    """Each option of each verb occurs in the manual."""
    assert _is_named(option.rpartition(" ")[2])


@pytest.mark.parametrize("code", sorted(_error_codes()))
def test_every_error_code_is_documented(code: str) -> None:
    """Each `code` that an error can carry occurs in the manual."""
    assert _is_named(code)


def test_every_metric_is_documented() -> None:
    """Each metric of /metrics occurs in the manual under its full name."""
    assert sorted(name for name in _metrics() if not _is_named(name)) == []


def test_links_within_the_manual_lead_somewhere() -> None:
    """A relative link of a page leads to a file that exists."""
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []

"""tests/COVERAGE.md names tests that exist, and a test for every promise."""

import ast
import re

from tests.shape.tree import ROOT, parsed, python_files

TABLE = (ROOT / "tests" / "COVERAGE.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!promise )(\S.*?) \| (.*) \|$", TABLE, re.MULTILINE)
NAMED = re.compile(r"`([\w/.]+::\w+)`")


def _tests() -> set[str]:
    """Every test function of the project as pytest names it."""
    return {
        f"{path.relative_to(ROOT)}::{node.name}"
        for path in python_files("tests")
        for node in parsed(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if path.name.startswith("test_") and node.name.startswith("test_")
    }


def test_every_test_that_is_named_exists() -> None:
    """A test that was renamed or removed is renamed or replaced in the table, too."""
    assert sorted({name for _, shown in ROWS for name in NAMED.findall(shown)} - _tests()) == []


def test_every_promise_is_shown_by_a_test() -> None:
    """Each row names at least one, and nothing but tests."""
    assert len(ROWS) > 50
    assert [
        promise
        for promise, shown in ROWS
        if not all(NAMED.fullmatch(each) for each in shown.split("<br>"))
    ] == []

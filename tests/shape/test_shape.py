"""The code keeps its shape: sizes, reach, and the few things that live in one place only."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import farebox
from farebox.vendors import registry
from tests.shape.tree import (
    PACKAGE,
    ROOT,
    calls,
    dotted,
    imported_names,
    module_name,
    parsed,
    python_files,
    text_constants,
    tracked,
    where,
)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# The functions of these modules that answer with the present time.
CLOCKS = {
    "time": {"time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
# What runs SQL or makes a statement of text.
SQL_CALLS = {"text", "execute", "executemany", "executescript", "exec_driver_sql", "scalar"}


def source_files() -> list[Path]:
    """The package's own files."""
    return python_files("src")


def test_files_are_short_enough_to_read_at_one_go() -> None:
    """No file of code has more than 400 lines."""
    scripts = [path for path in tracked() if path.parent == ROOT / "scripts"]
    counts = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in [*python_files("src", "tests", "bench"), *scripts]
    }
    assert {name: count for name, count in counts.items() if count > MAX_FILE_LINES} == {}


def test_functions_are_short_enough_to_see_whole() -> None:
    """No function has more than 60 lines, its signature and docstring included."""
    long: dict[str, int] = {}
    for path in python_files("src", "tests", "bench"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{where(path, node)} {node.name}"] = lines
    assert long == {}


def test_asserts_do_nothing() -> None:
    """Python leaves them out where it is told to optimise, so they must only look."""
    looks = {"isinstance", "len", "set", "tuple", "all", "any", "done", "keys"}
    assert {
        f"{where(path, node)} {dotted(call.func)}"
        for path in source_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Assert)
        for call in ast.walk(node.test)
        if isinstance(call, ast.Call) and dotted(call.func).rpartition(".")[2] not in looks
    } == set()


def test_every_module_says_what_it_owns() -> None:
    """Each module of the package begins with a docstring."""
    assert [
        str(path.relative_to(ROOT))
        for path in source_files()
        if not ast.get_docstring(parsed(path))
    ] == []


def _found_without_an_import(module: str) -> bool:
    # Vendors are found by listing their folder, migrations by alembic in the same way.
    return module.startswith(("farebox.vendors.", "farebox.store.migrations."))


def _reached(files: dict[str, Path]) -> set[str]:
    waiting = [name for name in ("farebox.cli.main", "farebox.app") if name in files]
    waiting += [name for name in files if _found_without_an_import(name)]
    reached: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in reached or module not in files:
            continue
        reached.add(module)
        parent = module.rpartition(".")[0]
        # `python -m farebox.x` names its module in a string.
        started = {constant.value for constant in text_constants(parsed(files[module]))}
        imported = {name for name, _ in imported_names(files[module])}
        waiting += [parent, *(name for name in imported | started if name in files)]
    return reached


def test_no_module_is_an_orphan() -> None:
    """Every module is reached from the command line or the application, or found by its folder."""
    files = {module_name(path): path for path in source_files()}
    assert sorted(files.keys() - _reached(files)) == []


def test_nothing_is_printed_past_the_command_line_and_the_log() -> None:
    """The package has no print(): data leaves through the CLI's output, talk through the log."""
    assert [
        where(path, call)
        for path in source_files()
        for name, call in calls(path)
        if name == "print"
    ] == []


def _clock_reads(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute):
            owner, _, name = dotted(node).rpartition(".")
            names = [(owner.rpartition(".")[2], name)]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        if any(name.removesuffix("_ns") in CLOCKS.get(owner, ()) for owner, name in names):
            found.append(where(path, node))
    return found


def test_the_clock_is_read_in_one_place() -> None:
    """Only core/clock.py asks for the time; everything else is given it or asks there."""
    clock = PACKAGE / "core" / "clock.py"
    assert [read for path in source_files() if path != clock for read in _clock_reads(path)] == []
    assert _clock_reads(clock) != []  # the test sees what it looks for


def test_settings_are_read_at_the_composition_root_only() -> None:
    """Only the command line and a reload's process import farebox.settings; others are handed a
    Settings.
    """
    allowed = [PACKAGE / "reload_process.py", *python_files("src/farebox/cli")]
    assert [
        where(path, node)
        for path in source_files()
        if path not in allowed
        for name, node in imported_names(path)
        if name == "farebox.settings"
    ] == []


def _vendor_names() -> set[str]:
    # `local` is an ordinary word too; a comparison with `….vendor` still finds it.
    return set(registry.discover()) - {"local"}


def _names_a_vendor(node: ast.expr, vendors: set[str]) -> bool:
    return any(constant.value in vendors for constant in text_constants(node))


def _vendor_comparisons(path: Path, vendors: set[str]) -> list[str]:
    found: list[str] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            patterns = [value for case in node.cases for value in ast.walk(case.pattern)]
            sides = [node.subject, *(p.value for p in patterns if isinstance(p, ast.MatchValue))]
        else:
            continue
        of_vendor = any(dotted(side).rpartition(".")[2] == "vendor" for side in sides)
        texts = [side for side in sides if any(c.value for c in text_constants(side))]
        if (of_vendor and texts) or any(_names_a_vendor(side, vendors) for side in texts):
            found.append(where(path, node))
    return found


def test_no_code_asks_which_vendor_it_has() -> None:
    """Outside vendors/ nothing is compared with a vendor's name: quirks are the vendors' own."""
    vendors = _vendor_names()
    outside = [path for path in source_files() if path.parent != PACKAGE / "vendors"]
    assert [hit for path in outside for hit in _vendor_comparisons(path, vendors)] == []


def _is_constant(node: ast.expr) -> bool:
    # A constant of the module, by its name: no value of a call can get into it.
    return dotted(node).rpartition(".")[2].isupper()


def _is_built(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        values = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        # SQLite's PRAGMA statements take no parameters.
        is_pragma = any(str(text.value).startswith("PRAGMA ") for text in text_constants(node))
        return not is_pragma and not all(_is_constant(value) for value in values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return any(True for _ in text_constants(node))
    method = node.func if isinstance(node, ast.Call) else None
    return isinstance(method, ast.Attribute) and method.attr in {"format", "join"}


def _built_in_functions(path: Path) -> set[str]:
    functions = [
        node
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {
        target.id
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and _is_built(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _built_sql(path: Path) -> list[str]:
    # Also by the way of a variable of a function. Constants of the module may be put together.
    built = _built_in_functions(path)
    return [
        where(path, call)
        for name, call in calls(path)
        if name.rpartition(".")[2] in SQL_CALLS and call.args
        if _is_built(call.args[0]) or dotted(call.args[0]) in built
    ]


def test_no_sql_is_built_from_text() -> None:
    """No value of a call gets into the text of a statement: values travel as parameters."""
    assert [hit for path in source_files() for hit in _built_sql(path)] == []


# Put together here, so that this file does not find itself.
FOREIGN = re.compile(
    r"(?<![\w.~-])/(?:wo" + r"rk|ro" + r"ot|opt/pypi)/"
    r"|(?:extra-)?index" + r"-url\s*[=:\s]\s*\S*://"
    r"|https?://(?:[\w-]+\.)*(?:pythonhosted\.org|registry\.npmjs|pypi\.org/simple)"
)


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    """No file that is committed names a folder of one machine or the host of a package index."""
    found: list[str] = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a picture or a font
        name = path.relative_to(ROOT)
        found += [f"{name}:{n}: {line}" for n, line in enumerate(lines, 1) if FOREIGN.search(line)]
    assert found == []


def test_the_lock_has_a_hash_for_every_package() -> None:
    """Each requirement of the lock is pinned and hashed, and no line names an address."""
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        lines = lock.read_text(encoding="utf-8").splitlines()
        pins = [n for n, line in enumerate(lines) if line and not line.startswith((" ", "#"))]
        assert pins, lock
        for n in pins:
            assert re.match(r"[a-z0-9-]+==\S+( ; .+)? \\$", lines[n]), lines[n]
            assert lines[n + 1].startswith("    --hash=sha256:"), lines[n]
        assert not any("://" in line for line in lines), lock


def test_the_version_is_the_same_wherever_it_is_said() -> None:
    """pyproject.toml, the package, and its installed metadata agree."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert farebox.__version__ == declared["version"] == importlib.metadata.version("farebox")


def _loaded_by(module: str) -> set[str]:
    # A fresh interpreter: the one of the tests has imported everything already.
    code = f"import sys, {module}; sys.stdout.write(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_the_data_plane_starts_without_the_control_planes_libraries() -> None:
    """Importing farebox.relay brings in neither pydantic nor SQLAlchemy nor Jinja2."""
    heavy = {"pydantic", "pydantic_settings", "sqlalchemy", "alembic", "jinja2"}
    assert _loaded_by("farebox.relay") & heavy == set()


@pytest.mark.parametrize("module", [module_name(path) for path in python_files("src/farebox/core")])
def test_core_needs_the_standard_library_and_structs_only(module: str) -> None:
    """A module of core brings in nothing else that has to be installed. Every call makes some
    fifteen of its values, and a struct is made four times as quickly as a named tuple.
    """
    before_any = _loaded_by("farebox")  # what the interpreter's own start brings in
    foreign = _loaded_by(module) - before_any - sys.stdlib_module_names - {"farebox"}
    assert foreign <= {"msgspec", "typing_extensions"}  # the second is the first's

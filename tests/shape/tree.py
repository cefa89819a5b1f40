"""The project's files and their syntax trees, for tests that look at the code itself."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "farebox"


@cache
def tracked() -> tuple[Path, ...]:
    """What git would commit: tracked files, and new ones that no ignore rule covers."""
    # safe.directory: CI may run as another user than the owner of the clone.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    listing = subprocess.run(
        [*command, "--exclude-standard"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def python_files(*folders: str) -> list[Path]:
    """Python files below these folders of the project, shell scripts not included."""
    roots = [ROOT / folder for folder in folders]
    found = [path for path in tracked() if any(path.is_relative_to(root) for root in roots)]
    return sorted(path for path in found if path.suffix == ".py")


@cache
def parsed(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def where(path: Path, node: ast.stmt | ast.expr) -> str:
    """How a finding is shown: `src/farebox/relay.py:12`."""
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in the file with the dotted name that is called; "" where it is not a name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a chain of names, "" of anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join(reversed([*parts, node.id]))


def text_constants(node: ast.AST) -> Iterator[ast.Constant]:
    """String constants at or below a node."""
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child


def module_name(path: Path) -> str:
    """`farebox.core.ids` of src/farebox/core/ids.py; a package is named by its folder."""
    parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imported_names(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Dotted names that a file imports: of `from a.b import c` both `a.b` and `a.b.c`."""
    package = module_name(path).split(".") if path.is_relative_to(PACKAGE) else []
    if package and path.name != "__init__.py":
        package.pop()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield stem, node
            for alias in node.names:
                yield f"{stem}.{alias.name}", node

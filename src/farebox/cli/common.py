"""What every verb shares: its options, its store, how it shows things, how its errors end.

Nothing heavy is imported before a verb runs, so that `--help` answers at once.
"""

from __future__ import annotations

import inspect
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farebox.errors import BadRequest, FareboxError

if TYPE_CHECKING:
    from farebox.settings import Loaded
    from farebox.store import Store

FAILED, BAD_INPUT, NOT_FOUND, NO_AUTH, CONFLICT = 1, 2, 3, 4, 5
_EXIT_CODE_OF_STATUS = {400: BAD_INPUT, 401: NO_AUTH, 403: NO_AUTH, 404: NOT_FOUND, 409: CONFLICT}
_NUMBER = re.compile(r"-?[0-9.]+|-?")
_WIDTH_OFF_TERMINAL = 500  # so that nothing is folded or cut for a program that reads it


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every verb takes, and what follows from them."""

    config: Path | None = None
    database: str | None = None
    data_dir: Path | None = None
    as_json: bool = False

    def load(self, **flags: object) -> Loaded:
        """The settings by these options and a verb's own flags. Raises ConfigError."""
        from farebox.settings import load

        return load(self.config, {**self.overrides, **flags})

    @property
    def overrides(self) -> dict[str, object]:
        """Of the settings, those that these options give."""
        return {"database": self.database, "data_dir": self.data_dir}

    @contextmanager
    def store(self) -> Generator[Store]:
        """The store, made or migrated if need be. Raises ConfigError, StoreError."""
        from farebox.store import open_store

        loaded = self.load()
        for note in loaded.notes:
            say(note)
        store = open_store(loaded.settings.database, loaded.settings.data_dir)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def store_and_pepper(self) -> Generator[tuple[Store, bytes]]:
        """The store, and what its keys are hashed with. Raises SecretError too."""
        from farebox.admin import secret

        with self.store() as store:
            yield store, secret.key_pepper(secret.unlock(self.load().settings, store))

    def show(self, value: Mapping[str, Any], fields: Mapping[str, object] | None = None) -> None:
        """One object: as JSON, or its fields (or these) one below the other."""
        if self.as_json:
            write_json(value)
            return
        from rich.table import Table

        table = Table(show_header=False, box=None, pad_edge=False)
        for name, field in (fields or value).items():
            table.add_row(f"{name}:", _cell(field))
        _write_table(table)

    def show_all(
        self,
        values: Sequence[Mapping[str, Any]],
        columns: Sequence[str],
        rows: Sequence[Sequence[object]] | None = None,
    ) -> None:
        """Many objects: a JSON array, or a table of these columns (rows: given, or theirs)."""
        if self.as_json:
            write_json(values)
        else:
            write_rows(columns, rows or [[value[name] for name in columns] for value in values])


_ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration file, else FAREBOX_CONFIG."),
]
_DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="Store; default sqlite:///DATA_DIR/farebox.db."),
]
_DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder of the store and the secret; default ~/.local/share/farebox.",
    ),
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
_COMMON_PARAMETERS = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    for name, kind, default in (
        ("config", _ConfigOption, None),
        ("database", _DatabaseOption, None),
        ("data_dir", _DataDirOption, None),
        ("as_json", _JsonOption, False),
    )
]


def verb(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a verb: its first parameter is a Common, whose options are added.

    Errors that are somebody's become one sentence and an exit code; others pass.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @wraps(function)
        def run(*args: Any, **options: Any) -> None:
            common = Common(**{each.name: options.pop(each.name) for each in _COMMON_PARAMETERS})
            with sentences():
                for option, value in options.items():
                    _check_text(option, value)
                function(common, *args, **options)

        keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        parameters = [*keyword_only, *_COMMON_PARAMETERS]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        del run.__wrapped__  # type: ignore[attr-defined]
        app.command(name)(run)
        return run

    return register


def _check_text(name: str, value: object) -> None:
    """Refuse what neither the store nor JSON could hold. Paths may be any bytes."""
    for text in value if isinstance(value, list) else (value,):  # pyright: ignore[reportUnknownVariableType]
        # Python shows bytes of a command line that are no UTF-8 as lone surrogates.
        if isinstance(text, str) and not text.isascii() and text != _readable(text):
            raise BadRequest(f"{name.upper()} is not UTF-8 text: {_readable(text)!r}.")


def _readable(text: str) -> str:
    return text.encode(errors="replace").decode()


@contextmanager
def sentences() -> Generator[None]:
    """Turn errors that are somebody's into a sentence on stderr and the contract's exit code."""
    try:
        yield
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        say(str(error))
        raise typer.Exit(code) from None


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error that its sentence explains; None for a defect."""
    table = (
        ("farebox.settings", "ConfigError", BAD_INPUT),
        ("farebox.admin.catalogue_file", "BadCatalogue", BAD_INPUT),
        ("farebox.core.money", "BadAmount", BAD_INPUT),
        ("farebox.admin.secret", "SecretError", BAD_INPUT),
        ("farebox.store.errors", "BadStoreUrl", BAD_INPUT),
        ("farebox.store.errors", "StoreConflict", CONFLICT),
        ("farebox.store.errors", "StoreError", FAILED),
    )
    for module, name, code in table:
        # What cannot have been raised need not be loaded: the store takes a while.
        if module in sys.modules and isinstance(error, getattr(sys.modules[module], name)):
            return code
    if isinstance(error, FareboxError):
        return _EXIT_CODE_OF_STATUS.get(error.status, FAILED)
    return None


def say(text: str) -> None:
    """Talk, as opposed to data: to stderr."""
    typer.echo(text, err=True)


def write_json(value: object) -> None:
    """Data for machines on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_rows(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout. On a narrow terminal texts are folded, between words only."""
    from rich.cells import cell_len
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    cells = [[_cell(value) for value in row] for row in rows]
    for n, name in enumerate(columns):
        numbers = all(_NUMBER.fullmatch(row[n].plain) for row in cells)
        header = name.replace("_", " ")
        words = " ".join((header, *(row[n].plain for row in cells))).split()
        table.add_column(
            header,
            justify="right" if cells and numbers else "left",
            min_width=max(map(cell_len, words), default=0),
        )
    for row in cells:
        table.add_row(*row)
    _write_table(table)


def _write_table(table: Any) -> None:
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH_OFF_TERMINAL
    text = io.StringIO()
    Console(width=width, color_system=None, highlight=False, file=text).print(table, crop=False)
    for line in text.getvalue().splitlines():
        typer.echo(line.rstrip())


def program() -> str:
    """How a shell calls this very command: by its name if that finds it, else by its path."""
    own = Path(sys.argv[0])
    found = shutil.which(own.name)
    if own.name != "farebox" or (found and own.exists() and Path(found).samefile(own)):
        return "farebox"
    return shlex.quote(str(own.absolute()))


def _cell(value: object) -> Any:
    from rich.text import Text

    if value is None:
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, list | tuple):
        return Text(", ".join(map(str, value)) or "-")  # type: ignore[arg-type]
    return Text(str(value))

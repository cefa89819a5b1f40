"""Where settings come from: flag > FAREBOX_<FIELD> > a table of the TOML, as [server] > default.

What a setting means and its default are core/settings.py's; its table and what it takes are
settings_rules.py's; what the catalogue tables of the file mean is admin's: here they are handed on.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model
from pydantic_settings import BaseSettings, InitSettingsSource, SettingsConfigDict

from farebox.core.settings import Settings
from farebox.settings_rules import FIELDS, PLACES, RULES, SETTINGS_TABLES

CATALOGUE_TABLES = ("billing", "channels", "models", "groups")
_PATHS = ("data_dir", "secret_file")
# Read elsewhere, so not unknown: the file, tracebacks of the CLI, the interpreter of scripts/.
_OTHER_VARIABLES = ("FAREBOX_CONFIG", "FAREBOX_DEBUG", "FAREBOX_PYTHON")
# What Kubernetes injects into every pod beside a Service that is called "farebox".
_KUBERNETES = re.compile(r"FAREBOX_(SERVICE_|PORT_\d+_(TCP|UDP|SCTP))")
_MAX_CONFIG_BYTES = 16 * 1024 * 1024


class ConfigError(ValueError):
    """Settings that cannot be used. Each problem is a sentence: file, key, remedy. Exit code 2."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file as parsed: its tables of settings, and its catalogue tables, if any."""

    name: str
    folder: Path  # relative paths in it start here
    settings: Mapping[str, Mapping[str, object]]  # by table
    document: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, the catalogue tables of the file (None: it has none, or no file), what to tell."""

    settings: Settings
    document: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def load(
    config: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """Settings of the flags (`overrides`; None is a flag not given), the environment and the file.

    `config` is `--config`; else FAREBOX_CONFIG names the file; one in the current folder is never
    picked up by itself. Raises ConfigError.
    """
    path = config_path(config, environ)
    file = read_config(path) if path else None
    flags = {name: value for name, value in (overrides or {}).items() if value is not None}
    variables, notes = _from_environment(environ)
    layers = [
        _Layer(flags, Path.cwd(), lambda name: f"--{name.replace('_', '-')}"),
        _Layer(variables, Path.cwd(), lambda name: f"FAREBOX_{name.upper()}"),
    ]
    if file:
        layers.append(_file_layer(file))
    values = _merged(layers)
    settings = _complete(values, environ)
    if path:
        settings = replace(settings, config=path)
    return Loaded(settings, file.document if file else None, tuple(notes))


def config_path(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that counts, absolute: `--config`, else FAREBOX_CONFIG, else none."""
    path = config or (environ.get("FAREBOX_CONFIG", "").strip() or None)
    return Path.cwd() / Path(path).expanduser() if path else None


def read_config(path: Path) -> ConfigFile:
    """Read and parse a configuration file. Raises ConfigError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_CONFIG_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"The configuration file {path} cannot be read: {reason}. "
            "Check --config or FAREBOX_CONFIG, and the file's permissions."
        ) from None
    return parse_config(data, str(path), path.parent)


def parse_config(data: bytes, name: str, folder: Path) -> ConfigFile:
    """Parse TOML; errors call it `name`. Settings are not checked yet. Raises ConfigError."""
    if len(data) > _MAX_CONFIG_BYTES:
        raise ConfigError(f"{name} is larger than 16 MiB, which no configuration is.")
    try:
        # A byte order mark is what some editors of Windows put first; TOML does not know it.
        tables = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{name} is not UTF-8 text (byte {error.start + 1}). Save it as UTF-8."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{name} is not valid TOML: it is nested too deeply.") from None
    known = (*SETTINGS_TABLES, *CATALOGUE_TABLES)
    unknown = [key for key in tables if key not in known]
    if unknown:
        raise ConfigError(
            *(f'{name}: "{key}" is not a table of it.{_near(key, known)}' for key in unknown)
        )
    settings = {table: tables.pop(table, {}) for table in SETTINGS_TABLES}
    wrong = [table for table, keys in settings.items() if not isinstance(keys, dict)]
    if wrong:
        raise ConfigError(
            *(f"{name}: {table} must be a table, written [{table}]." for table in wrong)
        )
    return ConfigFile(name, folder, settings, tables or None)


def check_server(file: ConfigFile) -> None:
    """Check [server] and the other tables of settings in a file that is applied but not started
    from. Raises ConfigError.
    """
    _merged([_file_layer(file)])


@dataclass(frozen=True, slots=True)
class _Layer:
    """One source of settings: values by field, where relative paths start, what a field is called
    there, and what stands there that is no setting, a sentence each.
    """

    values: Mapping[str, object]
    folder: Path
    label: Callable[[str], str]
    unknown: tuple[str, ...] = ()


def _file_layer(file: ConfigFile) -> _Layer:
    written = [(table, key) for table, keys in file.settings.items() for key in keys]
    known = {FIELDS[at][key]: file.settings[at][key] for at, key in written if key in FIELDS[at]}
    unknown = [
        f"{file.name}: [{table}] {key} is not a setting.{_meant(table, key)}"
        for table, key in written
        if key not in FIELDS[table]
    ]
    return _Layer(known, file.folder, lambda name: _in_file(file.name, name), tuple(unknown))


def _in_file(file_name: str, name: str) -> str:
    table, key = PLACES[name]
    return f"{file_name}: [{table}] {key}"


def _meant(table: str, key: str) -> str:
    """What may be meant by a key that [table] does not have: another table's, or a near one."""
    for name, (place, own) in PLACES.items():
        if key in (name, own):
            return f' Did you mean "{own}" under [{place}]?'
    return _near(key, tuple(sorted(FIELDS[table])))


def _from_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """FAREBOX_<FIELD> by field, and notes on what is ignored. An empty variable is not set."""
    values: dict[str, str] = {}
    notes: list[str] = []
    known = {f"FAREBOX_{name.upper()}": name for name in RULES}
    for variable, text in sorted(environ.items()):
        if not variable.startswith("FAREBOX_") or variable in _OTHER_VARIABLES or not text.strip():
            continue
        if variable == "FAREBOX_PORT" and text.startswith("tcp://"):
            notes.append(
                f"FAREBOX_PORT={text} is ignored: Kubernetes sets it for a Service called farebox. "
                "Rename the Service, or set the port with --port."
            )
        elif variable in known:
            values[known[variable]] = text.strip()
        elif not _KUBERNETES.match(variable):
            near = get_close_matches(variable[len("FAREBOX_") :].lower(), RULES, n=1, cutoff=0.7)
            meant = f' Did you mean "FAREBOX_{near[0].upper()}"?' if near else ""
            notes.append(f"{variable} is not a setting and is ignored.{meant}")
    return values, notes


def _near(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    if near:
        return f' Did you mean "{near[0]}"?'
    return f" Known: {', '.join(known)}."


class _Sourced(BaseSettings):
    # Defaults are core's: what is not set here is left to them, so None stands for it unchecked.
    model_config = SettingsConfigDict(extra="forbid", validate_default=False)


_FIELDS: dict[str, Any] = {name: (rule[0] | None, None) for name, rule in RULES.items()}
_ServerFields = create_model("_ServerFields", __base__=_Sourced, **_FIELDS)


def _merged(layers: list[_Layer]) -> dict[str, Any]:
    """The values of the first layer that has each key, checked. Raises ConfigError."""
    anchored = [_anchored(layer) for layer in layers]

    class Layered(_ServerFields):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
        ) -> tuple[InitSettingsSource, ...]:
            return tuple(InitSettingsSource(settings_cls, dict(values)) for values in anchored)

    problems = [sentence for layer in layers for sentence in layer.unknown]
    values: dict[str, Any] = {}
    try:
        values = Layered().model_dump(exclude_unset=True)
    except ValidationError as error:
        names = dict.fromkeys(str(part["loc"][0]) for part in error.errors(include_url=False))
        problems += [_problem(name, layers) for name in names]
    if problems:
        raise ConfigError(*problems)
    return values


def _problem(name: str, layers: list[_Layer]) -> str:
    layer = next(layer for layer in layers if name in layer.values)
    # A database URL may hold a password, so it is not repeated.
    shown = "" if name == "database" else f", not {str(layer.values[name])[:80]!r}"
    return f"{layer.label(name)} must be {RULES[name][1]}{shown}."


def _anchored(layer: _Layer) -> dict[str, object]:
    """The layer's values with relative paths made absolute, since `serve` hands them on."""
    values = dict(layer.values)
    for name in _PATHS:
        value = values.get(name)
        if isinstance(value, str | Path) and str(value).strip():
            values[name] = _absolute(layer.folder, str(value))
        elif name in values:
            values[name] = False  # neither a text nor a path: refused by the field's rule
    database = values.get("database")
    if isinstance(database, str) and database.startswith("sqlite:///") and database[10:]:
        path = database[10:]
        if path != ":memory:":
            values["database"] = f"sqlite:///{_absolute(layer.folder, path)}"
    return values


def _absolute(folder: Path, path: str) -> Path:
    return Path(os.path.normpath(Path.cwd() / folder / Path(path).expanduser()))


def _complete(values: dict[str, Any], environ: Mapping[str, str]) -> Settings:
    """Settings of the checked values, and defaults that depend on the machine."""
    data_dir = values.setdefault("data_dir", _default_data_dir(environ))
    database = values.setdefault("database", f"sqlite:///{data_dir / 'farebox.db'}")
    if not database.startswith("sqlite:") and values.get("secret_file") is None:
        raise ConfigError(
            "With a PostgreSQL database the master secret must be given, since every host needs "
            "the same one: name its file in FAREBOX_SECRET_FILE or [server] secret_file."
        )
    return Settings(**values)


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    """`$XDG_DATA_HOME/farebox`, else `~/.local/share/farebox` (XDG Base Directory)."""
    base = Path(environ.get("XDG_DATA_HOME", "").strip())
    if base.is_absolute():  # the specification has relative ones ignored
        return base / "farebox"
    home = environ.get("HOME", "").strip()
    return Path(home or Path.home()) / ".local" / "share" / "farebox"

"""Where settings come from: flag > FAREBOX_<FIELD> > [server] of the TOML > default.

What a setting means and its default are core/settings.py's; what the catalogue tables of the file
mean is admin's: here they are only handed on.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ValidationError, create_model
from pydantic import Field as Limits
from pydantic_settings import BaseSettings, InitSettingsSource, SettingsConfigDict

from farebox.core.settings import Settings

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
    """A configuration file as parsed: its [server] table, and its catalogue tables, if any."""

    name: str
    folder: Path  # relative paths in it start here
    server: Mapping[str, object]
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
        layers.append(_server_layer(file))
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
    """Parse TOML; errors call it `name`. [server] is not checked yet. Raises ConfigError."""
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
    known = ("server", *CATALOGUE_TABLES)
    listing = ", ".join(known)
    unknown = [key for key in tables if key not in known]
    if unknown:
        raise ConfigError(
            *(
                f'{name}: "{key}" is not a table of it.{_near(key, known, listing)}'
                for key in unknown
            )
        )
    server = tables.pop("server", {})
    if not isinstance(server, dict):
        raise ConfigError(f"{name}: server must be a table, written [server].")
    return ConfigFile(name, folder, cast("dict[str, object]", server), tables or None)


def check_server(file: ConfigFile) -> None:
    """Check [server] of a file that is applied but not started from. Raises ConfigError."""
    _merged([_server_layer(file)])


@dataclass(frozen=True, slots=True)
class _Layer:
    """One source of settings: values, where relative paths start, what a key is called there."""

    values: Mapping[str, object]
    folder: Path
    label: Callable[[str], str]


def _server_layer(file: ConfigFile) -> _Layer:
    return _Layer(file.server, file.folder, lambda name: f"{file.name}: [server] {name}")


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


def _near(name: str, known: Mapping[str, object] | tuple[str, ...], listing: str) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    if near:
        return f' Did you mean "{near[0]}"?'
    return f" Known: {listing}."


# What each setting takes: its type and limits for pydantic, and the words for "… must be …".


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted")  # noqa: TRY004 (pydantic takes ValueError only)
    return value


def _usable_cores() -> int:
    """Cores that this process may run on, less what a container's quota leaves of them."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cores


def _workers(value: object) -> object:
    return _usable_cores() if value == "auto" else _number(value)


def _comma_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for part in value:
        ipaddress.ip_network(part, strict=False)
    return value


def _url(value: str) -> str:
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("not a web address")
    if parts.query or parts.fragment or any(char.isspace() for char in value):
        raise ValueError("not a plain address")
    _ = parts.port  # raises ValueError when it is no port
    return value.rstrip("/")


def _database(value: str) -> str:
    scheme, found, rest = value.partition("://")
    if not found or scheme not in ("sqlite", "postgresql", "postgresql+psycopg", "postgres"):
        raise ValueError("not a database")
    if scheme == "sqlite" and (not rest.startswith("/") or rest in ("/", "/:memory:")):
        raise ValueError("not a file")
    return value


def _out_of_credit_status(value: int) -> int:
    if value not in (429, 402):
        raise ValueError("not a status for that")
    return value


def _at_least(least: int) -> tuple[Any, str]:
    whole = Annotated[int, BeforeValidator(_number), Limits(ge=least, le=2**40)]
    return whole, f"a whole number, {least} or more"


def _seconds(least: float) -> tuple[Any, str]:
    number = Annotated[float, BeforeValidator(_number), Limits(ge=least, le=86400)]
    return number, f"a number of seconds from {least:g} to 86400"


_PATH: tuple[Any, str] = (Path, "a path")
_FILLED = Annotated[str, Limits(min_length=1)]

_BY_TYPE: dict[Any, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: _at_least(1),
    float: _seconds(0.001),
    str: (_FILLED, "a text"),
}

_BY_NAME: dict[str, tuple[Any, str]] = {
    "data_dir": _PATH,
    "secret_file": _PATH,
    "database": (
        Annotated[str, AfterValidator(_database)],
        "sqlite:///PATH or postgresql://USER@HOST/NAME",
    ),
    "host": (
        Annotated[str, Limits(min_length=1, pattern=r"^[^\s/]+$")],
        "a host name or an IP address",
    ),
    "port": (
        Annotated[int, BeforeValidator(_number), Limits(ge=0, le=65535)],
        "a port from 1 to 65535 (0 takes any free one)",
    ),
    "workers": (
        Annotated[int, BeforeValidator(_workers), Limits(ge=1, le=256)],
        'a number from 1 to 256, or "auto"',
    ),
    "public_url": (
        Annotated[str, AfterValidator(_url)],
        "an address such as https://llm.example.org, without user, query or fragment",
    ),
    "trusted_proxies": (
        Annotated[tuple[str, ...], BeforeValidator(_comma_list), AfterValidator(_networks)],
        'a list of IP addresses or networks such as "10.0.0.0/8"',
    ),
    "log_level": (
        Annotated[str, Limits(pattern="^(debug|info|warning|error)$")],
        "debug, info, warning or error",
    ),
    "out_of_credit_status": (
        Annotated[int, BeforeValidator(_number), AfterValidator(_out_of_credit_status)],
        "429 or 402",
    ),
    "drain_after_hangup_s": _seconds(0),
    "drain_timeout_s": _seconds(0),
    "usage_wait_s": _seconds(0),
}


def _rules() -> dict[str, tuple[Any, str]]:
    """A rule for each field of Settings but `config`, which the file cannot say of itself."""
    hints = get_type_hints(Settings)
    names = [field.name for field in fields(Settings) if field.name != "config"]
    return {name: _BY_NAME.get(name) or _BY_TYPE[hints[name]] for name in names}


RULES = _rules()


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

    try:
        return Layered().model_dump(exclude_unset=True)
    except ValidationError as error:
        names = dict.fromkeys(str(part["loc"][0]) for part in error.errors(include_url=False))
        raise ConfigError(*(_problem(name, layers) for name in names)) from None


def _problem(name: str, layers: list[_Layer]) -> str:
    layer = next(layer for layer in layers if name in layer.values)
    label = layer.label(name)
    if name not in RULES:
        return f"{label} is not a setting.{_near(name, tuple(RULES), ', '.join(sorted(RULES)))}"
    # A database URL may hold a password, so it is not repeated.
    shown = "" if name == "database" else f", not {str(layer.values[name])[:80]!r}"
    return f"{label} must be {RULES[name][1]}{shown}."


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

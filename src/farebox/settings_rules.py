"""Which settings there are, which table of the file has each, and what values each takes.

What a setting means and its default are core/settings.py's; where its value comes from is
settings.py's.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic import Field as Limits

from farebox.core.settings import MIB, Settings

# The tables of the file that hold settings. A field of Settings that begins with the name of one
# and `_` is a key of that table, without this prefix; every other field is a key of the first.
SETTINGS_TABLES = ("server", "responses")

# What is made of these at the start stays for as long as the supervisor lives.
NEED_RESTART = ("data_dir", "database", "secret_file", "host", "port", "workers", "local")

# `config` is where settings come from, which the file cannot say of itself.
_NAMES = tuple(field.name for field in fields(Settings) if field.name != "config")


def _place(name: str) -> tuple[str, str]:
    table, _, key = name.partition("_")
    return (table, key) if key and table in SETTINGS_TABLES[1:] else (SETTINGS_TABLES[0], name)


# By field: its table and its key there. By table and key: the field.
PLACES: Mapping[str, tuple[str, str]] = {name: _place(name) for name in _NAMES}
FIELDS: Mapping[str, Mapping[str, str]] = {
    table: {key: name for name, (of, key) in PLACES.items() if of == table}
    for table in SETTINGS_TABLES
}


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted")  # noqa: TRY004 (pydantic takes ValueError only)
    return value


_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: the microseconds of CPU time in a period


def usable_cores(quota_file: Path = _CPU_QUOTA) -> int:
    """Cores that this process may run on, or as many as a container's quota is worth, if less."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = quota_file.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cores


def _workers(value: object) -> object:
    return usable_cores() if value == "auto" else _number(value)


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


def _whole(most: int, of: str = "") -> tuple[Any, str]:
    whole = Annotated[int, BeforeValidator(_number), Limits(ge=1, le=most)]
    return whole, f"a whole number{of} from 1 to {most}"


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

# SQLite takes no row of more than 10^9 bytes (SQLITE_MAX_LENGTH).
_MAX_KEPT_BYTES = 512 * MIB

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
    "reload_drain_timeout_s": _seconds(0),
    "usage_wait_s": _seconds(0),
    # An idle lease is to be back within 5 s, which `accounts show` promises.
    "lease_idle_s": (
        Annotated[float, BeforeValidator(_number), Limits(ge=0.01, le=4)],
        "a number of seconds from 0.01 to 4",
    ),
    "usage_keep_days": _whole(36500, " of days"),
    "responses_keep_days": _whole(
        3650, " of days"
    ),  # ten years: an expiry must fit the store's 64 bits
    "responses_max_kept_bytes": _whole(_MAX_KEPT_BYTES),
}


def _rules() -> dict[str, tuple[Any, str]]:
    hints = get_type_hints(Settings)
    return {name: _BY_NAME.get(name) or _BY_TYPE[hints[name]] for name in _NAMES}


# By field: its type and limits for pydantic, and the words for "… must be …".
RULES: Mapping[str, tuple[Any, str]] = _rules()

"""What each setting takes: its type and limits for pydantic, and the words for "… must be …".

Where values come from, and what is said of bad ones, is settings.py's.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic import Field as Limits

from farebox.core.settings import Settings


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


_SECONDS: tuple[Any, str] = (
    Annotated[float, BeforeValidator(_number), Limits(gt=0, le=86400, allow_inf_nan=False)],
    "a number of seconds above 0 (a day at most)",
)
_SECONDS_OR_ZERO: tuple[Any, str] = (
    Annotated[float, BeforeValidator(_number), Limits(ge=0, le=86400, allow_inf_nan=False)],
    "a number of seconds, 0 or more (a day at most)",
)
_PATH: tuple[Any, str] = (Path, "a path")
_FILLED = Annotated[str, Limits(min_length=1)]

_BY_TYPE: dict[Any, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: _at_least(1),
    float: _SECONDS,
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
    "drain_after_hangup_s": _SECONDS_OR_ZERO,
    "drain_timeout_s": _SECONDS_OR_ZERO,
    "usage_wait_s": _SECONDS_OR_ZERO,
}


def _rules() -> dict[str, tuple[Any, str]]:
    """A rule for each field of Settings but `config`, which the file cannot say of itself."""
    hints = get_type_hints(Settings)
    names = [field.name for field in fields(Settings) if field.name != "config"]
    return {name: _BY_NAME.get(name) or _BY_TYPE[hints[name]] for name in names}


RULES = _rules()

"""The catalogue that the environment makes: vendor keys and the built-in price list.

What becomes of it (whether it is applied at all) is first_run.py's.
"""

from __future__ import annotations

import ipaddress
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from farebox.admin.catalogue_file import LOCAL_VENDOR, base_url_problem
from farebox.core.ids import KEY_PREFIX
from farebox.core.settings import Settings
from farebox.vendors import registry
from farebox.vendors.base import Vendor

_COST_ONLY = ("cache_read", "cache_write", "cache_write_1h")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Derived:
    """A catalogue document, and what to tell: what its channels come from, what was left out."""

    document: dict[str, Any]
    found: tuple[str, ...]
    ignored: tuple[str, ...]


@cache
def built_in_prices() -> tuple[Mapping[str, Any], ...]:
    """The rows of data/prices.toml; each has id, upstream, date, source and cost."""
    text = files("farebox.admin").joinpath("data", "prices.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)["models"])


def list_price(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a row of the list sells for: by default its cost, with cache prices by the rule."""
    cost = {key: value for key, value in row["cost"].items() if key not in _COST_ONLY}
    return row.get("price", cost)


def is_local_host(host: str) -> bool:
    """Whether a name or address is this machine's own: an address that can be bound is."""
    if host.rstrip(".").endswith("localhost"):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    return any(_is_local_address(family, address) for family, _, _, _, address in found)


def _is_local_address(family: int, address: tuple[Any, ...]) -> bool:
    ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if ip.is_loopback or ip.is_unspecified:
        return True
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError:
        return False
    return True


def is_own_address(
    url: str, settings: Settings, is_local: Callable[[str], bool] = is_local_host
) -> bool:
    """Whether an http(s) URL leads to the gateway of these settings."""
    host, port = _host_and_port(url)
    if settings.public_url and (host, port) == _host_and_port(settings.public_url):
        return True
    return port == settings.port and (host == settings.host.lower() or is_local(host))


def _host_and_port(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme)


def derive(
    environ: Mapping[str, str],
    settings: Settings,
    *,
    local: bool,
    is_local: Callable[[str], bool] = is_local_host,
) -> Derived:
    """The document of the vendor keys that are set; `local` adds the embedded model."""
    channels: list[dict[str, Any]] = []
    found: list[str] = []
    ignored: list[str] = []
    for vendor in registry.all().values():
        variable = vendor.env_name
        if not variable or not environ.get(variable, "").strip() or not _rows_of({vendor.name}):
            continue
        address = _base_url_variable(variable)
        base_url = environ.get(address, "").strip()
        reason = _reason_to_ignore(vendor, environ[variable].strip(), base_url, settings, is_local)
        if reason:
            ignored.append(reason)
            continue
        channel = {"id": vendor.name, "vendor": vendor.name, "api_key": f"env:{variable}"}
        channels.append({**channel, "base_url": base_url} if base_url else channel)
        at = f" at {base_url} ({address})" if base_url else ""
        found.append(f"{vendor.title} from {variable}{at}, channel {vendor.name}")
    if local:
        channels.append({"id": LOCAL_VENDOR, "vendor": LOCAL_VENDOR})
    names = [channel["vendor"] for channel in channels]
    models = [_model(row, names) for row in _rows_of(set(names))]
    return Derived({"channels": channels, "models": models}, tuple(found), tuple(ignored))


def _base_url_variable(variable: str) -> str:
    return f"{variable.removesuffix('_API_KEY')}_BASE_URL"


def _reason_to_ignore(
    vendor: Vendor,
    key: str,
    base_url: str,
    settings: Settings,
    is_local: Callable[[str], bool],
) -> str | None:
    """A sentence, or None. Calling ourselves as an upstream would go round in a circle."""
    variable = str(vendor.env_name)
    address = _base_url_variable(variable)
    if key.startswith(KEY_PREFIX):
        return (
            f"{variable} is ignored: it holds a key of Farebox itself ({KEY_PREFIX}…), which "
            f"{vendor.title} does not know. Start the gateway in a shell without it."
        )
    if not base_url:
        return None
    problem = base_url_problem(base_url)
    if problem:
        return f"{variable} is ignored: {address} {problem}"
    if is_own_address(base_url, settings, is_local):
        return (
            f"{variable} is ignored: {address} is the address of this very gateway. "
            f"Start it in a shell without {address}."
        )
    return None


def _rows_of(vendors: set[str]) -> list[Mapping[str, Any]]:
    return [row for row in built_in_prices() if vendors & row["upstream"].keys()]


def _model(row: Mapping[str, Any], vendors: list[str]) -> dict[str, Any]:
    upstream = row["upstream"]
    optional = {key: row[key] for key in ("aliases", "context", "max_output") if key in row}
    return {
        "id": row["id"],
        **optional,
        # Environment channels are called like their vendors.
        "channels": [
            {"channel": vendor, "model": upstream[vendor]}
            for vendor in vendors
            if vendor in upstream
        ],
        "price": list_price(row),
        "cost": row["cost"],
    }

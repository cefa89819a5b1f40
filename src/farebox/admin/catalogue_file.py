"""The catalogue as an operator writes it: its tables, and checking them as a whole.

A checked document is plain data (dicts, lists, text, numbers), with dates as text, defaults left
out and the group `default` in it: what the store keeps and `export` prints. Making a snapshot of it
is catalogue.py's.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from farebox.admin import catalogue_prices
from farebox.admin.catalogue_prices import PRICES, PriceTable
from farebox.core.money import BadAmount, parse_multiplier
from farebox.vendors.registry import VendorUnknown, find

TABLES = ("billing", "channels", "models", "groups")
DEFAULT_GROUP = "default"
LOCAL_VENDOR = "local"
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[^\s\x00].*")
_MAX_ID = 200
_UNTOUCHABLE = ("model", "messages", "stream")  # without these an upstream is not asked anything

Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Dialect = Literal["chat", "responses", "messages"]
Table = TypeVar("Table", bound="_Table")


class BadCatalogue(ValueError):
    """A catalogue that cannot be used. Each problem is a sentence that begins with its path."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        super().__init__("\n".join(f"{name}: {problem}" for problem in problems))
        self.problems = tuple(problems)


class _Table(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    pass


class BillingTable(_Table, frozen=True):
    """[billing]: where a model's cache prices come from if it names none: the rule, or its cost."""

    cache_prices: Literal["rule", "vendor"] = "rule"


class ChannelTable(_Table, frozen=True):
    """[[channels]]: one upstream. None and the empty text mean the vendor's default."""

    id: str
    vendor: str
    base_url: str = ""
    api_key: str = ""
    weight: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    speaks: Annotated[list[Dialect], Meta(min_length=1)] | None = None
    dedicated_account: str = ""
    first_byte_timeout_s: Annotated[float, Meta(gt=0, le=86400)] | None = None
    drop: list[str] = []
    rename: dict[str, str] = {}
    max_tokens_field: Annotated[str, Meta(min_length=1)] | None = None
    json_schema: bool | None = None
    developer_role: bool | None = None
    cache_control: bool | None = None
    reasoning_effort: bool | None = None


class RouteTable(_Table, frozen=True):
    """One of a model's `channels`: who serves it, and under which name."""

    channel: str
    model: Annotated[str, Meta(min_length=1, max_length=500)]


class ModelTable(_Table, frozen=True):
    """[[models]]: a public id, who serves it, and its price. Without a price it is not sold."""

    id: str
    aliases: list[str] = []
    context: Tokens | None = None
    max_output: Tokens | None = None
    channels: list[RouteTable] = []
    price: PriceTable | list[PriceTable] | None = None
    cost: PriceTable | list[PriceTable] | None = None


class GroupTable(_Table, frozen=True):
    """[[groups]]: a rate, and the models that its accounts may use (globs; none named: all)."""

    id: str
    rate: str
    models: list[str] | None = None


class Tables(Struct, frozen=True):
    """A whole catalogue, typed."""

    billing: BillingTable = BillingTable()
    channels: list[ChannelTable] = []
    models: list[ModelTable] = []
    groups: list[GroupTable] = []


def check(document: Mapping[str, Any], name: str = "catalogue") -> dict[str, Any]:
    """The document in the form that is stored. Raises BadCatalogue with every problem found."""
    plain = cast("dict[str, Any]", _plain(document))
    problems = [
        f"{key} is not known here.{_near(key, TABLES)}" for key in plain if key not in TABLES
    ]
    billing = _read(plain.get("billing", {}), BillingTable, "billing", problems) or BillingTable()
    channels = _read_list(plain, "channels", ChannelTable, problems)
    models = _read_list(plain, "models", ModelTable, problems)
    groups = _read_list(plain, "groups", GroupTable, problems)
    _check_channels(channels, problems)
    # A channel that could not be read is named all the same: its models are not at fault.
    named = {item.get("id") for item in _tables(plain, "channels")}
    for path, model in models:
        _check_model(path, model, billing, named, problems)
    _check_unique(_model_names(models), problems)
    _check_groups(groups, problems)
    if problems:
        raise BadCatalogue(name, problems)
    if DEFAULT_GROUP not in {group.id for _, group in groups}:
        groups.append(("", GroupTable(id=DEFAULT_GROUP, rate="1")))
    return {
        "billing": msgspec.to_builtins(billing),
        "channels": [msgspec.to_builtins(channel) for _, channel in channels],
        "models": [_model(msgspec.to_builtins(model)) for _, model in models],
        "groups": [msgspec.to_builtins(group) for _, group in groups],
    }


def _model(table: dict[str, Any]) -> dict[str, Any]:
    prices = {key: table[key] for key in PRICES if key in table}
    return {**table, **{key: catalogue_prices.in_order(each) for key, each in prices.items()}}


def read(document: Mapping[str, Any]) -> Tables:
    """The typed tables of a document that was checked before."""
    return msgspec.convert(document, Tables)


def anchored(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The document with relative `file:` references made absolute, from the file's folder."""
    channels = document.get("channels")
    if not isinstance(channels, list):
        return dict(document)
    return {**document, "channels": [_anchored(c, folder) for c in cast("list[Any]", channels)]}


def _anchored(channel: Any, folder: Path) -> Any:
    if not isinstance(channel, dict):
        return channel  # check() will say so
    table = cast("dict[str, Any]", channel)
    reference = table.get("api_key")
    if not isinstance(reference, str) or not reference.startswith("file:") or reference == "file:":
        return table
    path = Path(reference.removeprefix("file:")).expanduser()
    return {**table, "api_key": f"file:{folder / path}"}


def _plain(value: Any) -> Any:
    """TOML's dates as text, so that a document is the same in JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[Any]", value)]
    return value.isoformat() if isinstance(value, date) else value


def _tables(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    items = document.get(key, [])
    if not isinstance(items, list):
        return []
    return [item for item in cast("list[Any]", items) if isinstance(item, dict)]


def _read_list(
    document: Mapping[str, Any], key: str, kind: type[Table], problems: list[str]
) -> list[tuple[str, Table]]:
    """The tables of a list that can be read, each with its path."""
    items = document.get(key, [])
    if not isinstance(items, list):
        problems.append(f"{key} must be a list of tables, each begun with [[{key}]].")
        return []
    placed: list[tuple[str, Table]] = []
    for n, item in enumerate(cast("list[Any]", items)):
        table = _read(item, kind, f"{key}[{n}]", problems)
        if table is not None:
            placed.append((f"{key}[{n}]", table))
    return placed


def _read(value: Any, kind: type[Table], path: str, problems: list[str]) -> Table | None:
    """One table, field by field, so that every problem in it is found.

    What could not be read stands at its default, so that the rest can be checked; None without one.
    """
    if not isinstance(value, dict):
        problems.append(f"{path} must be a table, not {type(value).__name__}.")
        return None
    given = cast("dict[str, Any]", value)
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    problems.extend(
        f"{path}.{key} is not known here.{_near(key, list(known))}"
        for key in given
        if key not in known
    )
    read: dict[str, Any] = {}
    for key, field in known.items():
        if key in given:
            try:
                read[key] = msgspec.convert(given[key], field.type)
            except msgspec.ValidationError as error:
                problems.append(_in_words(f"{path}.{key}", str(error), field.type, given[key]))
        elif field.required:
            problems.append(f"{path}.{key} is missing.")
    if any(field.required and key not in read for key, field in known.items()):
        return None
    return kind(**read)


_WORDS = {
    "object | array": "a table or a list of tables",
    "object": "a table",
    "array": "a list",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}


def _in_words(path: str, error: str, kind: Any, value: object) -> str:
    """The message of msgspec in our words, with our path for its `$`. Of values it holds numbers
    only: a text may be a secret that was put into the wrong place.
    """
    text, _, place = error.partition(" - at `$")
    place = path + place.removesuffix("`")
    unknown = text.removeprefix("Object contains unknown field ")
    if unknown != text:
        return f"{place}.{unknown.strip('`')} is not known here."
    missing = text.removeprefix("Object missing required field ")
    if missing != text:
        return f"{place}.{missing.strip('`')} is missing."
    if text.startswith("Invalid enum value"):
        return f"{place} must be one of {', '.join(_choices(kind))}."
    expected, _, got = text.removeprefix("Expected ").replace(" | null", "").partition(", got ")
    for name, word in _WORDS.items():
        expected, got = expected.replace(f"`{name}`", word), got.replace(f"`{name}`", word)
    if isinstance(value, int | float) and not isinstance(value, bool):
        expected, got = expected.replace("a text", f'a text in quotes, "{value}"'), str(value)
    return f"{place} must be {expected}{', not ' if got else ''}{got}."


def _choices(kind: Any) -> list[str]:
    """The texts of the Literal within a type."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return [str(part) for part in parts]
    return [choice for part in parts for choice in _choices(part)]


def _near(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f' Did you mean "{near[0]}"?' if near else f" Known: {', '.join(known)}."


def _check_id(path: str, text: str, problems: list[str]) -> None:
    if not text or len(text) > _MAX_ID or not text.isprintable() or " " in text:
        problems.append(
            f"{path} must be 1 to {_MAX_ID} printable characters without spaces, not {text[:80]!r}."
        )


def _check_unique(names: Iterable[tuple[str, str]], problems: list[str]) -> None:
    """Names with their paths: none twice, case ignored."""
    seen: dict[str, str] = {}
    for path, name in names:
        first = seen.setdefault(name.casefold(), path)
        if first != path:
            problems.append(f'{path}: "{name}" is taken by {first} (case is ignored).')


def _model_names(models: Iterable[tuple[str, ModelTable]]) -> Iterator[tuple[str, str]]:
    for path, model in models:
        yield f"{path}.id", model.id
        for n, alias in enumerate(model.aliases):
            yield f"{path}.aliases[{n}]", alias


def _check_channels(channels: Sequence[tuple[str, ChannelTable]], problems: list[str]) -> None:
    _check_unique(((f"{path}.id", channel.id) for path, channel in channels), problems)
    for path, channel in channels:
        _check_id(f"{path}.id", channel.id, problems)
        try:
            vendor = find(channel.vendor)
        except VendorUnknown as unknown:
            problems.append(f"{path}.vendor: {unknown}")
        else:
            # The embedded model's address is known to the serving process only.
            if not channel.base_url and not vendor.base_url and vendor is not find(LOCAL_VENDOR):
                problems.append(f"{path}.base_url is missing: {vendor.title} has no default.")
            if vendor.needs_key and not channel.api_key:
                problems.append(
                    f'{path}.api_key is missing: {vendor.title} needs one. Write "env:NAME" or '
                    '"file:PATH".'
                )
        problem = base_url_problem(channel.base_url) if channel.base_url else None
        if problem:
            problems.append(f"{path}.base_url {problem}")
        if channel.api_key and not _REFERENCE.fullmatch(channel.api_key):
            # What stands there may be the secret itself, so it is not repeated.
            problems.append(
                f"{path}.api_key must say where the secret is, never the secret itself: write "
                '"env:NAME" or "file:PATH".'
            )
        problems.extend(
            f'{path}: "{key}" can be neither dropped nor renamed.'
            for key in (*channel.drop, *channel.rename)
            if key in _UNTOUCHABLE
        )


def base_url_problem(url: str) -> str | None:
    """What is wrong with a base URL; never the address itself: user and query may be secrets."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is not an address."
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must begin with http:// or https:// and name a host."
    if "@" in parts.netloc:
        return "must not hold a user or password: use api_key."
    if "?" in url or "#" in url:
        return "must not hold a query or fragment: paths are appended to it."
    if not url.isprintable() or " " in url:
        return "must not hold spaces or control characters."
    return None


def _check_model(
    path: str,
    model: ModelTable,
    billing: BillingTable,
    channels: Container[object],
    problems: list[str],
) -> None:
    _check_id(f"{path}.id", model.id, problems)
    for n, alias in enumerate(model.aliases):
        _check_id(f"{path}.aliases[{n}]", alias, problems)
    if model.context and model.max_output and model.max_output > model.context:
        problems.append(f"{path}.max_output is larger than its context, {model.context}.")
    for n, route in enumerate(model.channels):
        if route.channel not in channels:
            problems.append(f'{path}.channels[{n}]: no channel is called "{route.channel}".')
        if route in model.channels[:n]:
            problems.append(f"{path}.channels[{n}] is there twice.")
    catalogue_prices.check(path, model.price, model.cost, billing.cache_prices, problems)


def _check_groups(groups: Sequence[tuple[str, GroupTable]], problems: list[str]) -> None:
    _check_unique(((f"{path}.id", group.id) for path, group in groups), problems)
    for path, group in groups:
        _check_id(f"{path}.id", group.id, problems)
        try:
            parse_multiplier(group.rate, f"{path}.rate")
        except BadAmount as error:
            problems.append(str(error))

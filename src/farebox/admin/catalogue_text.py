"""A catalogue's document as TOML for people: a table for each channel, model and group, in the
order of the manual, small tables on one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import tomli_w

from farebox.admin.catalogue_prices import PRICES, Written, tables

_HEAD = "# Printed by `farebox export` for `farebox apply`. Prices: credits per million tokens."


def as_toml(document: Mapping[str, Any]) -> str:
    """The TOML text that reads as this document; lists that are empty are left out."""
    lines = [_HEAD, ""]
    if document["billing"]:
        lines += ["[billing]", *_fields(document["billing"]), ""]
    for name in ("channels", "models", "groups"):
        for row in document[name]:
            lines += _row(name, row)
    return "\n".join(lines).strip() + "\n"


def _row(name: str, row: Mapping[str, Any]) -> list[str]:
    blocks: dict[str, Written] = {key: row[key] for key in PRICES if key in row}
    lines = [f"[[{name}]]", *_fields({key: row[key] for key in row if key not in blocks}), ""]
    for key, block in blocks.items():
        head = f"[{name}.{key}]" if isinstance(block, dict) else f"[[{name}.{key}]]"
        for table in tables(block):
            lines += [head, *_fields(table), ""]
    return lines


def _fields(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        fields = ", ".join(_fields(cast("Mapping[str, Any]", value)))
        return f"{{ {fields} }}" if fields else "{}"
    if isinstance(value, list | tuple):
        items = [_value(item) for item in cast("Sequence[object]", value)]
        if len(items) > 1 and items[0].startswith("{"):
            return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
        return f"[{', '.join(items)}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _key(key: str) -> str:
    return tomli_w.dumps({key: 0}).removesuffix(" = 0\n")

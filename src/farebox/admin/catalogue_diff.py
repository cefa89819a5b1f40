"""What differs between two catalogue documents: as lines to read, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from farebox.admin.catalogue_prices import PRICES, by_day

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_LISTS = ("channels", "models", "groups")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `field` is a dotted path within the thing; empty: the whole thing."""

    change: Literal["added", "removed", "changed"]
    kind: str  # billing | channel | model | group
    id: str
    field: str = ""
    old: Any = None
    new: Any = None

    @property
    def line(self) -> str:
        """For people: `~ model gpt-5 price.input: 1.25 → 1.3`."""
        head = f"{_SIGNS[self.change]} {self.kind} {self.id}".rstrip()
        if self.change == "changed":
            whole = isinstance(self.old, _Whole) or isinstance(self.new, _Whole)
            old, new = (_shown(each, whole=whole) for each in (self.old, self.new))
            return f"{head} {self.field}: {old} → {new}"
        if self.change == "removed":
            return head
        return f"{head}  {_details(_by_day(self.new))}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "change": self.change,
            "kind": self.kind,
            "id": self.id,
            "field": self.field,
            "old": self.old,
            "new": self.new,
        }


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """What makes `new` of `old`, both checked. Their order in the document is no difference."""
    return tuple(_changes(old, new))


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    yield from _fields("billing", "", old.get("billing", {}), new.get("billing", {}))
    for key in _LISTS:
        kind = key.removesuffix("s")
        before = {item["id"]: item for item in old.get(key, ())}
        after = {item["id"]: item for item in new.get(key, ())}
        for name, item in before.items():
            if name not in after:
                yield Change("removed", kind, name, old=item)
        for name, item in after.items():
            if name not in before:
                yield Change("added", kind, name, new=item)
            else:
                yield from _fields(kind, name, before[name], item)


def _fields(
    kind: str, name: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Change]:
    before, after = _flat(_by_day(old, new)), _flat(_by_day(new, old))
    for field in sorted(before.keys() | after.keys()):
        if before.get(field) != after.get(field):
            yield Change("changed", kind, name, field, before.get(field), after.get(field))


def _by_day(table: Mapping[str, Any], other: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A model's table with each price that begins on a day under a name of its own. One that
    `other` does not have is a single thing that comes or goes.
    """
    named: dict[str, Any] = {}
    for key, value in table.items():
        if key not in PRICES:
            named[key] = value
            continue
        known = by_day(value if other is None else other.get(key))
        for day, price in by_day(value).items():
            is_new = day and day not in known
            named[f"{key}[{day}]" if day else key] = _Whole(price) if is_new else price
    return named


class _Whole(dict[str, Any]):
    """A table that is not looked into."""


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables within tables as dotted names; lists stay whole, and the id goes without saying."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and value and not isinstance(value, _Whole):
            flat.update(_flat(cast("Mapping[str, Any]", value), f"{prefix}{key}."))
        elif prefix or key != "id":
            flat[f"{prefix}{key}"] = value
    return flat


def _details(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_shown(value)}" for key, value in _flat(table).items())


def _shown(value: Any, *, whole: bool = False) -> str:
    if value is None:
        return "(none)" if whole else "(default)"
    if isinstance(value, _Whole):
        return _details(dict(value))
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)

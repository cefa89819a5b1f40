"""What differs between two catalogue documents: as lines to read, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

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
            return f"{head} {self.field}: {_shown(self.old)} → {_shown(self.new)}"
        if self.change == "removed":
            return head
        details = ", ".join(f"{key} {_shown(value)}" for key, value in _flat(self.new).items())
        return f"{head}  {details}".rstrip()

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
    before, after = _flat(old), _flat(new)
    for field in sorted(before.keys() | after.keys()):
        if before.get(field) != after.get(field):
            yield Change("changed", kind, name, field, before.get(field), after.get(field))


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables within tables as dotted names; lists stay whole, and the id goes without saying."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(cast("Mapping[str, Any]", value), f"{prefix}{key}."))
        elif prefix or key != "id":
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(value: Any) -> str:
    if value is None:
        return "(default)"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)

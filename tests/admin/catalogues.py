"""A catalogue's document, and a store for catalogues in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farebox.admin import catalogue
from farebox.admin.catalogue_file import check
from farebox.routing.catalogue import Catalogue

DEEPSEEK = {"id": "ds", "vendor": "deepseek", "api_key": "env:DEEPSEEK_API_KEY"}
MODEL = {
    "id": "deepseek-v4-pro",
    "aliases": ["pro"],
    "context": 1_000_000,
    "max_output": 384_000,
    "channels": [{"channel": "ds", "model": "v4-pro"}],
    "price": {"input": "1.32", "output": "3.96"},
    "cost": {"input": "1.32", "output": "3.96", "cache_read": "0.044", "cache_write": "0"},
}
DOCUMENT: dict[str, Any] = {"channels": [DEEPSEEK], "models": [MODEL]}


@dataclass(frozen=True)
class Version:
    version: int
    created_us: int
    source: str
    origin: str
    document: dict[str, Any]


class Store:
    """The store's catalogues in memory."""

    def __init__(self) -> None:
        self.versions: list[Version] = []

    def load_catalogue(self, version: int | None = None) -> Version | None:
        return self.versions[-1 if version is None else version - 1] if self.versions else None

    def save_catalogue(self, document: dict[str, Any], source: str, origin: str) -> Version:
        number = len(self.versions) + 1
        self.versions.append(Version(number, number, source, origin, document))
        return self.versions[-1]


def snapshot_of(document: dict[str, Any]) -> Catalogue:
    """Version 3 of the document, of 5 µs."""
    return catalogue.snapshot(check(document), 3, 5)

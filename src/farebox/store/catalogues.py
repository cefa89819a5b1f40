"""Versions of the catalogue document, kept for ever. What one may hold is admin's business."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from farebox.core import clock
from farebox.store.engine import StoreBase
from farebox.store.schema import catalogues, revisions


@dataclass(frozen=True, slots=True)
class StoredCatalogue:
    """One version. `source` is environment, file or console; `origin` names the file, if any."""

    version: int
    created_us: int
    source: str
    origin: str
    document: dict[str, Any]


def _stored(row: sa.RowMapping) -> StoredCatalogue:
    return StoredCatalogue(
        row["version"],
        row["created_us"],
        row["source"],
        row["origin"],
        json.loads(row["document"]),
    )


def _load(connection: sa.Connection, version: int | None) -> sa.RowMapping | None:
    query = sa.select(catalogues)
    if version is None:
        query = query.order_by(catalogues.c.version.desc()).limit(1)
    else:
        query = query.where(catalogues.c.version == version)
    return connection.execute(query).mappings().first()


class Catalogues(StoreBase):
    """What the store knows of catalogues."""

    def load_catalogue(self, version: int | None = None) -> StoredCatalogue | None:
        """That version, or the newest."""
        with self._reading() as connection:
            row = _load(connection, version)
            return _stored(row) if row else None

    def save_catalogue(
        self, document: dict[str, Any], source: str, origin: str = ""
    ) -> StoredCatalogue:
        """Keep a new version, unless the newest is the same in all three; the current one."""
        # The order of keys is the operator's and is kept, so equality is that of the text.
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        with self._writing() as connection:
            current = _load(connection, None)
            if current and (current["document"], current["source"], current["origin"]) == (
                text,
                source,
                origin,
            ):
                return _stored(current)
            version = connection.execute(
                sa.update(revisions)
                .where(revisions.c.name == "catalogue")
                .values(value=revisions.c.value + 1)
                .returning(revisions.c.value)
            ).scalar_one()
            connection.execute(
                sa.insert(catalogues).values(
                    version=version,
                    created_us=clock.now_us(),
                    source=source,
                    origin=origin,
                    document=text,
                )
            )
            saved = _load(connection, version)
            assert saved is not None
            return _stored(saved)

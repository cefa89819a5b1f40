"""What a model cost at an earlier time: prices by the version of the catalogue that a call was
admitted under. What a call costs by them is billing.charge's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from farebox.admin.catalogue import Stored, snapshot
from farebox.core.price import Price
from farebox.routing.catalogue import Catalogue

_VERSIONS = 16  # kept in memory: neighbouring calls are of few


class CatalogueReader(Protocol):
    """What is wanted of the store."""

    def load_catalogue(self, version: int | None = None) -> Stored | None:
        """That version; None if there is none."""
        ...


class PriceBook:
    """The prices of every version that the store keeps, which is all that there ever were."""

    def __init__(self, store: CatalogueReader) -> None:
        @lru_cache(maxsize=_VERSIONS)
        def version_of(version: int) -> Catalogue | None:
            stored = store.load_catalogue(version)
            if stored is None:
                return None
            return snapshot(stored.document, stored.version, stored.created_us)

        self._version_of = version_of

    def price(self, version: int, model_id: str, at_us: int) -> Price | None:
        """The price of a model for calls admitted at that time; None if that version has none."""
        catalogue = self._version_of(version)
        model = catalogue.models.get(model_id) if catalogue is not None else None
        return model.price_at(at_us) if model is not None else None

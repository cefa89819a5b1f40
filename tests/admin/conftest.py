"""An empty store for the operator's functions."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from farebox.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in a folder of its own."""
    store = open_store(f"sqlite:///{tmp_path}/farebox.db", tmp_path)
    yield store
    store.close()


@pytest.fixture
def either(database_url: str, tmp_path: Path) -> Iterator[Store]:
    """An empty store, of the one engine and of the other."""
    store = open_store(database_url, tmp_path)
    yield store
    store.close()

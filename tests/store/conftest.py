"""A fresh store for each test, and an account in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from farebox.store import Store, open_store
from farebox.store.accounts import StoredAccount
from tests.postgres import fresh_database


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store made once; each test works on a copy, since migrating takes most of a test's time."""
    folder = tmp_path_factory.mktemp("store")
    open_store(f"sqlite:///{folder}/farebox.db", folder).close()
    return folder / "farebox.db"


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Iterator[Store]:
    """An empty store in a folder of its own."""
    path = tmp_path / "farebox.db"
    path.write_bytes(empty_store.read_bytes())
    store = open_store(f"sqlite:///{path}", tmp_path)
    yield store
    store.close()


@pytest.fixture
def account(store: Store) -> StoredAccount:
    """An account with 1000 nano-credits, no credit limit, and the id 1."""
    return store.create_account("ann", credits_nanocredits=1000)


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, of the one engine and of the other."""
    url = f"sqlite:///{tmp_path}/farebox.db"
    if request.param == "postgresql":
        url = fresh_database()
    store = open_store(url, tmp_path)
    yield store
    store.close()

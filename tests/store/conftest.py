"""A fresh store for each test, on each engine, and an account in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from farebox.store import Store, open_store
from farebox.store.accounts import StoredAccount
from farebox.store.books import OwnedBooks
from tests import postgres


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store made once; each test works on a copy, since migrating takes most of a test's time."""
    folder = tmp_path_factory.mktemp("store")
    open_store(f"sqlite:///{folder}/farebox.db", folder).close()
    return folder / "farebox.db"


@pytest.fixture(scope="session")
def empty_postgres_store() -> str:
    """The same on PostgreSQL: the name of a database to make others of."""
    url = postgres.fresh_database()
    open_store(url, Path()).close()
    return str(make_url(url).database)


@pytest.fixture
def sqlite_url(tmp_path: Path, empty_store: Path) -> str:
    """The URL of an empty SQLite store in a folder of its own."""
    path = tmp_path / "farebox.db"
    path.write_bytes(empty_store.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(empty_postgres_store: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL store."""
    server = postgres.server()
    url = server.fresh_database(template=empty_postgres_store)
    yield url
    if not server.is_running:
        server.start()
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store, of the one engine and of the other."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return request.getfixturevalue(fixture)


@pytest.fixture
def store(store_url: str, tmp_path: Path) -> Iterator[Store]:
    """An empty store, of the one engine and of the other."""
    store = open_store(store_url, tmp_path)
    yield store
    store.close()


@pytest.fixture
def either(store: Store) -> Store:
    """The same by another name."""
    return store


@pytest.fixture
def sqlite_store(sqlite_url: str, tmp_path: Path) -> Iterator[Store]:
    """An empty SQLite store, for what is true of a file only."""
    store = open_store(sqlite_url, tmp_path)
    yield store
    store.close()


@pytest.fixture
def postgres_store(postgres_url: str, tmp_path: Path) -> Iterator[Store]:
    """An empty PostgreSQL store, for what is true of a server only."""
    store = open_store(postgres_url, tmp_path)
    yield store
    store.close()


@pytest.fixture
def account(store: Store) -> StoredAccount:
    """An account with 1000 nano-credits, no credit limit, and the id 1."""
    return store.create_account("ann", credits_nanocredits=1000)


@pytest.fixture
def books(store: Store) -> OwnedBooks:
    """The books of an owner, and an account of 1000 nano-credits with the id 1."""
    store.create_account("ann", credits_nanocredits=1000)
    books = OwnedBooks(store, "own_1")
    assert books.begin(lambda _: False) == []
    return books

"""Backup and restore: a whole store from either engine into a file, and back into either."""

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from farebox.admin import accounts, backup, secret
from farebox.admin.audit import audit
from farebox.admin.secret import SecretError
from farebox.billing.jobs import Grant
from farebox.core import clock
from farebox.core.settings import Settings
from farebox.errors import NotFound
from farebox.store import Store, open_store
from farebox.store.errors import StoreConflict, StoreError
from farebox.store.reports import HOUR_US
from tests.charging import books_of, priced, settle, stock, used
from tests.postgres import fresh_database
from tests.store.old_stores import store_of_0003


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a gateway that has the secret in its folder."""
    settings = Settings(data_dir=tmp_path, database=f"sqlite:///{tmp_path}/farebox.db")
    secret.load_secret(settings, create=True)
    return settings


@pytest.fixture
def full(either: Store, settings: Settings) -> Store:
    """A store with calls, a sealed hour, and an open lease of 1000 nano-credits on account 1."""
    secret.unlock(settings, either)
    stock(either)
    for n in range(3):
        created_us = clock.now_us() - n * 4 * HOUR_US
        settle(either, priced(request_id=f"req_{n}", created_us=created_us, usage=used(n)))
    audit(either)
    books_of(either, "own_before").do([Grant(1, None, 1, 1000, 1000, 1)])
    return either


@pytest.fixture(params=["sqlite", "postgresql"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, settings: Settings) -> Settings:
    """Another data folder with the same secret, and an empty database of either engine."""
    folder = tmp_path / "elsewhere"
    url = "sqlite:///farebox.db" if request.param == "sqlite" else fresh_database()
    secret_file = secret.secret_path(settings)
    return Settings(data_dir=folder, database=url, secret_file=secret_file)


def test_what_comes_back_is_what_was(
    full: Store, settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    """Accounts, keys, calls, prices and seals; what a lease had left is available again."""
    file = tmp_path / "copy.db"
    made = backup.backup(full, settings, file)
    assert made == {
        "file": str(file),
        "bytes": file.stat().st_size,
        "secret_file": str(tmp_path / "secret"),
    }
    assert backup.restore(elsewhere, file)["leases_returned"] == 1
    store = open_store(elsewhere.database, elsewhere.data_dir)
    ann, bob = full.accounts()
    back = replace(
        ann,
        available_nanocredits=ann.available_nanocredits + 1000,
        held_nanocredits=ann.held_nanocredits - 1000,
    )
    assert store.accounts() == [back, bob]
    assert store.keys() == full.keys()
    assert [store.call(f"req_{n}") for n in range(3)] == [full.call(f"req_{n}") for n in range(3)]
    assert (store.instance_id, store.revisions()) == (full.instance_id, full.revisions())
    found = audit(store)
    assert (found["ok"], found["sealed"]) == (True, 0)
    assert audit(store, full=True)["ok"]
    # Ids go on where they were.
    accounts.create(store, "eve", credits="1")
    assert [account.id for account in store.accounts()] == [1, 2, 3]
    settle(store, priced(request_id="req_new", created_us=clock.now_us()))
    assert audit(store, full=True)["ok"]
    store.close()


def test_the_old_secret_opens_the_restored_store_and_no_other_does(
    full: Store, settings: Settings, tmp_path: Path
) -> None:
    """Another secret, or none, restores nothing."""
    file = tmp_path / "copy.db"
    backup.backup(full, settings, file)
    stranger = Settings(data_dir=tmp_path / "stranger", database="sqlite:///farebox.db")
    with pytest.raises(SecretError, match="is missing"):
        backup.restore(stranger, file)
    secret.load_secret(stranger, create=True)
    with pytest.raises(StoreConflict, match="is not the one that the backup"):
        backup.restore(stranger, file)
    assert not (tmp_path / "stranger" / "farebox.db").exists()


def test_a_backup_is_one_private_file(full: Store, settings: Settings, tmp_path: Path) -> None:
    """Mode 0600, nothing beside it, and whatever reads SQLite can read it."""
    folder = tmp_path / "backups"
    folder.mkdir()
    backup.backup(full, settings, folder / "copy.db")
    assert [path.name for path in folder.iterdir()] == ["copy.db"]
    assert stat.S_IMODE((folder / "copy.db").stat().st_mode) == 0o600
    with closing(sqlite3.connect(folder / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM usage").fetchone() == (3,)
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_file_that_is_there_is_left_alone(
    full: Store, settings: Settings, tmp_path: Path
) -> None:
    """Whatever it is, a dangling link too."""
    file, link = tmp_path / "copy.db", tmp_path / "link.db"
    file.write_text("dear diary")
    link.symlink_to(tmp_path / "nowhere")
    for path in (file, link):
        with pytest.raises(StoreConflict, match="already"):
            backup.backup(full, settings, path)
    assert file.read_text() == "dear diary"
    assert not (tmp_path / "nowhere").exists()


def test_a_backup_that_cannot_be_written_leaves_nothing(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    """A folder that is not there: a sentence."""
    with pytest.raises(StoreError, match="No such file"):
        backup.backup(store, settings, tmp_path / "no" / "copy.db")


def test_a_store_that_is_not_empty_is_not_filled(
    full: Store, settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    """One account is enough; nothing of it is touched, and nothing of the backup is there."""
    file = tmp_path / "copy.db"
    backup.backup(full, settings, file)
    store = open_store(elsewhere.database, elsewhere.data_dir)
    accounts.create(store, "zoe")
    with pytest.raises(StoreConflict, match="is not empty: there are accounts in it"):
        backup.restore(elsewhere, file)
    assert [account.name for account in store.accounts()] == ["zoe"]
    assert store.keys() == []
    store.close()


def test_a_backup_of_an_earlier_version_is_restored(elsewhere: Settings, tmp_path: Path) -> None:
    """It is brought up to date in a copy, and stays as it was itself."""
    file = tmp_path / "old.db"
    store_of_0003(file)
    before = file.read_bytes()
    store = open_store(elsewhere.database, elsewhere.data_dir)
    assert (store.restore(file).accounts, file.read_bytes()) == (2, before)
    found = audit(store, full=True)["invariants"]
    # That store's catalogue has no prices.
    assert [each["id"] for each in found if not each["ok"]] == ["I8"]
    store.close()


@pytest.mark.parametrize("data", [b"", b"dear diary" * 1000])
def test_what_is_no_backup_is_not_restored(settings: Settings, tmp_path: Path, data: bytes) -> None:
    """An empty file, and any other."""
    (tmp_path / "copy.db").write_bytes(data)
    with pytest.raises(StoreError, match=r"copy\.db"):
        backup.restore(settings, tmp_path / "copy.db")


def test_a_backup_that_is_not_there_is_not_found(settings: Settings, tmp_path: Path) -> None:
    """A sentence with its name."""
    with pytest.raises(NotFound, match=r"no\.db"):
        backup.restore(settings, tmp_path / "no.db")


def test_a_backup_under_load_is_of_one_moment(
    either: Store, settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    """Calls are charged while it is made; what is in it adds up."""
    secret.unlock(settings, either)
    stock(either)
    now_us = clock.now_us()

    def charge() -> None:
        for n in range(80):
            settle(either, priced(request_id=f"req_{n}", created_us=now_us, usage=used(n)))

    files: list[Path] = []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(charge)
        while not writing.done() or not files:
            files.append(tmp_path / f"copy-{len(files)}.db")
            backup.backup(either, settings, files[-1])
        writing.result()
    middle = files[len(files) // 2]
    backup.restore(elsewhere, middle)
    store = open_store(elsewhere.database, elsewhere.data_dir)
    assert audit(store, full=True)["ok"]
    store.close()

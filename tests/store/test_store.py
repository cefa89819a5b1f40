"""Opening a store: made when missing, refused when it cannot be used, one identity for ever."""

import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from farebox.store import BadStoreUrl, Store, StoreConflict, StoreError, open_store
from farebox.store.engine import connections_to
from farebox.store.schema import SCHEMA_VERSION
from farebox.store.store import Revisions


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def test_a_missing_store_is_made_with_its_folders(tmp_path: Path) -> None:
    """Opening a path that does not exist makes the folders, the file and all tables."""
    path = tmp_path / "a" / "b" / "farebox.db"
    store = open_store(url(path), tmp_path)
    store.close()
    assert (store.path, path.is_file()) == (path, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_odd_path_is_as_good_as_any(tmp_path: Path) -> None:
    """Spaces, percent signs and letters of other scripts in a path are no trouble."""
    path = tmp_path / "a b 100% é夏" / "farebox.db"
    open_store(url(path), tmp_path).close()
    assert path.is_file()


def test_a_store_keeps_its_identity(tmp_path: Path) -> None:
    """The instance id is made once; another store has another."""
    ids = []
    for name in ("a.db", "a.db", "b.db"):
        store = open_store(url(tmp_path / name), tmp_path)
        ids.append(store.instance_id)
        store.close()
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("fb_")


def test_every_commit_is_synced_and_readers_do_not_wait(sqlite_store: Store) -> None:
    """The file is in WAL mode, and connections sync fully and honour references."""
    with sqlite_store._reading() as connection:
        modes = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert modes == ["wal", 2, 1, 10_000]


def test_opening_a_store_that_is_ready_does_not_load_alembic(sqlite_store: Store) -> None:
    """Migrations are loaded only when there is something to migrate."""
    code = (
        "import sys; from pathlib import Path; from farebox.store import open_store;"
        f"open_store({url(sqlite_store.path)!r}, Path('.')).close();"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_processes_that_open_a_missing_store_together_make_one(database_url: str) -> None:
    """Of several first starts one migrates, the others wait for it, and all see the same store."""
    code = (
        "from pathlib import Path; from farebox.store import open_store;"
        f"print(open_store({database_url!r}, Path('.')).instance_id)"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [start.communicate(timeout=60)[0] for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0, 0]
    assert len(set(outputs)) == 1


def test_a_store_from_the_future_is_refused(store: Store, store_url: str, tmp_path: Path) -> None:
    """A schema version that the code does not know ends in a sentence that says what to do."""
    with store._writing() as connection:
        connection.exec_driver_sql("UPDATE schema_version SET version_num = '0999'")
    with pytest.raises(StoreError, match=f"schema 0999.*up to {SCHEMA_VERSION}.*newer version"):
        open_store(store_url, tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """What is not SQLite's is named, and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(StoreError, match=r"notes\.txt cannot be opened: file is not a database"):
        open_store(url(path), tmp_path)
    assert path.read_text() == "hello"


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    """A folder that cannot be made ends in a sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"farebox\.db cannot be opened: .*--data-dir"):
        open_store(url(tmp_path / "file" / "farebox.db"), tmp_path)


@pytest.mark.parametrize(
    ("bad_url", "sentence"),
    [
        ("mysql://u:pw@host/db", "no store that Farebox knows"),
        ("postgresql+asyncpg://u:pw@host/db", "no store that Farebox knows"),
        ("postgresql://u:pw@host", "names no database"),
        ("postgresql://u:pw@host:port/db", "not a database URL"),
        ("postgresql://u@host/db?sslpassword=pw&mod=on", "invalid connection option"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///x.db?mode=ro", "names no file"),
        ("farebox.db", "'farebox.db' is not a database URL"),
        ("", "not a database URL"),
    ],
)
def test_a_url_that_cannot_be_opened_says_so(tmp_path: Path, bad_url: str, sentence: str) -> None:
    """Each wrong URL has a sentence, and no password is repeated."""
    with pytest.raises(BadStoreUrl, match=sentence) as caught:
        open_store(bad_url, tmp_path)
    assert "pw" not in str(caught.value)


def test_a_relative_path_counts_from_the_data_folder(tmp_path: Path) -> None:
    """Where a process was started does not decide which store it opens."""
    store = open_store("sqlite:///x.db", tmp_path)
    store.close()
    assert store.path == tmp_path / "x.db"


def test_the_first_secret_is_kept_and_another_refused(store: Store) -> None:
    """A fingerprint is set once; the same one passes, another is a conflict."""
    assert store.secret_fingerprint is None
    store.check_secret("aa")
    store.check_secret("aa")
    assert store.secret_fingerprint == "aa"
    with pytest.raises(StoreConflict, match="master secret is not the one"):
        store.check_secret("bb")
    assert store.secret_fingerprint == "aa"


def test_what_changes_bumps_its_own_revision(store: Store) -> None:
    """Catalogue and keys have a counter each; money moves neither."""
    assert store.revisions() == Revisions(0, 0)
    account = store.create_account("ann")
    assert store.revisions() == Revisions(0, 1)
    store.save_catalogue({"models": []}, "file", "f.toml")
    assert store.revisions() == Revisions(1, 1)
    store.credit(account.id, 5, "gift")
    assert store.revisions() == Revisions(1, 1)


def test_a_store_that_vanished_fails_with_a_sentence(store: Store) -> None:
    """An error of the database is a StoreError that names the store."""
    with store._writing() as connection:
        connection.exec_driver_sql("DROP TABLE calibration")
    with pytest.raises(StoreError, match=r"farebox\S* failed: .*calibration.*\.$"):
        store.calibration(0)


def test_a_database_of_something_else_is_refused(database_url: str, tmp_path: Path) -> None:
    """One with tables but no schema version is not filled with ours."""
    connections = connections_to(database_url, tmp_path)
    with connections.writing.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE photos (id INTEGER)")
    connections.close()
    with pytest.raises(StoreError, match="other tables \\(photos\\)"):
        open_store(database_url, tmp_path)


def test_a_store_whose_file_is_taken_away_writes_nothing_into_the_void(sqlite_store: Store) -> None:
    """A deleted file could still be written, and every charge in it would be lost: it is refused,
    as is another file in its place; the same one put back is used again.
    """
    assert sqlite_store.revisions() == Revisions(0, 0)
    kept = sqlite_store.path.with_name("kept.db")
    sqlite_store.path.rename(kept)
    for _ in range(2):  # first nothing is there, then another file
        for use in (sqlite_store.revisions, partial(sqlite_store.fail_orphans, "w0")):
            with pytest.raises(StoreError, match="moved, deleted or replaced"):
                use()
        sqlite_store.path.write_bytes(kept.read_bytes())
    kept.replace(sqlite_store.path)
    sqlite_store.fail_orphans("w0")
    assert sqlite_store.revisions() == Revisions(0, 0)

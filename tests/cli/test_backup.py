"""`farebox backup` and `farebox restore` as they are typed."""

import json
import shutil
from pathlib import Path

from tests.cli.conftest import Run


def prepared(run: Run) -> str:
    """A store with an account and a key; the key's id."""
    run("accounts", "create", "ann", "--credits", "1")
    key_id: str = json.loads(run("keys", "create", "--account", "ann", "--json").stdout)["id"]
    return key_id


def test_a_store_is_moved_by_its_backup_and_its_secret(run: Run, tmp_path: Path) -> None:
    """Where the secret is is told; with it beside, keys and money are as they were."""
    key_id = prepared(run)
    file = tmp_path / "copy.db"
    made = run("backup", str(file))
    assert (made.exit_code, made.stdout) == (0, f"{file}: {file.stat().st_size} bytes\n")
    secret = tmp_path / "data" / "secret"
    assert f"The master secret is not in it. It is {secret}" in made.stderr
    (tmp_path / "other").mkdir()
    shutil.copy2(secret, tmp_path / "other" / "secret")
    (tmp_path / "data").rename(tmp_path / "gone")
    (tmp_path / "other").rename(tmp_path / "data")
    restored = run("restore", str(file), "--json")
    assert restored.exit_code == 0
    assert json.loads(restored.stdout) == {
        "file": str(file),
        "database": str(tmp_path / "data" / "farebox.db"),
        "accounts": 1,
        "leases_returned": 0,
    }
    assert [key["id"] for key in json.loads(run("keys", "list", "--json").stdout)] == [key_id]
    assert run("audit", "--full").exit_code == 0


def test_without_its_secret_nothing_is_restored(run: Run, tmp_path: Path) -> None:
    """Exit code 2 for none, 5 for another, and a sentence that says what to do."""
    prepared(run)
    file = tmp_path / "copy.db"
    run("backup", str(file))
    (tmp_path / "data").rename(tmp_path / "gone")
    none = run("restore", str(file))
    assert (none.exit_code, none.stdout) == (2, "")
    assert "is missing" in none.stderr
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "secret").write_bytes(bytes(32))
    (tmp_path / "data" / "secret").chmod(0o600)
    other = run("restore", str(file))
    assert (other.exit_code, other.stdout) == (5, "")
    assert "is not the one that the backup" in other.stderr


def test_what_is_there_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    """Neither a file by a backup nor a store by a restore: exit code 5."""
    prepared(run)
    file = tmp_path / "copy.db"
    assert run("backup", str(file), "--json").exit_code == 0
    assert run("backup", str(file)).exit_code == 5
    assert run("restore", str(file)).exit_code == 5
    assert run("restore", str(tmp_path / "no.db")).exit_code == 3

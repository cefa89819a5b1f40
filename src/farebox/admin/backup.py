"""Backup and restore as an operator asks for them: which file, which store, and whose secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farebox.admin.secret import fingerprint, load_secret, secret_path
from farebox.core.settings import Settings
from farebox.errors import NotFound
from farebox.store import Store, open_store
from farebox.store.backup import backup_fingerprint
from farebox.store.errors import StoreConflict


def backup(store: Store, settings: Settings, path: Path) -> dict[str, Any]:
    """Write the store into a new file, beside whoever uses it. The secret is not in it.

    Raises StoreConflict if there is such a file, StoreError if it cannot be written.
    """
    store.back_up(path.absolute())
    return {
        "file": str(path.absolute()),
        "bytes": path.stat().st_size,
        "secret_file": str(secret_path(settings).absolute()),
    }


def restore(settings: Settings, path: Path) -> dict[str, Any]:
    """Fill the store of the settings, which must be empty or missing, with a backup.

    The secret that belongs to it must be in its place before: without it no key of the backup would
    be valid. Raises NotFound, SecretError, StoreConflict, StoreError.
    """
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    known = backup_fingerprint(path)
    if known is not None and fingerprint(load_secret(settings, create=False)) != known:
        raise StoreConflict(
            f"The master secret {secret_path(settings)} is not the one that the backup {path} was "
            "made with, and nothing was restored. Put the secret that belongs to it there, or name "
            "it in FAREBOX_SECRET_FILE."
        )
    store = open_store(settings.database, settings.data_dir)
    try:
        restored = store.restore(path)
        return {
            "file": str(path.absolute()),
            "database": store.shown,
            "accounts": restored.accounts,
            "leases_returned": restored.leases,
        }
    finally:
        store.close()

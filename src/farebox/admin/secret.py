"""The master secret: its file, its fingerprint in the store, and the keys derived from it."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Protocol

from farebox.core.settings import Settings

SECRET_BYTES = 32
_PEPPER_LABEL = b"farebox key pepper v1"
_SEAL_LABEL = b"farebox seal v1"
_FINGERPRINT_LABEL = b"farebox secret fingerprint v1"


class SecretError(Exception):
    """The secret's file cannot be used; the message is a sentence for the operator."""


class SecretStore(Protocol):
    """What is wanted of the store."""

    @property
    def secret_fingerprint(self) -> str | None: ...
    def check_secret(self, fingerprint: str) -> None:
        """Keep the first fingerprint, raise StoreConflict for another."""
        ...


def secret_path(settings: Settings) -> Path:
    """Where the secret is: the setting, or DATA_DIR/secret."""
    return settings.secret_file or settings.data_dir / "secret"


def load_secret(settings: Settings, *, create: bool) -> bytes:
    """The 32 bytes of the master secret, made if it is missing and `create`. Raises SecretError.

    The file holds the bytes themselves or 64 hex digits, and only its owner may read it.
    """
    path = secret_path(settings)
    try:
        if create and not path.exists():
            _create(path)
        return _read(path)
    except FileNotFoundError:
        raise SecretError(
            f"The master secret {path} is missing. Put back the file that belongs to the store, "
            "or name it in FAREBOX_SECRET_FILE: without it no API key can be told from another."
        ) from None
    except OSError as error:
        raise SecretError(
            f"The master secret {path} cannot be used: {error.strerror}. Check its permissions, "
            "or name another file in FAREBOX_SECRET_FILE."
        ) from None


def unlock(settings: Settings, store: SecretStore) -> bytes:
    """The master secret that belongs to the store; made only for a store that has seen none.

    Raises SecretError, and StoreConflict when the secret is another store's.
    """
    known = store.secret_fingerprint
    master = load_secret(settings, create=known is None)
    if known != (shown := fingerprint(master)):
        store.check_secret(shown)
    return master


def key_pepper(master: bytes) -> bytes:
    """What API keys are hashed with (core.ids.key_digest): 32 bytes."""
    return hkdf(master, _PEPPER_LABEL)


def seal_key(master: bytes) -> bytes:
    """What texts that clients keep for us are sealed with (dialects.seal): 32 bytes."""
    return hkdf(master, _SEAL_LABEL)


def fingerprint(master: bytes) -> str:
    """What the store may know of the secret: 32 hex digits that tell nothing of it."""
    return hkdf(master, _FINGERPRINT_LABEL, 16).hex()


def hkdf(master: bytes, label: bytes, length: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869) without salt; `label` is its info, `length` at most 8160 bytes."""
    extracted = hmac.digest(bytes(32), master, "sha256")
    derived = block = b""
    counter = 0
    while len(derived) < length:
        counter += 1
        block = hmac.digest(extracted, block + label + bytes([counter]), "sha256")
        derived += block
    return derived[:length]


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written whole under another name, then linked: of two processes that start together one
    # wins, and nobody ever reads half a secret.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(SECRET_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _read(path: Path) -> bytes:
    # Without O_NONBLOCK a start would wait for ever at a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        data = os.read(handle, 1024) if stat.S_ISREG(mode) else b""
    finally:
        os.close(handle)
    if not stat.S_ISREG(mode):
        raise SecretError(f"The master secret {path} is not a file.")
    if mode & 0o077:
        raise SecretError(
            f"The master secret {path} can be read by others (mode {stat.S_IMODE(mode):04o}). "
            f"Run: chmod 600 {path}"
        )
    if len(data) == SECRET_BYTES:
        return data
    try:
        decoded = bytes.fromhex(data.decode("ascii").strip())
    except ValueError:
        decoded = b""
    if len(decoded) != SECRET_BYTES:
        raise SecretError(
            f"The master secret {path} must be {SECRET_BYTES} bytes or {2 * SECRET_BYTES} hex "
            "digits. Put back the file that belongs to the store."
        )
    return decoded

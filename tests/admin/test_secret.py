"""The master secret: made once, kept private, and never mistaken for another."""

import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from farebox.admin.secret import SecretError, fingerprint, hkdf, key_pepper, load_secret, unlock
from farebox.core.settings import Settings
from farebox.store import Store, StoreConflict


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data folder is the test's."""
    return Settings(data_dir=tmp_path, database=f"sqlite:///{tmp_path}/farebox.db")


def test_hkdf_gives_the_published_answer() -> None:
    """RFC 5869, test case 3: SHA-256, no salt, no info."""
    derived = hkdf(b"\x0b" * 22, b"", 42)
    assert derived.hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_a_secret_is_made_once_and_private(settings: Settings) -> None:
    """32 bytes that only the owner may read; the second time they are read, not made."""
    secret = load_secret(settings, create=True)
    path = settings.data_dir / "secret"
    assert (len(secret), path.read_bytes()) == (32, secret)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secret(settings, create=True) == load_secret(settings, create=False) == secret
    assert list(settings.data_dir.iterdir()) == [path]  # and nothing is left of its making


def test_starts_at_the_same_time_get_the_same_secret(settings: Settings) -> None:
    """Of several that find none, one makes it and all read that one."""
    start = threading.Barrier(8)

    def load(_: int) -> bytes:
        start.wait()
        return load_secret(settings, create=True)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(load, range(8)))) == 1


def test_a_secret_may_be_written_as_hex(tmp_path: Path) -> None:
    """64 hex digits and a newline, as `openssl rand -hex 32` prints them, are the same 32 bytes."""
    path = tmp_path / "given"
    path.write_text("ab" * 32 + "\n")
    path.chmod(0o400)
    settings = Settings(data_dir=tmp_path, database="", secret_file=path)
    assert load_secret(settings, create=False) == b"\xab" * 32


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        (b"x" * 32, 0o640, r"can be read by others \(mode 0640\)\. Run: chmod 600"),
        (b"x" * 32, 0o604, "can be read by others"),
        (b"x" * 31, 0o600, "must be 32 bytes or 64 hex digits"),
        (b"", 0o600, "must be 32 bytes or 64 hex digits"),
        (b"zz" * 32, 0o600, "must be 32 bytes or 64 hex digits"),
        (b"\xff" * 64, 0o600, "must be 32 bytes or 64 hex digits"),
    ],
)
def test_a_secret_that_is_none_is_refused(
    settings: Settings, content: bytes, mode: int, sentence: str
) -> None:
    """Readable by others, too short, not hex: a sentence that does not repeat it."""
    path = settings.data_dir / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(SecretError, match=sentence) as caught:
        load_secret(settings, create=True)
    assert "xxx" not in str(caught.value)


def test_a_missing_secret_is_named(settings: Settings) -> None:
    """Without leave to make one, its absence is an error that says where it should be."""
    with pytest.raises(SecretError, match=r"secret is missing\. Put back"):
        load_secret(settings, create=False)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(settings: Settings, make: Callable[[Path], None]) -> None:
    """A folder or a pipe in its place ends in a sentence, and nobody waits at the pipe."""
    make(settings.data_dir / "secret")
    with pytest.raises(SecretError, match=r"secret is not a file\."):
        load_secret(settings, create=True)


def test_a_link_is_followed_and_what_it_leads_to_is_judged(
    settings: Settings, tmp_path: Path
) -> None:
    """Orchestrators mount secrets as links; a target that others may read is refused all the
    same, and a link that leads nowhere is no reason to make a secret there.
    """
    target, link = tmp_path / "elsewhere", settings.data_dir / "secret"
    link.symlink_to(target)
    with pytest.raises(SecretError, match="is missing"):
        load_secret(settings, create=True)
    assert not target.exists()
    target.write_bytes(b"s" * 32)
    target.chmod(0o644)
    with pytest.raises(SecretError, match="can be read by others"):
        load_secret(settings, create=True)
    target.chmod(0o600)
    assert load_secret(settings, create=True) == b"s" * 32


def test_a_store_knows_its_secret(settings: Settings, store: Store) -> None:
    """The first secret is remembered by its fingerprint, and another is a conflict."""
    secret = unlock(settings, store)
    assert store.secret_fingerprint == fingerprint(secret)
    assert unlock(settings, store) == secret
    (settings.data_dir / "secret").write_bytes(b"x" * 32)
    with pytest.raises(StoreConflict, match="not the one"):
        unlock(settings, store)


def test_a_lost_secret_is_not_replaced(settings: Settings, store: Store) -> None:
    """A store that has seen a secret gets no new one, since no key would fit it."""
    unlock(settings, store)
    (settings.data_dir / "secret").unlink()
    with pytest.raises(SecretError, match="is missing"):
        unlock(settings, store)
    assert not (settings.data_dir / "secret").exists()


def test_what_is_derived_differs_by_purpose() -> None:
    """Pepper and fingerprint of one secret have nothing in common."""
    secret = b"s" * 32
    assert key_pepper(secret) != secret
    assert len(key_pepper(secret)) == 32
    assert not key_pepper(secret).hex().startswith(fingerprint(secret))

"""Sealed texts that a client keeps for us: only we can read them, only their account may use them.

A blob is `fb1.` and base64url (without padding) of a nonce and the AES-256-GCM ciphertext of the
deflated text; the account and the purpose are its associated data. Sources: RFC 5116 (AEAD),
NIST SP 800-38D.
"""

from __future__ import annotations

import base64
import binascii
import os
import zlib
from collections.abc import Callable
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "fb1."
_NONCE_BYTES = 12
_MAX_TEXT_BYTES = 64 * 1024 * 1024  # as large as a body: more was never sealed

Purpose = Literal["reasoning", "compaction"]


class Foreign(ValueError):
    """A blob that begins like ours and does not open for this account and purpose."""


def is_ours(blob: str) -> bool:
    """Whether a text has the form of a blob of ours."""
    return blob.startswith(PREFIX)


class Seal:
    """Seals and opens with one 32-byte key. Chance is given: `random_bytes(n)`."""

    def __init__(self, key: bytes, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._aead = AESGCM(key)
        self._random_bytes = random_bytes

    def seal(self, account_id: int, purpose: Purpose, text: str) -> str:
        """The blob of a text, for the account to keep."""
        nonce = self._random_bytes(_NONCE_BYTES)
        deflated = zlib.compress(text.encode("utf-8", "surrogatepass"), 1)
        sealed = self._aead.encrypt(nonce, deflated, _bound_to(account_id, purpose))
        return PREFIX + base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()

    def open(self, account_id: int, purpose: Purpose, blob: str) -> str:
        """The text of a blob. Raises Foreign."""
        try:
            data = blob.removeprefix(PREFIX).encode("ascii")
            raw = base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
            deflated = self._aead.decrypt(
                raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound_to(account_id, purpose)
            )
        except (ValueError, binascii.Error, InvalidTag) as error:
            raise Foreign("not sealed for this account") from error
        # What opens was sealed here, so its size is one that was sent before.
        text = zlib.decompressobj().decompress(deflated, _MAX_TEXT_BYTES)
        return text.decode("utf-8", "surrogatepass")


def _bound_to(account_id: int, purpose: Purpose) -> bytes:
    return f"farebox {purpose} {account_id}".encode()

"""Who calls: a key's digest looked up in memory, with the store asked for unknown ones.

Making, revoking and listing keys is admin's; this only reads. An unknown, revoked or expired key
and a disabled account get the same answer, so that nothing can be learned by trying.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

from farebox.core import clock
from farebox.core.account import Account, Caller, Key
from farebox.core.ids import is_key, key_digest
from farebox.errors import BillingUnavailable, Unauthorized
from farebox.telemetry.record import get_record

# A key that was made elsewhere is accepted at once, so an unknown one is looked up in the store;
# this bounds how often the same wrong key costs a look-up.
_MISS_LIFE_S = 1.0
_MISSES_KEPT = 10_000
_LOOKUPS_AT_ONCE = 4  # more would only queue for the store, in front of everybody else's reads
_CALLERS_KEPT = 10_000
_SHOWN_BYTES = 256  # longer headers than these are not kept: they have more than a key in them


class Changes(Protocol):
    """Accounts and keys that changed after a revision, as they are at this one."""

    @property
    def revision(self) -> int: ...
    @property
    def accounts(self) -> Iterable[Account]: ...
    @property
    def keys(self) -> Iterable[Key]: ...


class KeyStore(Protocol):
    """Where keys live. Both methods block and may be called from any thread."""

    def find_key(self, digest: bytes) -> tuple[Account, Key] | None:
        """The key of that digest and its account, whatever their state; None if there is none."""
        ...

    def changed_since(self, revision: int) -> Changes:
        """What a directory that is at `revision` has to learn; 0 gives everything."""
        ...


class Directory:
    """All accounts and keys in memory. Belongs to one event loop."""

    def __init__(self, store: KeyStore, pepper: bytes) -> None:
        self._store = store
        self._pepper = pepper
        self._accounts: dict[int, Account] = {}
        self._keys: dict[bytes, Key] = {}
        self._misses: dict[bytes, float] = {}  # digest -> until when it is believed, monotonic
        # Who was found by these two headers. Forgotten whenever anything changes, so that it is
        # never more than a quicker way to the same answer.
        self._callers: dict[tuple[bytes, bytes], Caller] = {}
        self._lookups = asyncio.Semaphore(_LOOKUPS_AT_ONCE)
        self._reloading = asyncio.Lock()
        self._revision = 0
        self.loaded = False

    async def reload(self) -> None:
        """Read what changed since the last time: everything, the first time."""
        async with self._reloading:
            changes = await asyncio.to_thread(self._store.changed_since, self._revision)
            self._callers.clear()
            for account in changes.accounts:
                self._accounts[account.id] = account
            for key in changes.keys:
                self._keys[key.digest] = key
                self._misses.pop(key.digest, None)
            self._revision = changes.revision
            self.loaded = True

    async def authenticate(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Who a request with these headers speaks for. Raises Unauthorized, BillingUnavailable."""
        shown = headers.get(b"authorization", b""), headers.get(b"x-api-key", b"")
        return self.known(shown) or _checked(await self._find(*shown))

    def known(self, shown: tuple[bytes, bytes]) -> Caller | None:
        """As authenticate(), by the values of these two headers, if nothing has to be looked up or
        waited for; else None. Raises Unauthorized.
        """
        caller = self._callers.get(shown)
        if caller is None:
            return None
        key = caller.key
        # Most keys never end, and then the time does not matter.
        if key.expires_us is not None or key.revoked_us is not None:
            return _checked(caller)
        record = get_record()
        if record is not None:  # as in _checked(), but without a call of it for each request
            record.account, record.key = caller.account.name, key.id
        return caller

    async def _find(self, authorization: bytes, api_key: bytes) -> Caller:
        digest = key_digest(self._pepper, _shown_key(authorization, api_key))
        key = self._keys.get(digest)
        if key is None:
            key = await self._look_up(digest)
        account = self._accounts.get(key.account_id) if key is not None else None
        if key is None or account is None or account.disabled:
            raise _refused()
        caller = Caller(account, key)
        if len(authorization) + len(api_key) <= _SHOWN_BYTES:
            if len(self._callers) >= _CALLERS_KEPT:
                self._callers.clear()
            self._callers[authorization, api_key] = caller
        return caller

    async def _look_up(self, digest: bytes) -> Key | None:
        async with self._lookups:
            if digest in self._keys:  # somebody else asked while this call waited
                return self._keys[digest]
            if self._misses.get(digest, 0.0) > clock.monotonic_s():
                return None
            try:
                found = await asyncio.to_thread(self._store.find_key, digest)
            except Exception as error:
                raise BillingUnavailable(
                    "The API key cannot be checked right now. Try again in a few seconds."
                ) from error
        if found is None:
            self._remember_miss(digest)
            return None
        account, key = found
        # A reload that ran meanwhile has read later than this look-up: what it brought stays.
        self._accounts.setdefault(account.id, account)
        return self._keys.setdefault(digest, key)

    def _remember_miss(self, digest: bytes) -> None:
        if len(self._misses) >= _MISSES_KEPT:
            self._misses.clear()
        self._misses[digest] = clock.monotonic_s() + _MISS_LIFE_S


def _checked(caller: Caller) -> Caller:
    """A caller whose key is valid now, noted for the access line. Raises Unauthorized."""
    key = caller.key
    if not key.is_valid(clock.now_us()):
        raise _refused()
    record = get_record()
    if record is not None:
        record.account, record.key = caller.account.name, key.id
    return caller


def _shown_key(authorization: bytes, api_key: bytes) -> str:
    """The key in these headers, which has at least the form of one. Raises Unauthorized.

    Programs that were set up for another service send both headers, with a key of ours in one.
    """
    scheme, _, token = authorization.partition(b" ")
    is_bearer = scheme.lower() == b"bearer"
    for shown in (token if is_bearer else b"", api_key):
        key_text = shown.strip().decode("latin-1")
        if is_key(key_text):
            return key_text
    if api_key or is_bearer:
        raise _refused()
    problem = (
        "The Authorization header is not one with an API key."
        if authorization
        else "You didn't provide an API key."
    )
    raise Unauthorized(
        f"{problem} Send it as 'Authorization: Bearer YOUR_KEY' or as 'x-api-key: YOUR_KEY'; your "
        "key begins with 'sk-fb-'."
    )


def _refused() -> Unauthorized:
    # Not even the last characters of what was sent are repeated: it may be another service's key.
    return Unauthorized(
        "The API key is not valid here: it is unknown, revoked or expired. "
        "Ask the operator of this gateway for a new one."
    )

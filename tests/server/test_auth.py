"""The directory: who a key speaks for, from memory and from the store behind it."""

import asyncio
import threading
from dataclasses import dataclass, field, replace

import pytest

from farebox.core import clock
from farebox.core.account import Account, Caller, Key
from farebox.core.ids import key_digest, new_key
from farebox.errors import BillingUnavailable, FareboxError, Unauthorized
from farebox.server.auth import Directory

pytestmark = pytest.mark.anyio

PEPPER = b"pepper"
SECRET = new_key()
ALICE = Account(1, "alice", "default", None)
KEY = Key("key_1", 1, key_digest(PEPPER, SECRET))
HEADER = b"Bearer " + SECRET.encode()


@dataclass
class Changes:
    revision: int
    accounts: list[Account]
    keys: list[Key]


@dataclass
class FakeStore:
    """Keys in a list; it counts look-ups, and can be made to fail or to wait."""

    accounts: list[Account] = field(default_factory=lambda: [ALICE])
    keys: list[Key] = field(default_factory=list)
    look_ups: int = 0
    broken: bool = False
    waiting: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event | None = None

    def find_key(self, digest: bytes) -> tuple[Account, Key] | None:
        self.look_ups += 1
        if self.broken:
            raise OSError("disk on fire")
        found = next(((self.accounts[0], key) for key in self.keys if key.digest == digest), None)
        if self.go_on is not None:
            self.waiting.set()
            self.go_on.wait(5)
        return found

    def changed_since(self, revision: int) -> Changes:
        return Changes(revision + 1, self.accounts, self.keys)


def showing(header: bytes) -> dict[bytes, bytes]:
    return {b"authorization": header}


async def refusal(directory: Directory, header: bytes) -> FareboxError:
    with pytest.raises(FareboxError) as caught:
        await directory.authenticate(showing(header))
    return caught.value


async def test_a_loaded_key_is_found_without_the_store():
    """Authentication of a known key asks nobody."""
    store = FakeStore(keys=[KEY])
    directory = Directory(store, PEPPER)
    assert not directory.loaded
    await directory.reload()
    assert directory.loaded
    assert await directory.authenticate(showing(HEADER)) == Caller(ALICE, KEY)
    header = b"bearer  " + SECRET.encode()
    assert await directory.authenticate(showing(header)) == Caller(ALICE, KEY)
    assert store.look_ups == 0


async def test_a_key_made_elsewhere_works_at_once():
    """An unknown key is looked up in the store, once, and known from then on."""
    store = FakeStore()
    directory = Directory(store, PEPPER)
    await directory.reload()
    store.keys.append(KEY)
    assert await directory.authenticate(showing(HEADER)) == Caller(ALICE, KEY)
    assert await directory.authenticate(showing(HEADER)) == Caller(ALICE, KEY)
    assert store.look_ups == 1


async def test_a_wrong_key_is_looked_up_once_in_a_while():
    """The same wrong key, tried again and again, does not become a load on the store."""
    store = FakeStore()
    directory = Directory(store, PEPPER)
    for _ in range(50):
        await refusal(directory, HEADER)
    assert store.look_ups == 1


async def test_a_reload_forgets_that_a_key_was_unknown():
    """A key that was tried too early is accepted as soon as a reload brings it."""
    store = FakeStore()
    directory = Directory(store, PEPPER)
    assert isinstance(await refusal(directory, HEADER), Unauthorized)
    store.keys.append(KEY)
    await directory.reload()
    assert await directory.authenticate(showing(HEADER)) == Caller(ALICE, KEY)


@pytest.mark.parametrize(
    ("accounts", "keys", "header"),
    [
        ([ALICE], [], HEADER),
        ([ALICE], [replace(KEY, revoked_us=1)], HEADER),
        ([ALICE], [replace(KEY, expires_us=1)], HEADER),
        ([replace(ALICE, disabled=True)], [KEY], HEADER),
        ([], [KEY], HEADER),
        ([ALICE], [KEY], b"Bearer sk-someone-elses-key"),
        ([ALICE], [KEY], HEADER[:-1] + b"!"),
        ([ALICE], [KEY], b"Bearer " + b"\xff" * 55),
        ([ALICE], [KEY], b"Bearer "),
    ],
    ids=[
        "unknown",
        "revoked",
        "expired",
        "disabled",
        "orphan",
        "foreign",
        "typo",
        "bytes",
        "empty",
    ],
)
async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(accounts, keys, header):
    """Nothing can be learned of a key by trying it, and the answer does not repeat it."""
    directory = Directory(FakeStore(accounts, keys), PEPPER)
    await directory.reload()
    error = await refusal(directory, header)
    expected = await refusal(Directory(FakeStore(), PEPPER), HEADER)
    assert (error.status, error.code, error.message) == (401, "invalid_api_key", expected.message)


@pytest.mark.parametrize("headers", [{}, {b"authorization": b""}, {b"x-api-key": b""}])
async def test_a_missing_key_says_how_to_send_one(headers):
    """Without a header the sentence begins as OpenAI's does, and names both ways."""
    with pytest.raises(Unauthorized) as caught:
        await Directory(FakeStore(), PEPPER).authenticate(headers)
    error = caught.value
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert error.message.startswith("You didn't provide an API key")
    assert "'Authorization: Bearer YOUR_KEY' or as 'x-api-key: YOUR_KEY'" in error.message


async def test_only_the_bearer_scheme_is_read():
    """A key in another scheme is refused with the sentence that says which one to use."""
    error = await refusal(Directory(FakeStore(), PEPPER), b"Basic " + SECRET.encode())
    assert error.status == 401
    assert "Bearer" in error.message


BOB = Account(2, "bob", "default", None)
BOBS_SECRET = new_key()
BOBS_KEY = Key("key_2", 2, key_digest(PEPPER, BOBS_SECRET))
FOREIGN = b"sk-ant-of-another-service"


@pytest.mark.parametrize(
    ("authorization", "api_key", "account"),
    [
        (b"", BOBS_SECRET.encode(), BOB),
        (b"", b" " + BOBS_SECRET.encode(), BOB),
        (HEADER, b"", ALICE),
        (HEADER, FOREIGN, ALICE),
        (b"Bearer " + FOREIGN, BOBS_SECRET.encode(), BOB),
        (b"Basic " + FOREIGN, BOBS_SECRET.encode(), BOB),
        (HEADER, BOBS_SECRET.encode(), ALICE),
    ],
    ids=["own", "space", "bearer", "foreign", "foreign_bearer", "foreign_basic", "both"],
)
async def test_of_two_keys_the_one_that_looks_like_ours_counts(authorization, api_key, account):
    """`x-api-key` does as well; beside it, the Authorization header is looked at first."""
    directory = Directory(FakeStore([ALICE, BOB], [KEY, BOBS_KEY]), PEPPER)
    await directory.reload()
    headers = {b"authorization": authorization, b"x-api-key": api_key}
    assert (await directory.authenticate(headers)).account == account


@pytest.mark.parametrize("authorization", [b"", b"Bearer " + FOREIGN, b"Basic " + FOREIGN])
async def test_a_wrong_key_is_refused_wherever_it_stands(authorization):
    """With the sentence that every wrong key gets."""
    directory = Directory(FakeStore(), PEPPER)
    expected = await refusal(directory, HEADER)
    with pytest.raises(Unauthorized) as caught:
        await directory.authenticate({b"authorization": authorization, b"x-api-key": FOREIGN})
    assert caught.value.message == expected.message


async def test_a_key_is_valid_until_its_revocation_time():
    """A key that was rolled with an overlap works until the overlap ends."""
    store = FakeStore(keys=[replace(KEY, revoked_us=clock.now_us() + 150_000)])
    directory = Directory(store, PEPPER)
    await directory.reload()
    await directory.authenticate(showing(HEADER))
    await asyncio.sleep(0.2)
    assert (await refusal(directory, HEADER)).status == 401


async def test_a_reload_brings_a_revocation():
    """A key revoked elsewhere is refused after the next reload."""
    store = FakeStore(keys=[KEY])
    directory = Directory(store, PEPPER)
    await directory.reload()
    store.keys[:] = [replace(KEY, revoked_us=1)]
    await directory.reload()
    assert (await refusal(directory, HEADER)).status == 401


@pytest.mark.parametrize(
    ("account", "key"),
    [(ALICE, replace(KEY, revoked_us=1)), (replace(ALICE, disabled=True), KEY)],
    ids=["revoked", "disabled"],
)
async def test_who_was_known_is_refused_after_the_reload_that_says_so(account, key):
    """That a caller was found before gives no time beyond the next reload."""
    store = FakeStore(keys=[KEY])
    directory = Directory(store, PEPPER)
    await directory.reload()
    for _ in range(2):
        assert await directory.authenticate(showing(HEADER)) == Caller(ALICE, KEY)
    store.accounts[:], store.keys[:] = [account], [key]
    await directory.reload()
    for _ in range(2):
        assert (await refusal(directory, HEADER)).status == 401


async def test_a_known_caller_is_found_as_changed():
    """With another rate, say: what is believed of an account is never older than a reload."""
    store = FakeStore(keys=[KEY])
    directory = Directory(store, PEPPER)
    await directory.reload()
    await directory.authenticate(showing(HEADER))
    store.accounts[:] = [replace(ALICE, rate_ppm=2)]
    await directory.reload()
    assert (await directory.authenticate(showing(HEADER))).account.rate_ppm == 2


async def test_callers_are_known_by_no_more_than_two_short_headers():
    """Whoever has a key may not fill the memory with what else stands in its headers."""
    directory = Directory(FakeStore(keys=[KEY]), PEPPER)
    await directory.reload()
    for padding in (b"", b" " * 100_000):
        await directory.authenticate(showing(HEADER.replace(b" ", b" " + padding)))
    assert list(directory._callers) == [(HEADER, b"")]


async def test_a_slow_look_up_does_not_overrule_a_later_reload():
    """What a look-up read before a revocation is not believed after it."""
    store = FakeStore(keys=[KEY], go_on=threading.Event())
    directory = Directory(store, PEPPER)
    early = asyncio.create_task(refusal(directory, HEADER))
    await asyncio.to_thread(store.waiting.wait, 5)
    store.keys[:] = [replace(KEY, revoked_us=1)]
    await directory.reload()
    assert store.go_on is not None
    store.go_on.set()
    assert (await early).status == 401


async def test_an_unreadable_store_is_503_and_not_401():
    """A key that cannot be checked is not called wrong."""
    error = await refusal(Directory(FakeStore(broken=True), PEPPER), HEADER)
    assert isinstance(error, BillingUnavailable)
    assert error.status == 503

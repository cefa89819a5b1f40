"""Kept responses: whole, in chains, by items; deleted, expired; and whose they are."""

import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farebox.core.kept import MAX_CHAIN_LINKS, ChainTooLong, KeptItem, KeptResponse
from farebox.store import Store, background, packing, responses
from farebox.store.accounts import StoredAccount
from farebox.store.responses import MAX_REFERENCES

NOW_US = 1_000
OTHER = 2  # an account, made by `other`
EVERYTHING = 1 << 26

QUESTION = KeptItem("msg_q", b'{"id":"msg_q","role":"user"}')
PICTURE = KeptItem("msg_p", b'{"id":"msg_p","image_url":"data:"}')
ANSWER = KeptItem("msg_a", b'{"id":"msg_a","role":"assistant"}')
DONE = KeptResponse(
    id="resp_1",
    account_id=1,
    created_us=10,
    expires_us=2_000,
    status="completed",
    background=False,
    previous_id=None,
    input=(QUESTION, PICTURE),
    output=(ANSWER,),
    body=b'{"id":"resp_1"}',
    owner="",
)
QUEUED = replace(DONE, status="queued", background=True, output=(), owner="w0-a")


@pytest.fixture
def other(store: Store, account: StoredAccount) -> StoredAccount:
    """Somebody else, with the id 2."""
    return store.create_account("bob")


def chained(store: Store, count: int, expires_us: int = 2_000) -> list[KeptResponse]:
    """That many responses, each with an input and an output of its own, from `resp_0` on."""
    made = [
        replace(
            DONE,
            id=f"resp_{n}",
            created_us=n,
            expires_us=expires_us,
            previous_id=f"resp_{n - 1}" if n else None,
            input=(KeptItem(f"in_{n}", b"%05d" % n),),
            output=(KeptItem(f"out_{n}", b"%05d" % n),),
        )
        for n in range(count)
    ]
    for response in made:
        store.keep_response(response)
    return made


def rows_of(store: Store, *tables: str) -> dict[str, int]:
    """How many rows tables have, asked of the database itself."""
    with store._reading() as connection:
        return {
            table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in tables
        }


@pytest.mark.parametrize("response", [DONE, QUEUED, replace(DONE, previous_id="resp_0")])
def test_a_response_comes_back_as_it_was_kept(
    store: Store, account: StoredAccount, response: KeptResponse
) -> None:
    """Items in their order, the body, and everything that is known of it."""
    store.keep_response(response)
    assert store.find_response("resp_1", 1, NOW_US) == response


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.sampled_from([b"", b"x", b"x\x9c", b"{"]),
    middle=st.binary(max_size=2_000),
    times=st.sampled_from([0, 1, 40]),
)
def test_any_data_comes_back_byte_by_byte(
    store: Store, account: StoredAccount, start: bytes, middle: bytes, times: int
) -> None:
    """Short or long, repetitive or random, and when it begins like something compressed."""
    data = start + middle * times
    response = replace(DONE, input=(KeptItem("i", data),), output=(), body=data)
    store.keep_response(response)
    assert store.find_response("resp_1", 1, NOW_US) == response


def test_text_is_kept_in_less_room_than_it_has(sqlite_store: Store) -> None:
    """A megabyte of the same words makes the file grow by far less."""
    sqlite_store.create_account("ann")
    text = b'{"text":"' + b"the same words again and " * 40_000 + b'"}'
    sqlite_store.keep_response(replace(DONE, input=(KeptItem("i", text),)))
    with closing(sqlite3.connect(sqlite_store.path)) as database:
        pages = database.execute("PRAGMA page_count").fetchone()[0]
    assert pages * 4096 < 300_000


def test_nothing_is_packed_while_others_wait_to_write(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one writer at a time, and the ledger is one: what is large is packed before."""
    sqlite_store.create_account("ann")
    sqlite_store.keep_response(QUEUED)
    packed: list[bytes] = []

    def pack(data: bytes) -> bytes:
        with closing(sqlite3.connect(sqlite_store.path, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")  # raises OperationalError if somebody writes
        packed.append(data)
        return packing.packed(data)

    monkeypatch.setattr(responses, "packed", pack)
    monkeypatch.setattr(background, "packed", pack)
    sqlite_store.append_events("resp_1", 1, [(0, b"event")], "in_progress", b"body")
    sqlite_store.keep_response(DONE, [(1, b"last")])
    assert {b"event", b"body", b"last", DONE.body} <= set(packed)


def test_a_response_is_replaced_by_what_became_of_it(store: Store, account: StoredAccount) -> None:
    """A queued response that has completed is one response, with the new items only."""
    store.keep_response(QUEUED)
    store.append_events("resp_1", 1, [(0, b"{}")], "in_progress")
    done = replace(QUEUED, status="completed", owner="", output=(ANSWER,), body=b'{"n":2}')
    store.keep_response(done)
    assert store.find_response("resp_1", 1, NOW_US) == done
    assert store.events_after("resp_1", 1, -1, 10) == ((0, b"{}"),)
    assert rows_of(store, "responses", "response_items") == {"responses": 1, "response_items": 3}


def test_no_account_can_replace_what_another_keeps(store: Store, other: StoredAccount) -> None:
    """That an id comes with two accounts is a defect, and leaves the first one's untouched."""
    store.keep_response(DONE)
    with pytest.raises(AssertionError, match="resp_1 is another account's"):
        store.keep_response(replace(DONE, account_id=OTHER, input=()))
    assert store.find_response("resp_1", 1, NOW_US) == DONE


def test_a_response_ends_with_its_time(store: Store, account: StoredAccount) -> None:
    """From `expires_us` on it is not there, whether it was dropped yet or not."""
    store.keep_response(DONE)
    assert store.find_response("resp_1", 1, 1_999) == DONE
    assert store.find_response("resp_1", 1, 2_000) is None
    assert store.find_items(["msg_q"], 1, 2_000) == {}
    assert store.delete_response("resp_1", 1, 2_000) is False
    assert store.request_cancel("resp_1", 1, 2_000) is None
    with pytest.raises(LookupError, match=r"^resp_1$"):
        store.response_chain("resp_1", 1, 2_000, EVERYTHING)


def test_what_is_anothers_is_like_what_is_not_there(store: Store, other: StoredAccount) -> None:
    """No method gives, changes or deletes a response of another account."""
    store.keep_response(QUEUED)
    store.append_events("resp_1", 1, [(0, b"{}")], "queued")
    assert store.find_response("resp_1", OTHER, NOW_US) is None
    assert store.find_items(["msg_q", "msg_p"], OTHER, NOW_US) == {}
    assert store.events_after("resp_1", OTHER, -1, 10) == ()
    assert store.request_cancel("resp_1", OTHER, NOW_US) is None
    assert store.delete_response("resp_1", OTHER, NOW_US) is False
    assert store.append_events("resp_1", OTHER, [(1, b"{}")], "failed", b"") is True
    with pytest.raises(LookupError, match=r"^resp_1$"):
        store.response_chain("resp_1", OTHER, NOW_US, EVERYTHING)
    store.keep_response(replace(DONE, id="resp_2", account_id=OTHER, previous_id="resp_1"))
    with pytest.raises(LookupError, match=r"^resp_1$"):
        store.response_chain("resp_2", OTHER, NOW_US, EVERYTHING)
    assert store.find_response("resp_1", 1, NOW_US) == QUEUED
    assert store.events_after("resp_1", 1, -1, 10) == ((0, b"{}"),)


def test_a_chain_is_told_from_its_beginning(store: Store, account: StoredAccount) -> None:
    """Oldest first, with all items and no bodies, and only up to the response that was named."""
    made = [replace(response, body=b"") for response in chained(store, 5)]
    assert store.response_chain("resp_3", 1, NOW_US, EVERYTHING) == tuple(made[:4])
    assert store.response_chain("resp_0", 1, NOW_US, EVERYTHING) == (made[0],)


def test_a_chain_may_branch(store: Store, account: StoredAccount) -> None:
    """Two answers to the same response are two chains, with one beginning."""
    chained(store, 2)
    store.keep_response(replace(DONE, id="resp_x", previous_id="resp_0"))
    for last in ("resp_1", "resp_x"):
        chain = store.response_chain(last, 1, NOW_US, EVERYTHING)
        assert [response.id for response in chain] == ["resp_0", last]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_chain_with_a_link_gone_names_it(store: Store, account: StoredAccount, gone: int) -> None:
    """A deleted response ends every chain through it: its items are not given any more."""
    chained(store, 3)
    assert store.delete_response(f"resp_{gone}", 1, NOW_US)
    with pytest.raises(LookupError, match=f"^resp_{gone}$"):
        store.response_chain("resp_2", 1, NOW_US, EVERYTHING)


def test_a_chain_has_a_size_limit(store: Store, account: StoredAccount) -> None:
    """Items of just `max_bytes` are given, one byte more is refused with a sentence."""
    chained(store, 3)
    assert len(store.response_chain("resp_2", 1, NOW_US, 30)) == 3
    with pytest.raises(ChainTooLong, match="'resp_2' is larger than 29 bytes"):
        store.response_chain("resp_2", 1, NOW_US, 29)


def test_a_chain_has_a_limit_of_links(store: Store, account: StoredAccount) -> None:
    """A thousand responses are given, the next one is refused; so is one that leads to itself."""
    chained(store, MAX_CHAIN_LINKS + 1)
    last = store.response_chain(f"resp_{MAX_CHAIN_LINKS - 1}", 1, NOW_US, EVERYTHING)
    assert [response.id for response in last] == [f"resp_{n}" for n in range(MAX_CHAIN_LINKS)]
    store.keep_response(replace(DONE, id="resp_self", previous_id="resp_self"))
    for response_id in (f"resp_{MAX_CHAIN_LINKS}", "resp_self"):
        with pytest.raises(ChainTooLong, match=f"'{response_id}' goes back over more than 1000"):
            store.response_chain(response_id, 1, NOW_US, EVERYTHING)


def test_items_are_found_in_inputs_and_outputs(store: Store, account: StoredAccount) -> None:
    """Each id once, in the order asked for; an unknown one is left out."""
    store.keep_response(DONE)
    found = store.find_items(["msg_a", "nope", "msg_q", "msg_a"], 1, NOW_US)
    assert list(found.items()) == [("msg_a", ANSWER), ("msg_q", QUESTION)]
    assert store.find_items([], 1, NOW_US) == {}


def test_of_items_with_one_id_the_last_is_found(store: Store, account: StoredAccount) -> None:
    """What was kept last, as long as it is there; then what was kept before it."""
    store.keep_response(DONE)
    later = KeptItem("msg_a", b'{"id":"msg_a","v":2}')
    store.keep_response(replace(DONE, id="resp_2", input=(later,), output=()))
    assert store.find_items(["msg_a"], 1, NOW_US) == {"msg_a": later}
    store.delete_response("resp_2", 1, NOW_US)
    assert store.find_items(["msg_a"], 1, NOW_US) == {"msg_a": ANSWER}


def test_references_have_limits(store: Store, account: StoredAccount) -> None:
    """Too many ids, or items that are too large together, are refused with a sentence."""
    store.keep_response(DONE)
    wanted = ["msg_q", "msg_a"]
    both_bytes = len(QUESTION.data) + len(ANSWER.data)
    assert len(store.find_items(wanted, 1, NOW_US, both_bytes)) == 2
    with pytest.raises(ChainTooLong, match=f"larger than {both_bytes - 1} bytes"):
        store.find_items(wanted, 1, NOW_US, both_bytes - 1)
    with pytest.raises(ChainTooLong, match="10001 items are referenced"):
        store.find_items([str(n) for n in range(MAX_REFERENCES + 1)], 1, NOW_US)


SECRETS = tuple(b"canary-%d-%s" % (n, b"z" * 20) for n in range(4))


def keep_secrets(store: Store, status: str) -> None:
    """A background response that has one of SECRETS in each of its parts."""
    kept = replace(
        QUEUED,
        input=(KeptItem("i", SECRETS[0] + b"-" * 9_000),),
        output=(KeptItem("o", SECRETS[1]),),
        body=SECRETS[2],
    )
    store.keep_response(kept)
    store.append_events("resp_1", 1, [(0, SECRETS[3])], status)


@pytest.mark.parametrize("status", ["completed", "in_progress"])
def test_what_is_deleted_is_found_nowhere(
    store: Store, account: StoredAccount, status: str
) -> None:
    """The response, its items and its events; deleting it again finds nothing."""
    keep_secrets(store, status)
    assert store.delete_response("resp_1", 1, NOW_US) is True
    assert store.find_response("resp_1", 1, NOW_US) is None
    assert store.find_items(["i", "o"], 1, NOW_US) == {}
    assert store.events_after("resp_1", 1, -1, 10) == ()
    assert store.delete_response("resp_1", 1, NOW_US) is False


@pytest.mark.parametrize("status", ["completed", "in_progress"])
def test_what_is_deleted_is_really_gone(sqlite_store: Store, status: str) -> None:
    """No byte of items, body or events is in the file afterwards, also if it ran just now."""
    sqlite_store.create_account("ann")
    keep_secrets(sqlite_store, status)
    assert found_in(sqlite_store, SECRETS[1:]) == [True] * 3
    assert sqlite_store.delete_response("resp_1", 1, NOW_US) is True
    assert found_in(sqlite_store, SECRETS) == [False] * 4


def test_nothing_of_what_was_deleted_stays_in_the_log_of_writes(sqlite_store: Store) -> None:
    """What is dropped takes with it what was deleted before, however quiet it is afterwards."""
    store = sqlite_store
    store.create_account("ann")
    log = store.path.with_name(store.path.name + "-wal")
    store.keep_response(replace(DONE, body=SECRETS[0]))
    assert store.delete_response("resp_1", 1, NOW_US) is True
    assert SECRETS[0] in log.read_bytes()
    store.keep_response(replace(DONE, body=SECRETS[1], expires_us=500))
    assert store.drop_expired_responses(NOW_US) == 1
    for file in store.path.parent.glob(store.path.name + "*"):
        assert not any(secret in file.read_bytes() for secret in SECRETS)
    with closing(sqlite3.connect(store.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM responses").fetchone()
        store.keep_response(DONE)
        assert store.drop_expired_responses(NOW_US) == 0  # not now, and nobody is kept waiting
    assert store.find_response("resp_1", 1, NOW_US) == DONE


def found_in(store: Store, secrets: Sequence[bytes]) -> list[bool]:
    """Which of these are in the file, once all that was written has reached it."""
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = store.path.read_bytes()
    return [secret in content for secret in secrets]


def test_expired_responses_are_dropped(store: Store, account: StoredAccount) -> None:
    """All that has expired goes, with items and events; the others stay; the count is told."""
    store.keep_response(replace(QUEUED, id="resp_old", expires_us=500))
    store.append_events("resp_old", 1, [(0, b"{}")], "completed")
    store.keep_response(DONE)
    assert store.drop_expired_responses(NOW_US) == 1
    assert rows_of(store, "responses", "response_items", "response_events") == {
        "responses": 1,
        "response_items": 3,
        "response_events": 0,
    }
    assert store.drop_expired_responses(NOW_US) == 0
    assert store.find_response("resp_1", 1, NOW_US) == DONE


def test_dropping_goes_no_further_than_it_is_asked(store: Store, account: StoredAccount) -> None:
    """At most `limit` in one go, those that expired first before the others."""
    for n in range(5):
        store.keep_response(replace(DONE, id=f"resp_{n}", expires_us=500 - n))
    assert store.drop_expired_responses(NOW_US, limit=2) == 2
    assert [n for n in range(5) if store.find_response(f"resp_{n}", 1, 1)] == [0, 1, 2]
    assert store.drop_expired_responses(NOW_US) == 3


def test_what_runs_is_not_dropped_under_its_owner(store: Store, account: StoredAccount) -> None:
    """An expired response that still runs is dropped when it has ended."""
    store.keep_response(replace(QUEUED, expires_us=500))
    assert store.drop_expired_responses(NOW_US) == 0
    assert store.append_events("resp_1", 1, [], "completed", b"{}") is False
    assert store.drop_expired_responses(NOW_US) == 1


def test_a_response_that_is_deleted_while_it_is_kept_again_stays_deleted(
    store: Store, account: StoredAccount
) -> None:
    """Whichever comes first of a client that deletes and a worker that writes what became of it."""
    store.keep_response(QUEUED)
    done = replace(QUEUED, status="in_progress", body=b"{}")
    with ThreadPoolExecutor(8) as threads:
        deleting = threads.submit(store.delete_response, "resp_1", 1, NOW_US)
        keeping = [threads.submit(store.keep_response, done) for _ in range(7)]
        for each in keeping:
            each.result()
        assert deleting.result() is True
    assert store.find_response("resp_1", 1, NOW_US) is None
    assert store.cancel_requested("resp_1") is True


def test_an_id_may_have_anything_in_it(store: Store, account: StoredAccount) -> None:
    """What a client makes up is found again or not found, zero bytes or not."""
    odd = KeptItem("msg_\0 é 夏", b"{}")
    assert store.find_response("resp_\0", 1, NOW_US) is None
    assert store.delete_response("resp_\0", 1, NOW_US) is False
    assert store.find_items([odd.id], 1, NOW_US) == {}
    store.keep_response(replace(DONE, input=(odd,)))
    assert store.find_items([odd.id], 1, NOW_US) == {odd.id: odd}
    with pytest.raises(LookupError):
        store.response_chain("resp_\0", 1, NOW_US, EVERYTHING)

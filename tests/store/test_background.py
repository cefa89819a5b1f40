"""Responses that run: events as they come, cancelling, deleting meanwhile, owners that end."""

from dataclasses import replace

import pytest

from farebox.core.kept import KeptResponse
from farebox.store import Store
from farebox.store.accounts import StoredAccount
from tests.store.test_responses import ANSWER, DONE, NOW_US, QUEUED, rows_of

EVENTS = tuple((n, b'{"sequence_number":%d}' % n) for n in range(5))


@pytest.fixture
def running(store: Store, account: StoredAccount) -> Store:
    """A store with `resp_1`, a queued background response of the worker w0-a."""
    store.keep_response(QUEUED)
    return store


def test_events_are_read_on_from_where_a_client_was(running: Store) -> None:
    """In the order of their numbers, after the one that is named, no more than asked for."""
    assert running.append_events("resp_1", 1, EVENTS[:2], "in_progress") is False
    assert running.append_events("resp_1", 1, EVENTS[2:], "in_progress") is False
    assert running.events_after("resp_1", 1, -1, 100) == EVENTS
    assert running.events_after("resp_1", 1, 1, 2) == EVENTS[2:4]
    assert running.events_after("resp_1", 1, 4, 100) == ()


def test_events_that_are_written_again_are_there_once(running: Store) -> None:
    """A flush that is repeated after an unclear failure changes nothing."""
    for _ in range(2):
        running.append_events("resp_1", 1, EVENTS[:2], "in_progress")
    assert running.events_after("resp_1", 1, -1, 100) == EVENTS[:2]


def test_status_and_body_come_with_the_events(running: Store) -> None:
    """The body stays when none is given; nobody owns a response that has ended."""
    running.append_events("resp_1", 1, EVENTS[:1], "in_progress")
    assert running.find_response("resp_1", 1, NOW_US) == replace(QUEUED, status="in_progress")
    running.append_events("resp_1", 1, EVENTS[1:], "failed", b'{"status":"failed"}')
    assert running.find_response("resp_1", 1, NOW_US) == replace(
        QUEUED, status="failed", body=b'{"status":"failed"}', owner=""
    )


def test_the_last_events_come_with_the_response_as_it_ended(running: Store) -> None:
    """Also when both are written again after an unclear failure."""
    running.append_events("resp_1", 1, EVENTS[:3], "in_progress")
    ended = replace(QUEUED, status="completed", output=(ANSWER,), owner="")
    for _ in range(2):
        running.keep_response(ended, EVENTS[3:])
        assert running.find_response("resp_1", 1, NOW_US) == ended
        assert running.events_after("resp_1", 1, -1, 100) == EVENTS


def test_one_that_was_deleted_keeps_no_last_event(running: Store) -> None:
    """Its end comes to nothing."""
    assert running.delete_response("resp_1", 1, NOW_US)
    running.keep_response(replace(QUEUED, status="completed", owner=""), EVENTS)
    assert running.events_after("resp_1", 1, -1, 100) == ()
    assert running.find_response("resp_1", 1, NOW_US) is None


def test_the_owner_learns_of_a_cancel_with_its_next_events(running: Store) -> None:
    """Asked for once, it is told with every flush, by the response, and when asked."""
    assert running.cancel_requested("resp_1") is False
    asked = running.request_cancel("resp_1", 1, NOW_US)
    assert asked == replace(QUEUED, cancel_requested=True)
    assert running.append_events("resp_1", 1, EVENTS[:1], "in_progress") is True
    assert running.cancel_requested("resp_1") is True


def test_a_cancel_is_not_lost_when_the_response_is_kept_anew(running: Store) -> None:
    """An owner that has not heard of it yet does not undo it."""
    running.request_cancel("resp_1", 1, NOW_US)
    running.keep_response(replace(QUEUED, status="in_progress"))
    assert running.cancel_requested("resp_1") is True


@pytest.mark.parametrize(
    "response", [replace(QUEUED, status="completed", owner=""), replace(QUEUED, background=False)]
)
def test_only_what_runs_in_the_background_can_be_cancelled(
    running: Store, response: KeptResponse
) -> None:
    """Of all others the response is told and nothing changed."""
    running.keep_response(response)
    assert running.request_cancel("resp_1", 1, NOW_US) == response
    assert running.cancel_requested("resp_1") is False


def test_an_unknown_response_cannot_be_cancelled(store: Store, account: StoredAccount) -> None:
    """There is nothing to tell; and whoever runs it is to end it."""
    assert store.request_cancel("resp_1", 1, NOW_US) is None
    assert store.cancel_requested("resp_1") is True


def test_what_was_deleted_while_it_ran_does_not_come_back(running: Store) -> None:
    """The owner hears a cancel; nothing that it writes is kept, and at its end the row goes."""
    running.delete_response("resp_1", 1, NOW_US)
    assert running.cancel_requested("resp_1") is True
    assert running.append_events("resp_1", 1, EVENTS, "in_progress", b"{}") is True
    running.keep_response(replace(QUEUED, status="in_progress", output=(ANSWER,)))
    assert running.drop_expired_responses(NOW_US) == 0
    assert running.find_response("resp_1", 1, NOW_US) is None
    assert rows_of(running, "responses", "response_items", "response_events") == {
        "responses": 1,
        "response_items": 0,
        "response_events": 0,
    }
    running.keep_response(replace(QUEUED, status="completed", output=(ANSWER,), owner=""))
    assert rows_of(running, "responses", "response_items") == {"responses": 0, "response_items": 0}


def test_the_last_events_of_what_was_deleted_end_it_too(running: Store) -> None:
    """An owner that writes its end as events leaves no row behind."""
    running.delete_response("resp_1", 1, NOW_US)
    assert running.append_events("resp_1", 1, EVENTS, "cancelled", b"{}") is True
    assert rows_of(running, "responses") == {"responses": 0}


def test_responses_of_a_dead_owner_have_failed(running: Store) -> None:
    """Those of others run on, those that had ended stay as they are, bodies are left."""
    going_on = replace(QUEUED, id="resp_2", status="in_progress", owner="w1-b")
    running.keep_response(going_on)
    running.keep_response(replace(DONE, id="resp_3"))
    assert running.fail_orphans("w0-a") == 1
    assert running.fail_orphans("w0-a") == 0
    assert running.find_response("resp_1", 1, NOW_US) == replace(QUEUED, status="failed", owner="")
    assert running.find_response("resp_2", 1, NOW_US) == going_on
    assert running.find_response("resp_3", 1, NOW_US) == replace(DONE, id="resp_3")


def test_at_a_start_all_that_ran_on_the_host_has_failed(running: Store) -> None:
    """A SQLite file is one host's, so everything; a PostgreSQL is shared, so what was its own."""
    for n, owner in ((2, "w1-b@own_1"), (3, "w1-b@own_12"), (4, "")):
        running.keep_response(replace(QUEUED, id=f"resp_{n}", status="in_progress", owner=owner))
    running.keep_response(replace(DONE, id="resp_5"))
    failed = ["in_progress", "failed", "in_progress", "in_progress", "completed"]
    if not running.is_postgresql:
        failed = ["failed"] * 4 + ["completed"]
    assert running.fail_all_orphans("own_1") == failed.count("failed")
    statuses = [running.find_response(f"resp_{n}", 1, NOW_US) for n in range(2, 6)]
    assert [found and found.status for found in statuses] == failed[1:]


def test_what_ran_on_a_host_that_was_lost_has_failed(postgres_store: Store) -> None:
    """Its clients are told by the next round of dropping; those of hosts that live go on."""
    postgres_store.create_account("ann")
    for owner in ("own_1", "own_2"):
        postgres_store.beat(owner, "host")
        response_id = f"resp_{owner[-1]}"
        postgres_store.keep_response(replace(QUEUED, id=response_id, owner=f"w0-a@{owner}"))
    with postgres_store._writing() as connection:
        connection.exec_driver_sql("UPDATE owners SET state = 'expired' WHERE id = 'own_1'")
    postgres_store.drop_expired_responses(NOW_US)
    lost, living = (postgres_store.find_response(f"resp_{n}", 1, NOW_US) for n in (1, 2))
    assert lost is not None
    assert living is not None
    assert (lost.status, living.status) == ("failed", QUEUED.status)


def test_what_was_deleted_and_lost_its_owner_is_dropped(running: Store) -> None:
    """Nobody will end it any more, so the next round of dropping takes the row."""
    running.delete_response("resp_1", 1, NOW_US)
    running.fail_orphans("w0-a")
    assert running.drop_expired_responses(NOW_US) == 1
    assert rows_of(running, "responses") == {"responses": 0}

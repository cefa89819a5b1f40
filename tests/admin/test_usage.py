"""The usage report: sums in the shape of the contract, over whole hours."""

import pytest

from farebox.admin import accounts
from farebox.admin.usage import usage
from farebox.core import clock
from farebox.core.usage import CLASSES
from farebox.errors import BadRequest
from farebox.store import Store
from tests import charging
from tests.settlements import settlement

HOUR_US = 3_600_000_000


def settle(store: Store, request_id: str, created_us: int, model: str = "m-1") -> None:
    """A call of 10 + 5 tokens for 7 nano-credits."""
    call = settlement(request_id=request_id, created_us=created_us, model=model, due_nanocredits=7)
    charging.settle(store, call)


def tokens(calls: int) -> dict[str, int]:
    return dict.fromkeys(CLASSES, 0) | {"uncached_input": 10 * calls, "output": 5 * calls}


def test_usage_is_reported_by_model_key_and_day(store: Store) -> None:
    """One row for each, and a total of them all."""
    accounts.create(store, "ann", credits="1")
    now_us = clock.now_us()
    settle(store, "req_1", now_us)
    settle(store, "req_2", now_us, "m-2")
    settle(store, "req_3", now_us - 8 * 24 * HOUR_US)
    sums = {"calls": 2, "tokens": tokens(2), "charge_nanocredits": 14, "absorbed_nanocredits": 0}
    one = {"calls": 1, "tokens": tokens(1), "charge_nanocredits": 7, "absorbed_nanocredits": 0}
    report = usage(store)
    assert report == {
        "since": clock.rfc3339((now_us - 7 * 24 * HOUR_US) // HOUR_US * HOUR_US),
        "until": report["until"],
        "rows": [{"model": "m-1", **one}, {"model": "m-2", **one}],
        "total": sums,
    }
    assert usage(store, "key")["rows"] == [{"key": "key_1", **sums}]
    assert usage(store, "day")["rows"] == [{"day": clock.rfc3339(now_us)[:10], **sums}]
    assert usage(store, "model", "9d")["total"]["calls"] == 3


def test_an_empty_report_is_zero(store: Store) -> None:
    """No calls: no rows, and a total with every class."""
    report = usage(store)
    assert report["rows"] == []
    assert report["total"] == {
        "calls": 0,
        "tokens": tokens(0),
        "charge_nanocredits": 0,
        "absorbed_nanocredits": 0,
    }


def test_the_beginning_is_that_of_an_hour(store: Store) -> None:
    """Roll-ups are by the hour, so the hour that `since` falls into is counted whole."""
    accounts.create(store, "ann", credits="1")
    settle(store, "req_1", 10 * HOUR_US)
    report = usage(store, "day", "1970-01-01T10:59:59Z")
    assert (report["since"], report["total"]["calls"]) == ("1970-01-01T10:00:00.000Z", 1)


@pytest.mark.parametrize(
    ("by", "since"),
    [("account", "7d"), ("", "7d"), ("model", "7"), ("model", "2999-01-01T00:00:00Z")],
)
def test_a_wrong_question_is_refused(store: Store, by: str, since: str) -> None:
    """An unknown grouping, no unit, the future: a sentence that names the option."""
    with pytest.raises(BadRequest, match=r"--by|--since"):
        usage(store, by, since)


def test_the_longest_span_reaches_the_beginning(store: Store) -> None:
    """A span that goes back before 1970 begins there."""
    assert usage(store, "day", "100w")["since"] > "2024"
    assert usage(store, "day", "1960-01-01T00:00:00Z")["since"] == "1970-01-01T00:00:00.000Z"

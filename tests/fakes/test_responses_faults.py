"""The faults of the fake's Responses API: each spoils what it says that it spoils."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import responses_faults
from tests.fakes.asking import HANGING, check_fault_ends
from tests.fakes.faults import FAULTS
from tests.fakes.responses_asking import events, post, request
from tests.fakes.upstream import FakeUpstream


@pytest.mark.parametrize("fault", sorted((FAULTS | responses_faults.FAULTS) - HANGING))
def test_every_fault_ends(fake_upstream: FakeUpstream, fault: str):
    """A fault spoils its own answer and no later one."""
    check_fault_ends(fake_upstream, fault, post, request)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("no-terminal", "response.output_item.done"),
        ("failed-at-once", "response.failed"),
        ("failed-mid-stream", "response.failed"),
        ("incomplete", "response.incomplete"),
        ("error-event", "error"),
        ("error-event-nested", "error"),
        ("error-first", "error"),
        ("no-usage", "response.completed"),
        ("bigline", "response.completed"),
    ],
)
def test_a_stream_of_a_fault_ends_with_its_event(
    fake_upstream: FakeUpstream, fault: str, kind: str
):
    """And its numbers have no gap."""
    found = events(fake_upstream, request("say: a b c d", model=fault))
    assert found[-1]["type"] == kind
    assert [e["sequence_number"] for e in found] == list(range(len(found)))
    usage = found[-1].get("response", {}).get("usage")
    assert (usage is None) == (
        fault in ("no-usage", "failed-at-once") or "response" not in found[-1]
    )


def test_the_same_answer_in_other_bytes(fake_upstream: FakeUpstream):
    """Line ends, pieces, comments and lines of data change how it is written, not what is said."""

    def told(fault: str) -> list[tuple[str, Any]]:
        _, raw = post(fake_upstream, request("say: a b", model=fault, stream=True))
        text = raw.decode().replace("\r\n", "\n").removeprefix("\ufeff")
        blocks = [block.split("\n") for block in text.split("\n\n")]
        data = ["".join(x[5:] for x in block if x.startswith("data:")) for block in blocks]
        read = [json.loads(d) for d in data if d and d.strip() != "[DONE]"]
        return [(event["type"], event.get("delta")) for event in read]

    expected = told("plain")
    for fault in (
        "crlf",
        "bytewise",
        "comments",
        "multiline",
        "no-event-lines",
        "with-done",
        "nospace",
        "bom",
        "slow-first-event",
    ):
        assert told(fault) == expected, fault


def test_every_fault_of_its_own_is_described():
    """The list in the module's docstring is what other tests are written from."""
    described = responses_faults.__doc__ or ""
    assert [name for name in sorted(responses_faults.FAULTS) if name not in described] == []


def test_hop_loop_keeps_the_path(fake_upstream: FakeUpstream):
    """A request to /responses is sent on to /responses."""
    with FakeUpstream() as other:
        fake_upstream.loop_to = other.base_url("openai")
        fake_upstream.loop_key = other.key("openai")
        assert post(fake_upstream, request(model="hop-loop"), "mimo")[0] == 200
        assert other.last.path.endswith("/v1/responses")

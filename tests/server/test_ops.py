"""/healthz, /readyz and /metrics."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from farebox.server.auth import Directory
from tests.server.test_chat import BODY, RAW_ANSWER
from tests.server.worker import JSON_HEAD, PEPPER, FakeKeys

pytestmark = pytest.mark.anyio


async def test_a_living_process_is_healthy_whatever_it_waits_for(worker):
    """/healthz says only that the process answers."""
    worker.reads.broken = True
    worker.state.draining = worker.state.ending = True
    answer = await worker.ask("GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"ok": True})


async def test_a_worker_is_ready_when_it_can_serve(worker):
    """Keys are loaded, the store can be read, and the gateway does not end. That this worker does
    is not asked for: another has its place.
    """
    worker.state.draining = True
    answer = await worker.ask("GET", "/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True})


@pytest.mark.parametrize(
    ("what", "reason"), [("broken", "store"), ("draining", "draining"), ("unloaded", "starting")]
)
async def test_a_worker_that_cannot_serve_says_why(worker, what, reason):
    """503 with one reason, and no detail of the store's."""
    worker.reads.broken = what == "broken"
    worker.state.ending = what == "draining"
    if what == "unloaded":
        worker.state.directory = Directory(FakeKeys(), PEPPER)
    answer = await worker.ask("GET", "/readyz")
    assert (answer.status, answer.json["ready"]) == (503, False)
    assert reason in answer.json["reason"]
    assert b"disk" not in answer.body


async def test_metrics_count_what_was_served(worker):
    """A call moves requests, calls, tokens and money; nothing of the caller is shown."""
    worker.will_answer(JSON_HEAD, RAW_ANSWER)
    assert (await worker.call(BODY)).status == 200
    await worker.ask("GET", "/v1/models/some-name-that-a-client-wrote", secret=worker.secret)
    answer = await worker.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    text = answer.body.decode()
    seen = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert seen["farebox_requests_total", "/v1/chat/completions", "2xx"] == 1
    assert seen["farebox_requests_total", "/v1/models/{id:path}", "4xx"] == 1
    assert seen["farebox_calls_total", "chat", "complete"] == 1
    assert seen["farebox_charge_nanocredits_total",] == 20_000
    assert seen["farebox_upstream_attempts_total", "c", "200"] == 1
    assert seen["farebox_requests_in_flight",] == 1  # this very one
    for word in ("some-name", worker.secret, "key_1", json.loads(BODY)["messages"][0]["content"]):
        assert word not in text

"""What /metrics shows of calls and requests, from one process and from several."""

import asyncio
import os
import subprocess
import sys

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from farebox.billing.jobs import Return, Undelivered
from farebox.core.call import Attempt
from farebox.core.ports import Settled
from farebox.core.usage import Usage
from farebox.telemetry.ledger import LedgerMetrics
from farebox.telemetry.metrics import Metrics
from farebox.telemetry.record import Record, current_record
from tests import settlements


def settlement(outcome="complete", **more):
    values = {"due_nanocredits": 42, "hold_nanocredits": 50, "ttft_ms": 40, "key_id": "key_secret"}
    return settlements.settlement(outcome=outcome, **(values | more))


def samples(text):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_a_call_is_counted():
    """A settled call moves calls, tokens, money, attempts and the time to its first event."""
    metrics = Metrics()
    attempts = (Attempt(1, "a", None, "connect", 5), Attempt(2, "c", 200, None, 9))
    metrics.call_finished(settlement(attempts=attempts), Settled(40, 2))
    metrics.call_finished(settlement("client_gone", flags=("estimated",)), Settled(1, 0))
    metrics.call_finished(settlement("refused", usage=Usage(), ttft_ms=None), Settled(0, 0))
    seen = samples(metrics.exposition())
    assert seen["farebox_calls_total", "chat", "complete"] == 1
    assert seen["farebox_calls_total", "chat", "client_gone"] == 1
    assert seen["farebox_tokens_total", "uncached_input"] == 20
    assert seen["farebox_tokens_total", "output"] == 10
    assert seen["farebox_tokens_total", "cache_read"] == 0
    assert seen["farebox_charge_nanocredits_total",] == 41
    assert seen["farebox_absorbed_nanocredits_total",] == 2
    assert seen["farebox_estimated_calls_total",] == 1
    assert seen["farebox_client_hangups_total",] == 1
    assert seen["farebox_holds_refused_total",] == 1
    assert seen["farebox_upstream_attempts_total", "a", "connect"] == 1
    assert seen["farebox_upstream_attempts_total", "c", "200"] == 1
    assert seen["farebox_ttft_seconds_count",] == 2


def test_many_calls_of_many_kinds_are_counted_at_once():
    """Each once, in every figure that it belongs to."""
    metrics = Metrics()
    tried = (Attempt(1, "c", None, "connect", 5),)
    for number in range(30):
        outcome = ("complete", "client_gone", "refused")[number % 3]
        flags = ((), ("estimated",), ("estimated", "over_hold"))[number // 3 % 3]
        attempts = tried if number % 2 else ()
        done = settlement(outcome, flags=flags, attempts=attempts, ttft_ms=number or None)
        metrics.call_finished(done, Settled(number, 1))
    seen = samples(metrics.exposition())
    for outcome in ("complete", "client_gone", "refused"):
        assert seen["farebox_calls_total", "chat", outcome] == 10
    assert seen["farebox_estimated_calls_total",] == 18
    assert seen["farebox_client_hangups_total",] == 10
    assert seen["farebox_holds_refused_total",] == 5
    assert seen["farebox_upstream_attempts_total", "c", "connect"] == 15
    assert seen["farebox_tokens_total", "uncached_input"] == 300
    assert seen["farebox_charge_nanocredits_total",] == sum(range(30))
    assert seen["farebox_absorbed_nanocredits_total",] == 30
    assert seen["farebox_ttft_seconds_count",] == 29


def test_of_a_call_only_what_is_counted_is_kept_until_then():
    """Its settlement is free at once, and nothing of many that are counted together is lost."""
    tried = (Attempt(1, "c", None, "connect", 5), Attempt(2, "c", 200, None, 9))
    done = [settlement(attempts=tried, ttft_ms=number or None) for number in range(20)]

    async def serve():
        metrics = Metrics()
        before = [sys.getrefcount(each) for each in done]
        for each in done:
            metrics.call_finished(each, Settled(40, 2))
        del each
        assert [sys.getrefcount(each) for each in done] == before
        return samples(metrics.exposition())

    seen = asyncio.run(serve())
    assert seen["farebox_calls_total", "chat", "complete"] == 20
    assert seen["farebox_tokens_total", "output"] == 100
    assert seen["farebox_upstream_attempts_total", "c", "connect"] == 20
    assert seen["farebox_upstream_attempts_total", "c", "200"] == 20
    assert seen["farebox_charge_nanocredits_total",] == 800
    assert seen["farebox_absorbed_nanocredits_total",] == 40
    assert seen["farebox_ttft_seconds_count",] == 19
    assert seen["farebox_ttft_seconds_sum",] == pytest.approx(0.19)


def test_a_request_is_counted():
    """Requests are counted by route and class of status, and while they are served."""
    metrics = Metrics()
    metrics.request_started()
    metrics.request_started()
    metrics.request_finished("/v1/models", 404, 0.01)
    assert samples(metrics.exposition())["farebox_requests_in_flight",] == 1
    metrics.request_finished("/v1/models", None, 3.0)
    seen = samples(metrics.exposition())
    assert seen["farebox_requests_total", "/v1/models", "4xx"] == 1
    assert seen["farebox_requests_total", "/v1/models", "gone"] == 1
    assert seen["farebox_requests_in_flight",] == 0
    assert seen["farebox_request_duration_seconds_count", "/v1/models"] == 2


def test_nothing_of_a_user_is_shown():
    """Neither the account nor the key of a call is a label."""
    metrics = Metrics()
    metrics.call_finished(settlement(), Settled(40, 2))
    text = metrics.exposition().decode()
    assert "key_secret" not in text
    assert "req_1" not in text
    assert "account" not in "".join(line for line in text.splitlines() if line[0] != "#")


def test_a_finished_call_is_remembered_for_its_access_line():
    """The record of the request being served learns what its call came to."""
    record = Record("req_1", "POST")
    token = current_record.set(record)
    try:
        Metrics().call_finished(settlement(), Settled(40, 2))
    finally:
        current_record.reset(token)
    assert record.call == (settlement(), Settled(40, 2))


WORKER = """
from farebox.telemetry.ledger import LedgerMetrics
from farebox.telemetry.metrics import Metrics
metrics = Metrics()
for _ in range(3):
    metrics.request_started()
metrics.request_finished("/v1/models", 200, 0.01)
print(metrics.exposition().decode())
"""


def test_several_processes_are_shown_as_one(tmp_path):
    """With a shared folder, any process shows the sum of all that ever counted there."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    shown = b""
    for _ in range(2):
        shown = subprocess.run(
            [sys.executable, "-c", WORKER], env=environ, check=True, capture_output=True
        ).stdout
    seen = samples(shown)
    assert seen["farebox_requests_total", "/v1/models", "2xx"] == 2
    assert seen["farebox_request_duration_seconds_count", "/v1/models"] == 2


SERVER = """
import asyncio, os, signal
from farebox.telemetry.metrics import Metrics
async def serve():
    metrics = Metrics()
    metrics.request_started()
    metrics.request_finished("/v1/models", 200, 3.0)
    await asyncio.sleep({runs_s})
    {ends}
asyncio.run(serve())
"""


@pytest.mark.parametrize(
    ("runs_s", "ends"),
    [
        pytest.param(0, "", id="at the end"),
        pytest.param(0.5, "os.kill(os.getpid(), signal.SIGKILL)", id="while it runs"),
    ],
)
def test_what_a_server_notes_is_counted(tmp_path, runs_s, ends):
    """Others see it a moment later, also of a process that has gone."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    program = SERVER.format(runs_s=runs_s, ends=ends)
    subprocess.run([sys.executable, "-c", program], env=environ, check=not ends)
    other = [sys.executable, "-c", WORKER.replace("range(3)", "range(0)")]
    seen = samples(subprocess.run(other, env=environ, check=True, capture_output=True).stdout)
    assert seen["farebox_requests_total", "/v1/models", "2xx"] == 2
    assert seen["farebox_request_duration_seconds_sum", "/v1/models"] == 3.01


def test_values_of_a_histogram_stand_in_their_buckets():
    """A value that is a bucket's bound belongs to it, and one above all bounds counts too."""
    metrics = Metrics()
    for duration_s in (0.005, 0.006, 0.02, 9999.0):
        metrics.request_finished("/v1/models", 200, duration_s)
    seen = samples(metrics.exposition())
    name, bounds = "farebox_request_duration_seconds_bucket", ("0.005", "0.02", "600.0", "+Inf")
    assert [seen[name, bound, "/v1/models"] for bound in bounds] == [1, 3, 3, 4]


def test_figures_have_their_room_before_the_disk_is_full(tmp_path):
    """The files are mapped into memory: a page without room on the disk would end the process."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    program = (
        "from farebox.telemetry.metrics import Metrics\n"
        "m = Metrics(); m.request_started(); m.request_finished('/v1/models', 200, 0.01)\n"
    )
    subprocess.run([sys.executable, "-c", program], env=environ, check=True)
    files = list(tmp_path.iterdir())
    assert sorted(file.name.rsplit("_", 1)[0] for file in files) == [
        "counter",
        "gauge_livesum",
        "histogram",
    ]
    for file in files:
        assert file.stat().st_blocks * 512 >= file.stat().st_size > 0


def test_the_ledger_process_has_figures_of_its_own():
    """Of its transactions, of who waits, and of what could not be written."""
    metrics = LedgerMetrics()
    metrics.committed([Return(1, 1, 5, close=True), Undelivered(("req_1",))], 0.003)
    metrics.committed([Undelivered(("req_2",))], 0.03)
    metrics.spooled(7)
    metrics.waiting(3)
    metrics.rejected(2)
    seen = samples(generate_latest(metrics.registry))
    assert {name: seen[name] for name in seen if "bucket" not in name[0]} == {
        ("farebox_ledger_batches_total",): 2,
        ("farebox_ledger_batch_size_count",): 2,
        ("farebox_ledger_batch_size_sum",): 3,
        ("farebox_ledger_commit_seconds_count",): 2,
        ("farebox_ledger_commit_seconds_sum",): 0.033,
        ("farebox_leases_returned_total",): 1,
        ("farebox_settle_rejected_total",): 2,
        ("farebox_spooled_calls",): 7,
        ("farebox_holds_waiting",): 3,
    }

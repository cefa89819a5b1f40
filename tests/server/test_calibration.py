"""Calls that are over are counted and held against what their upstream reported."""

import asyncio
import json

import pytest

from farebox.core.measured import Measured
from farebox.counting.client import ProcessCounter
from farebox.counting.factors import ENOUGH_CALLS, Factors
from farebox.routing.catalogue import Catalogue, Model, Route
from farebox.server.calibration import FIRST_CALLS, IN_USE_S, MOST_BYTES, Calibration
from farebox.server.count import Counting
from tests.counting.in_thread import InThread
from tests.server.asking import completion, stream_of
from tests.server.messaging import HEADERS
from tests.server.worker import CATALOGUE, JSON_HEAD, MODELS, PRICE, SSE_HEAD

pytestmark = pytest.mark.anyio

OPENAI = Model("openai-m", (Route("c", "gpt-4o"),), (PRICE,))
SAID = [{"role": "user", "content": "words of a user"}]
TOKENS = 3 + 1 + 4 + 3  # the message, its role, its words, the answer's beginning
REPORTED = 10
BODY = {"model": "openai-m", "messages": SAID}


class Measuring:
    """A worker that calibrates, and what it measured."""

    def __init__(self, worker, counter):
        self.worker = worker
        self.kept = []
        self.factors = Factors()
        self.counting = worker.state.counting = Counting(counter, self.factors)
        self.calibration = Calibration(
            self.counting, self.factors, lambda measured, _: self.kept.append(measured)
        )
        worker.state.gateway.sample = self.calibration.sample
        groups = CATALOGUE.groups.values()
        worker.state.gateway.catalogue = Catalogue.of(
            7,
            CATALOGUE.channels.values(),
            [*MODELS, OPENAI],
            [type(group)(group.id, group.rate_ppm) for group in groups],
        )

    async def count(self, model="openai-m"):
        """A client asks, so the counting process is in use."""
        answer = await self.post("/v1/messages/count_tokens", model=model, messages=SAID)
        assert answer.status == 200
        return answer.json["input_tokens"]

    async def call(self, path="/v1/chat/completions", answer=None, **body):
        """A call with its answer; then the time that a sample takes."""
        self.worker.will_answer(JSON_HEAD, answer or completion("Hello"))
        got = await self.post(path, **body)
        assert got.status == 200
        await self.settled()

    async def post(self, path, **body):
        data = json.dumps(body).encode()
        return await self.worker.ask("POST", path, HEADERS, data, self.worker.secret)

    async def settled(self):
        """Until nothing is being looked at."""
        while any("_measure" in repr(task.get_coro()) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.002)


@pytest.fixture
async def measuring(worker):
    measuring = Measuring(worker, InThread())
    yield measuring
    await measuring.calibration.aclose()


async def test_nothing_is_measured_while_nobody_counts(measuring):
    """Nor ten minutes after somebody did."""
    await measuring.call(**BODY)
    await measuring.count()
    measuring.counting.asked_s -= IN_USE_S
    await measuring.call(**BODY)
    assert measuring.kept == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", BODY),
        ("/v1/messages", {**BODY, "max_tokens": 9}),
        ("/v1/responses", {"model": "openai-m", "input": SAID}),
    ],
)
async def test_a_call_is_measured_when_it_is_over(measuring, path, body):
    """In whatever dialect: what was counted, what was reported, how far off an answer was."""
    await measuring.count()
    await measuring.call(path, **body)
    deviation_ppm = (TOKENS - REPORTED) * 1_000_000 // REPORTED
    assert measuring.kept == [
        Measured("openai-m", "o200k_base", True, TOKENS, REPORTED, deviation_ppm)
    ]


async def test_a_stream_is_measured_too(measuring):
    """After its end."""
    await measuring.count()
    measuring.worker.will_answer(SSE_HEAD, *stream_of("Hello"))
    got = await measuring.post("/v1/chat/completions", stream=True, **BODY)
    assert got.body.endswith(b"data: [DONE]\n\n")
    await measuring.settled()
    assert [each.reported for each in measuring.kept] == [REPORTED]


async def test_what_was_not_reported_is_not_measured(measuring):
    """Without usage, without an end, too large, without a count."""
    await measuring.count()
    without = json.loads(completion("Hello"))
    del without["usage"]
    await measuring.call(answer=json.dumps(without).encode(), **BODY)
    await measuring.call(**{**BODY, "messages": [{"role": "user", "content": "x" * MOST_BYTES}]})
    measuring.worker.will_answer(SSE_HEAD, *stream_of("Hello")[:-2])
    await measuring.post("/v1/chat/completions", stream=True, **BODY)
    await measuring.settled()
    assert measuring.kept == []


async def test_an_estimate_measures_nothing(worker):
    """It says nothing of a vocabulary."""
    measuring = Measuring(worker, ProcessCounter(None))
    await measuring.count()
    await measuring.call(**BODY)
    assert measuring.kept == []


async def test_the_first_calls_of_a_model_are_measured_and_then_few(measuring):
    """One in ten seconds; another model has its own first calls."""
    await measuring.count()
    for _ in range(FIRST_CALLS + 3):
        await measuring.call(**BODY)
    assert len(measuring.kept) == FIRST_CALLS
    await measuring.call(model="m", messages=SAID)
    assert [each.model for each in measuring.kept[FIRST_CALLS:]] == ["m"]


async def test_enough_measurements_change_what_is_answered(measuring):
    """Of a model whose vocabulary is not here: the default factor at first, then its own."""
    before = await measuring.count("m")
    assert before == round(TOKENS * 1.1)
    for _ in range(ENOUGH_CALLS):
        await measuring.call(model="m", messages=SAID)
    assert await measuring.count("m") == REPORTED
    first, last = measuring.kept[0], measuring.kept[-1]
    deviation_ppm = (before - REPORTED) * 1_000_000 // REPORTED
    assert first == Measured("m", "o200k_base", False, TOKENS, REPORTED, deviation_ppm)
    assert last.counted == TOKENS
    assert measuring.factors.ppm("openai-m", 7) == 7


async def test_a_store_that_fails_is_no_matter(measuring):
    """Neither to the call nor to the next sample."""

    def broken(measured, at_us):
        raise OSError("no such disk")

    measuring.calibration = Calibration(measuring.counting, measuring.factors, broken)
    measuring.worker.state.gateway.sample = measuring.calibration.sample
    await measuring.count()
    for _ in range(2):
        await measuring.call(**BODY)

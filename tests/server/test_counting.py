"""POST /v1/responses/input_tokens and /v1/messages/count_tokens: free, and as exact as can be."""

import asyncio
import json
import sqlite3
from contextlib import closing

import pytest

from farebox.core.channel import Channel
from farebox.counting.client import ProcessCounter
from farebox.counting.factors import ENOUGH_CALLS, Factors
from farebox.errors import OutOfCredit, TooManyRequests
from farebox.routing.catalogue import Catalogue, Model, Route
from farebox.server.allowance import Allowance
from farebox.server.count import Counting
from tests.counting.corpus import TEXTS
from tests.counting.in_thread import InThread, codec
from tests.counting.truth import deepseek_chat, openai_chat
from tests.server.asking import REQUEST, create, post
from tests.server.worker import CATALOGUE, MODELS, PRICE

pytestmark = pytest.mark.anyio

PATH = "/input_tokens"
BODY = {"messages": [{"role": "user", "content": "words of a user"}]}
NATIVE = Channel("n", "openai", "http://vendor.invalid/v1", "k", speaks=("responses",))
COUNTED = [
    Model("openai-m", (Route("c", "gpt-4o-2024-08-06"),), (PRICE,)),
    Model("deepseek-m", (Route("c", "deepseek-v4-flash"),), (PRICE,)),
    Model("glm-m", (Route("c", "glm-5.3"),), (PRICE,)),
    Model("native-m", (Route("n", "gpt-5"),), (PRICE,)),
]
TRUTH = {"openai-m": openai_chat, "deepseek-m": deepseek_chat}
NO_SYSTEM = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def counting(worker):
    """The worker, with models of known vocabularies and a counter."""
    use(worker, Factors())
    groups = CATALOGUE.groups.values()
    everything = [each for each in groups if each.id != "default"]
    default = CATALOGUE.groups["default"]
    offered = (*default.models, *(model.id for model in COUNTED))
    worker.state.gateway.catalogue = Catalogue.of(
        7,
        [*CATALOGUE.channels.values(), NATIVE],
        [*MODELS, *COUNTED],
        [*everything, type(default)(default.id, default.rate_ppm, offered)],
    )
    return worker


def use(worker, factors):
    worker.state.counting = Counting(InThread(), factors)


async def by_messages(worker, model, messages, **more):
    """Asked as Anthropic's SDK does."""
    system = [each["content"] for each in messages if each["role"] == "system"]
    body = {"model": model, "messages": [each for each in messages if each["role"] != "system"]}
    body |= {"system": system[0]} if system else {}
    return await ask(worker, **body, **more)


async def by_responses(worker, model, messages):
    """Asked as OpenAI's SDK does."""
    system = [each["content"] for each in messages if each["role"] == "system"]
    body = {"input": [each for each in messages if each["role"] != "system"]}
    body |= {"instructions": system[0]} if system else {}
    return await post(worker, PATH, model=model, **body)


async def ask(worker, secret=None, headers=None, **body):
    """POST /v1/messages/count_tokens."""
    return await worker.ask(
        "POST",
        "/v1/messages/count_tokens",
        headers,
        json.dumps(body).encode(),
        worker.secret if secret is None else secret,
    )


ROUTES = [by_messages, by_responses]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("model", TRUTH)
async def test_a_chat_is_counted_as_its_vocabulary_does(counting, model, route):
    """The very number that the libraries and the published frames give, in every language; what is
    promised is 2 %.
    """
    for text in TEXTS.values():
        messages = [
            {"role": "system", "content": f"Answer as briefly as you can. {text}"},
            {"role": "user", "content": text},
            {"role": "assistant", "content": f"{text}{text}"},
            {"role": "user", "content": text[: len(text) // 2]},
        ]
        for said in (messages, messages[1:], messages[3:]):
            answer = await route(counting, model, said)
            assert answer.status == 200
            assert "x-token-count" not in answer.headers
            assert answer.json["input_tokens"] == TRUTH[model](said)


async def test_the_two_routes_count_the_same(counting):
    """And answer in their own form."""
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": TEXTS["hindi"]}]
    for model in (*TRUTH, "glm-m", "m"):
        one = await by_messages(counting, model, messages)
        other = await by_responses(counting, model, messages)
        assert list(one.json) == ["input_tokens"]
        assert other.json == {"object": "response.input_tokens", **one.json}
        assert one.headers.get("x-token-count") == other.headers.get("x-token-count")


@pytest.mark.parametrize("route", ROUTES)
async def test_a_count_is_free(counting, route):
    """A hundred times, at balance 0, without a hold, a receipt, or a row of any kind."""
    counting.books.refuse = OutOfCredit("Nothing is left.")
    for _ in range(100):
        assert (await route(counting, "openai-m", NO_SYSTEM)).status == 200
    assert (counting.books.settlements, counting.upstream.requests) == ([], [])
    with closing(sqlite3.connect(counting.state.kept.path)) as database:
        for table in ("responses", "usage", "leases", "transfers", "calibration"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


async def test_a_model_without_a_vocabulary_has_a_factor(counting):
    """A stated one, and the measured one as soon as there are enough calls; both are estimates."""
    exact = (await by_messages(counting, "openai-m", NO_SYSTEM)).json["input_tokens"]
    answer = await by_messages(counting, "glm-m", NO_SYSTEM)
    assert answer.json["input_tokens"] == round(exact * 1.02)
    factors = Factors()
    factors.add("glm-m", ENOUGH_CALLS, 1000, 3000)
    use(counting, factors)
    answer = await by_messages(counting, "glm-m", NO_SYSTEM)
    assert answer.json["input_tokens"] == 3 * exact
    assert answer.headers["x-token-count"] == "estimated"


async def test_tools_images_and_thinking_make_an_estimate(counting):
    """They count, and the header says that their vendor may count them otherwise."""
    bare = (await by_messages(counting, "openai-m", NO_SYSTEM)).json["input_tokens"]
    tool = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    for more in (
        {"tools": [tool]},
        {"messages": [{"role": "user", "content": [image, {"type": "text", "text": "Hi"}]}]},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    ):
        answer = await ask(counting, **{"model": "openai-m", "messages": NO_SYSTEM, **more})
        assert answer.status == 200
        assert answer.json["input_tokens"] > bare
        assert answer.headers["x-token-count"] == "estimated"


async def test_without_a_counting_process_there_is_an_estimate(counting):
    """Never an error: by the kind of text, with the header."""
    counting.state.counting = Counting(ProcessCounter(None), Factors())
    for text, count in (("Hi", 8), ("word " * 100_000, 115_000)):
        for route in ROUTES:
            answer = await route(counting, "openai-m", [{"role": "user", "content": text}])
            assert answer.json["input_tokens"] == pytest.approx(count, rel=0.1)
            assert answer.headers["x-token-count"] == "estimated"


async def test_the_conversation_so_far_is_counted(counting):
    """What previous_response_id stands for counts too; an unknown one is 400."""
    made = await create(counting, "word " * 500, input="word " * 500)
    alone = (await post(counting, PATH, model="openai-m", input="Hi")).json["input_tokens"]
    body = {"model": "openai-m", "input": "Hi"}
    answer = await post(counting, PATH, **body, previous_response_id=made["id"])
    assert answer.json["input_tokens"] - alone == pytest.approx(1000, rel=0.02)
    answer = await post(counting, PATH, **REQUEST, previous_response_id="resp_none")
    assert (answer.status, answer.json["error"]["code"]) == (400, "previous_response_not_found")


async def test_a_count_keeps_the_rules_of_a_call(counting):
    """A stranger, an unknown model, another group's model, a body that is no request."""
    assert (await post(counting, PATH, secret="sk-fb-x", **REQUEST)).status == 401
    for model in ("nowhere", "secret-m"):
        answer = await post(counting, PATH, **{**REQUEST, "model": model})
        assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    assert (await post(counting, PATH, input="x")).status == 400
    assert (await post(counting, PATH, model="m", input=[{"type": "nonsense"}])).status == 400


async def test_a_count_of_messages_fails_in_their_form(counting):
    """With the sentence and the path that the call itself would get."""
    cases = [
        ({"secret": "sk-fb-x", "model": "m", **BODY}, 401, "authentication_error"),
        ({"model": "nowhere", **BODY}, 404, "not_found_error"),
        ({"model": "m"}, 400, "invalid_request_error"),
        ({"model": "m", "messages": []}, 400, "invalid_request_error"),
        ({"model": "m", "messages": [{"role": "user", "content": [{"type": "odd"}]}]}, 400, None),
    ]
    for body, status, kind in cases:
        answer = await ask(counting, **body)
        error = answer.json["error"]
        assert (answer.status, answer.json["type"]) == (status, "error")
        assert error["type"] == (kind or "invalid_request_error")
    result = {"type": "tool_result", "tool_use_id": "t", "content": "r"}
    answer = await ask(counting, model="m", messages=[{"role": "user", "content": [result]}])
    assert answer.status == 400
    assert "messages" in answer.json["error"]["message"]


async def test_what_only_some_upstream_understands_is_counted_loosely(counting):
    """A call that chat cannot say is no error where the model's upstream takes it as it is."""
    forced = {
        "input": "several words",
        "tools": [{"type": "web_search"}],
        "tool_choice": {"type": "web_search"},
    }
    answer = await post(counting, PATH, model="native-m", **forced)
    assert answer.status == 200
    assert 2 <= answer.json["input_tokens"] <= 20
    assert answer.headers["x-token-count"] == "estimated"
    assert (await post(counting, PATH, model="openai-m", **forced)).status == 400


async def test_half_a_megabyte_of_spaces_is_counted(counting):
    """As the library does."""
    said = [{"role": "user", "content": " " * 500_000 + "x"}]
    for model, truth in TRUTH.items():
        for route in ROUTES:
            answer = await route(counting, model, said)
            assert answer.json["input_tokens"] == truth(said)


async def test_more_text_than_a_model_takes_is_refused(counting):
    """413 with the limit; what cannot be counted in time is estimated."""
    said = [{"role": "user", "content": "x" * (8 * 1024 * 1024)}]
    for route in ROUTES:
        answer = await route(counting, "openai-m", said)
        assert answer.status == 413
        assert "8 MiB of text" in answer.json["error"]["message"]
    said = [{"role": "user", "content": "x" * 1_000_000}]
    answer = await by_messages(counting, "openai-m", said)
    assert (answer.status, answer.headers["x-token-count"]) == (200, "estimated")


async def test_images_are_no_text(counting):
    """However many bytes they have."""
    data = "A" * (9 * 1024 * 1024)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    answer = await ask(counting, model="openai-m", messages=[{"role": "user", "content": [image]}])
    assert answer.status == 200
    assert 700 < answer.json["input_tokens"] < 900


async def test_one_key_may_ask_so_often(counting):
    """On both routes together; more is 429 with Retry-After, and other keys may go on."""
    counting.state.allowance = Allowance(a_minute=3)
    bob = counting.keys.add("bob")
    await counting.state.directory.reload()
    statuses = [(await post(counting, PATH, **REQUEST)).status for _ in range(2)]
    statuses += [(await ask(counting, model="m", **BODY)).status for _ in range(2)]
    assert statuses == [200, 200, 200, 429]
    refused = await post(counting, PATH, **REQUEST)
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    refused = await ask(counting, model="m", **BODY)
    assert refused.json["error"]["type"] == "rate_limit_error"
    assert (await post(counting, PATH, secret=bob, **REQUEST)).status == 200


async def test_eighteen_at_once_are_answered(counting):
    """As Claude Code's /context asks."""
    answers = await asyncio.gather(
        *(ask(counting, model="openai-m", headers={"x-n": str(n)}, **BODY) for n in range(18))
    )
    assert {(each.status, each.json["input_tokens"]) for each in answers} == {(200, 11)}


def test_an_allowance_is_of_one_key():
    """So many at once for each."""
    allowance = Allowance(a_minute=2)
    for key in ("a", "b"):
        allowance.take(key)
        allowance.take(key)
        with pytest.raises(TooManyRequests):
            allowance.take(key)


async def test_depth_is_no_matter(counting):
    """As deep as a body may be: an answer or a refusal, no defect."""
    body = b'{"model":"m","input":[{"role":"user","content":' + b"[" * 400 + b"]" * 400 + b"}]}"
    answer = await counting.ask("POST", "/v1/responses/input_tokens", None, body, counting.secret)
    assert answer.status == 400


async def test_values_that_cannot_be_read_are_refused(counting):
    """Also where a model's upstream speaks no chat, which had the last word otherwise."""
    body = b'{"model":"native-m","messages":[{"role":"user","content":[{"a":1e999}]}]}'
    path = "/v1/messages/count_tokens"
    answer = await counting.ask("POST", path, None, body, counting.secret)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")


async def test_what_a_model_wrote_is_counted_by_its_vocabulary():
    """For calls whose upstream does not say: exactly where the vocabulary is known, else by the
    factor that is known of the model; nothing where nobody counts.
    """
    model = {each.id: each for each in COUNTED}
    texts = [*TEXTS.values(), "word " * 5000]
    tokens = sum(codec("o200k_base").tokens(text) for text in texts)
    counting = Counting(InThread(), Factors())
    assert await counting.text(model["openai-m"], texts) == tokens
    assert await counting.text(model["glm-m"], texts) == round(tokens * 1.02)
    assert await Counting(ProcessCounter(None), Factors()).text(model["openai-m"], texts) is None

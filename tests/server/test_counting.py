"""POST /v1/responses/input_tokens and the estimate behind it."""

import json
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.responses import parse
from farebox.errors import OutOfCredit, TooManyRequests
from farebox.server.counting import Allowance
from farebox.server.estimate import estimate, text_tokens
from tests.server.asking import REQUEST, create, post

pytestmark = pytest.mark.anyio

PATH = "/input_tokens"
ENGLISH = (
    "The quick brown fox jumps over the lazy dog, and nobody in the small village minded it very "
    "much. When the evening came, people sat in front of their houses and told each other stories."
)
CODE = (
    "def fibonacci(n: int) -> list[int]:\n    numbers = [0, 1]\n    while len(numbers) < n:\n"
    "        numbers.append(numbers[-1] + numbers[-2])\n    return numbers[:n]\n"
)
CHINESE = "今天天气很好，我们一起去公园散步，然后在湖边的小店里喝一杯茶。"
RUSSIAN = "Сегодня хорошая погода, и мы идём гулять в парк, а потом выпьем чаю у озера."
GERMAN = "Die Kinder spielten den ganzen Nachmittag am Flussufer und kamen erst abends nach Hause."


async def test_the_count_is_free(worker):
    """At balance 0, without a hold, a receipt, or a row of any kind; and it says what it is."""
    worker.books.refuse = OutOfCredit("Nothing is left.")
    for _ in range(100):
        answer = await post(worker, PATH, **REQUEST)
        assert answer.status == 200
    assert set(answer.json) == {"object", "input_tokens"}
    assert answer.json["object"] == "response.input_tokens"
    assert 5 <= answer.json["input_tokens"] <= 20
    assert answer.headers["x-token-count"] == "estimated"
    assert (worker.books.settlements, worker.upstream.requests) == ([], [])
    with closing(sqlite3.connect(worker.state.kept.path)) as database:
        assert database.execute("SELECT count(*) FROM responses").fetchone() == (0,)


async def test_the_conversation_so_far_is_counted(worker):
    """What previous_response_id stands for counts too; an unknown one is 400."""
    made = await create(worker, "word " * 500, input="word " * 500)
    alone = (await post(worker, PATH, model="m", input="Hi")).json["input_tokens"]
    answer = await post(worker, PATH, model="m", input="Hi", previous_response_id=made["id"])
    assert answer.json["input_tokens"] - alone == pytest.approx(1000, rel=0.3)
    answer = await post(worker, PATH, **REQUEST, previous_response_id="resp_none")
    assert (answer.status, answer.json["error"]["code"]) == (400, "previous_response_not_found")


async def test_a_count_keeps_the_rules_of_a_call(worker):
    """A stranger, an unknown model, another group's model, a body that is no request."""
    assert (await post(worker, PATH, secret="sk-fb-x", **REQUEST)).status == 401
    for model in ("nowhere", "secret-m"):
        answer = await post(worker, PATH, **{**REQUEST, "model": model})
        assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    assert (await post(worker, PATH, input="x")).status == 400


async def test_a_large_text_is_counted_beside_other_calls(worker):
    """Megabytes take a thread's time, not the loop's."""
    answer = await post(worker, PATH, model="m", input="word " * 600_000)
    assert answer.json["input_tokens"] == pytest.approx(600_000, rel=0.3)


async def test_one_key_may_ask_so_often(worker):
    """More is 429 with Retry-After; other keys may go on."""
    worker.state.counting = Allowance(a_minute=3)
    bob = worker.keys.add("bob")
    await worker.state.directory.reload()
    statuses = [(await post(worker, PATH, **REQUEST)).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = await post(worker, PATH, **REQUEST)
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    assert (await post(worker, PATH, secret=bob, **REQUEST)).status == 200


def test_an_allowance_is_of_one_key():
    """So many at once for each."""
    allowance = Allowance(a_minute=2)
    for key in ("a", "b"):
        allowance.take(key)
        allowance.take(key)
        with pytest.raises(TooManyRequests):
            allowance.take(key)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("hello world", 2, 3),
        (ENGLISH, 35, 50),
        (CODE, 45, 75),
        (CHINESE, 18, 30),
        (RUSSIAN, 18, 36),
        (GERMAN, 16, 26),
        ("1234567890", 4, 4),
        ("🙂🙂🙂", 3, 9),
        (" " * 1000, 0, 30),
    ],
)
def test_a_text_is_estimated_by_its_kind(text, least, most):
    """Within what vocabularies of today make of it."""
    assert least <= round(text_tokens(text)) <= most


def counted(**fields):
    return estimate(parse(json.dumps({"model": "m", **fields}).encode(), "req_1"))


def test_what_is_no_text_counts_by_table():
    """Images by detail, files by size, ids not at all; an image's base64 is no text."""
    url = "data:image/png;base64," + "A" * 100_000

    def image(**more):
        part = {"type": "input_image", "image_url": url, **more}
        return counted(input=[{"role": "user", "content": [part]}])

    assert image(detail="low") < image() < image(detail="original") < 4000
    file = {"type": "input_file", "filename": "a.pdf", "file_data": url}
    assert 3000 < counted(input=[{"role": "user", "content": [file]}]) < 6000
    message = {"role": "user", "content": "Hi"}
    assert counted(input=[message]) == counted(input=[{**message, "id": "msg_" + "1" * 90}])


def test_everything_that_a_model_reads_counts():
    """Instructions, tools, tool calls and their results, formats."""
    base = counted(input="Hi")
    words = "several words of a description " * 10
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": words}
    result = {"type": "function_call_output", "call_id": "c", "output": words}
    tool = {"type": "function", "name": "f", "description": words, "parameters": {}}
    for fields in (
        {"input": "Hi", "instructions": words},
        {"input": "Hi", "tools": [tool]},
        {"input": [{"role": "user", "content": "Hi"}, call]},
        {"input": [{"role": "user", "content": "Hi"}, result]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": words}]}]},
    ):
        assert counted(**fields) > base + 40


@given(st.text(max_size=300))
def test_any_text_has_an_estimate(text):
    """Never negative, and not far above two tokens a character."""
    assert 0 <= text_tokens(text) <= 2 * len(text) + 1


def test_depth_is_no_matter():
    """As deep as a body may be."""
    body = b'{"model":"m","input":[{"role":"user","content":' + b"[" * 400 + b"]" * 400 + b"}]}"
    assert estimate(parse(body, "req_1")) > 0

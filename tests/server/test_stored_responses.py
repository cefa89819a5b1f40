"""GET, DELETE and cancel of /v1/responses/{id}, and its input_items."""

import pytest

from tests.server.asking import CANARY, create, get, stored

pytestmark = pytest.mark.anyio


async def test_another_accounts_response_is_as_unknown(worker):
    """Every route that takes an id answers the same, byte for byte but for the id."""
    bob = worker.keys.add("bob")
    await worker.state.directory.reload()
    made = (await create(worker, secret=bob))["id"]
    for method, path in (
        ("GET", ""),
        ("GET", "?stream=true&starting_after=3"),
        ("GET", "/input_items?limit=5"),
        ("DELETE", ""),
        ("POST", "/cancel"),
    ):
        others = await get(worker, made + path, method=method)
        unknown = await get(worker, "resp_none" + path, method=method)
        assert others.status == unknown.status == 404
        assert others.body == unknown.body.replace(b"resp_none", made.encode())
        same = ("content-type", "cache-control")
        assert [others.headers.get(h) for h in same] == [unknown.headers.get(h) for h in same]
    assert (await get(worker, made, bob)).status == 200
    assert unknown.json["error"] == {
        "message": "Response with id 'resp_none' not found.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


async def test_a_response_is_deleted_with_all_of_its_content(worker):
    """As OpenAI answers; then it is unknown, and nothing of it is left in the store."""
    response = await create(worker, f"{CANARY} out", input=f"{CANARY} in")
    assert CANARY.encode() in stored(worker)
    answer = await get(worker, response["id"], method="DELETE")
    assert answer.json == {"id": response["id"], "object": "response", "deleted": True}
    assert (await get(worker, response["id"])).status == 404
    assert (await get(worker, response["id"], method="DELETE")).status == 404
    assert CANARY.encode() not in stored(worker)


async def test_input_items_are_listed_in_pages(worker):
    """Newest first unless told otherwise; each has an id, a type and content in parts."""
    items = [{"role": "user", "content": f"{n}"} for n in range(3)]
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "done"}
    made = await create(worker, input=[*items, call, output])
    base = made["id"] + "/input_items"
    everything = (await get(worker, base + "?order=asc&include[]=x")).json
    assert (everything["object"], everything["has_more"]) == ("list", False)
    assert [item["type"] for item in everything["data"]] == ["message"] * 3 + [
        "function_call",
        "function_call_output",
    ]
    assert everything["data"][0]["content"] == [{"type": "input_text", "text": "0"}]
    ids = [item["id"] for item in everything["data"]]
    assert (everything["first_id"], everything["last_id"]) == (ids[0], ids[-1])
    assert len(set(ids)) == 5
    page = (await get(worker, base + "?limit=2")).json
    assert [item["id"] for item in page["data"]] == ids[:2:-1]
    assert page["has_more"] is True
    page = (await get(worker, f"{base}?limit=3&after={page['last_id']}")).json
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (ids[2::-1], False)
    empty = (await get(worker, f"{base}?after={ids[0]}")).json
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)


async def test_an_id_that_was_sent_twice_is_one_place_in_the_list(worker):
    """The second item gets another, or who reads on from it would go round for ever."""
    items = [{"role": "user", "content": f"{n}", "id": "xyx"[n]} for n in range(3)]
    made = await create(worker, input=[*items, {"role": "user", "content": "3"}])
    base = made["id"] + "/input_items?order=asc&limit=1"
    page = (await get(worker, base)).json
    texts = [page["data"][0]["content"][0]["text"]]
    while page["has_more"] and len(texts) < 9:
        page = (await get(worker, f"{base}&after={page['last_id']}")).json
        texts.append(page["data"][0]["content"][0]["text"])
    assert texts == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "limit=-1", "order=up", "after=none", "limit=%D9%A3"],
)
async def test_a_bad_query_of_input_items_is_400(worker, query):
    """With the parameter's name."""
    made = await create(worker)
    answer = await get(worker, f"{made['id']}/input_items?{query}")
    assert answer.status == 400
    assert answer.json["error"]["param"] == query.partition("=")[0]


async def test_only_background_responses_are_streamed_again_or_cancelled(worker):
    """400 for one that was answered at once."""
    made = await create(worker)
    for answer in (
        await get(worker, made["id"] + "?stream=true"),
        await get(worker, made["id"] + "/cancel", method="POST"),
    ):
        assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
        assert "background=true" in answer.json["error"]["message"]

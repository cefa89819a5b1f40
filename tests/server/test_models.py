"""GET /v1/models and /v1/models/{id}."""

from dataclasses import replace

import anthropic
import pytest

from farebox.billing.prices import price_object
from farebox.routing.catalogue import Catalogue
from tests.server.worker import MODELS, PRICE

pytestmark = pytest.mark.anyio

MIMO = {
    "id": "xiaomi/mimo-v2.6-pro",
    "object": "model",
    "created": 1_700_000_000,
    "owned_by": "farebox",
    "aliases": ["mimo-pro"],
    "price": price_object(PRICE),
    "context": None,
    "max_output": None,
}


async def listed(worker, secret):
    answer = await worker.ask("GET", "/v1/models", secret=secret)
    assert (answer.status, answer.json["object"]) == (200, "list")
    return [item["id"] for item in answer.json["data"]]


async def test_the_list_is_what_the_caller_may_use(worker):
    """Group and key decide, and what has no price is not listed."""
    wide = worker.keys.add("bob", "all")
    narrow = worker.keys.add("carol", "all", ("MIMO*",))
    lost = worker.keys.add("dave", "a group that is gone")
    await worker.state.directory.reload()
    assert await listed(worker, worker.secret) == ["m", "xiaomi/mimo-v2.6-pro"]
    assert await listed(worker, wide) == ["m", "xiaomi/mimo-v2.6-pro", "secret-m"]
    assert await listed(worker, narrow) == ["xiaomi/mimo-v2.6-pro"]
    assert await listed(worker, lost) == []


async def test_an_item_carries_the_price_that_is_charged(worker):
    """OpenAI's fields, and beside them the price object, the context and the longest answer."""
    answer = await worker.ask("GET", "/v1/models", secret=worker.secret)
    first, second = answer.json["data"]
    assert second == MIMO
    assert (first["id"], first["context"], first["max_output"]) == ("m", 8000, 100)


async def test_codex_reads_the_same_list(worker):
    """Each model has the fields that Codex's ModelInfo requires, and is declared plain tools."""
    answer = await worker.ask("GET", "/v1/models?client_version=0.169.0", secret=worker.secret)
    models = answer.json["models"]
    assert [model["slug"] for model in models] == [item["id"] for item in answer.json["data"]]
    first = models[0]
    assert set(first) >= {
        "slug",
        "display_name",
        "supported_reasoning_levels",
        "shell_type",
        "visibility",
        "supported_in_api",
        "priority",
        "base_instructions",
        "support_verbosity",
        "truncation_policy",
        "experimental_supported_tools",
        "input_modalities",
    }
    assert (first["context_window"], first["apply_patch_tool_type"]) == (8000, "freeform")
    assert (first["use_responses_lite"], first["tool_mode"]) == (False, None)
    assert [model["priority"] for model in models] == [0, 1]
    assert all(
        set(level) == {"effort", "description"} for level in first["supported_reasoning_levels"]
    )
    assert models[1]["context_window"] == 128_000


@pytest.mark.parametrize(
    "name",
    ["xiaomi/mimo-v2.6-pro", "xiaomi%2Fmimo-v2.6-pro", "Xiaomi/MiMo-v2.6-Pro", "MIMO-pro"],
)
async def test_one_model_is_found_by_any_of_its_names(worker, name):
    """Slashes may be escaped, case does not count, aliases resolve."""
    answer = await worker.ask("GET", f"/v1/models/{name}", secret=worker.secret)
    assert (answer.status, answer.json) == (200, MIMO)


@pytest.mark.parametrize("name", ["mimo-prx", "secret-m", "free-by-mistake", "a/b/c", "%00"])
async def test_what_is_not_offered_does_not_exist(worker, name):
    """Unknown, unpriced and other groups' models: the same 404."""
    answer = await worker.ask("GET", f"/v1/models/{name}", secret=worker.secret)
    error = answer.json["error"]
    assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert ("mimo-pro" in error["message"]) == (name == "mimo-prx")


async def test_the_models_of_a_new_catalogue_are_listed_at_once(worker):
    """The catalogue is read when it is asked for."""
    worker.state.gateway.catalogue = type(worker.state.gateway.catalogue).of(
        8, [], [], worker.state.gateway.catalogue.groups.values()
    )
    assert await listed(worker, worker.secret) == []


VERSION = {"anthropic-version": "2023-06-01"}
ANTHROPICS_M = {
    "type": "model",
    "id": "m",
    "display_name": "m",
    "created_at": "2023-11-14T22:13:20.000Z",
    "lifecycle": "active",
    "max_input_tokens": 8000,
    "max_tokens": 100,
    "capabilities": None,
    "aliases": [],
    "price": price_object(PRICE),
}


async def anthropics(worker, path="", secret=None):
    secret = secret or worker.secret
    return await worker.ask("GET", "/v1/models" + path, VERSION, secret=secret)


def offer(worker, count):
    """A catalogue of so many models, m0, m1 and so on, for everybody."""
    catalogue = worker.state.gateway.catalogue
    worker.state.gateway.catalogue = Catalogue.of(
        8,
        catalogue.channels.values(),
        [replace(MODELS[0], id=f"m{number}") for number in range(count)],
        [replace(group, models=("*",)) for group in catalogue.groups.values()],
    )


async def test_a_client_of_anthropics_gets_its_form(worker):
    """The header that they all send tells; items have the price and aliases beside the rest."""
    answer = await anthropics(worker)
    assert answer.json == {
        "data": [ANTHROPICS_M, (await anthropics(worker, "/mimo-pro")).json],
        "has_more": False,
        "first_id": "m",
        "last_id": "xiaomi/mimo-v2.6-pro",
    }
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert (await anthropics(worker, "/M")).json == ANTHROPICS_M


@pytest.mark.parametrize(
    ("query", "shown", "has_more"),
    [
        ("", range(20), True),
        ("limit=1000", range(25), False),
        ("limit=5", range(5), True),
        ("limit=25", range(25), False),
        ("after_id=m4&limit=5", range(5, 10), True),
        ("after_id=m4", range(5, 25), False),
        ("after_id=m24", (), False),
        ("before_id=m10&limit=5", range(5, 10), True),
        ("before_id=m10&limit=10", range(10), False),
        ("before_id=m0", (), False),
    ],
)
async def test_a_page_begins_where_it_is_told(worker, query, shown, has_more):
    """Twenty from the first, unless told otherwise; `has_more` speaks of the way that is gone."""
    offer(worker, 25)
    page = (await anthropics(worker, "?" + query)).json
    ids = [f"m{number}" for number in shown]
    assert [each["id"] for each in page["data"]] == ids
    ends = (ids[0], ids[-1]) if ids else (None, None)
    assert (page["has_more"], page["first_id"], page["last_id"]) == (has_more, *ends)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "'limit' must be a whole number from 1 to 1000, not '0'."),
        ("limit=1001", "'limit' must be a whole number from 1 to 1000, not '1001'."),
        ("limit=many", "'limit' must be a whole number from 1 to 1000, not 'many'."),
        ("after_id=x", "'after_id' names no model of this list: 'x'."),
        ("before_id=secret-m", "'before_id' names no model of this list: 'secret-m'."),
        ("after_id=m&before_id=m", "Send 'after_id' or 'before_id', not both."),
    ],
)
async def test_a_query_that_makes_no_sense_is_400(worker, query, message):
    """Named with what is wrong; a model of another group's is one that is not there."""
    answer = await anthropics(worker, "?" + query)
    assert (answer.status, answer.json["type"]) == (400, "error")
    assert answer.json["error"] == {"type": "invalid_request_error", "message": message}


async def test_errors_of_models_have_the_form_of_who_asks(worker):
    """Anthropic's for the header, OpenAI's without it."""
    answer = await anthropics(worker, "/mimo-prx")
    assert (answer.status, answer.json["error"]["type"]) == (404, "not_found_error")
    assert answer.json["request_id"] == answer.headers["request-id"]
    answer = await anthropics(worker, secret="sk-fb-wrong")
    assert (answer.status, answer.json["error"]["type"]) == (401, "authentication_error")
    answer = await worker.ask("GET", "/v1/models/mimo-prx", secret=worker.secret)
    assert answer.json["error"]["code"] == "model_not_found"
    assert "request-id" not in answer.headers


async def test_anthropics_client_lists_and_finds(worker):
    """The SDK goes through the pages to the end, and finds a model whose id has a slash."""
    async with anthropic.AsyncAnthropic(
        base_url=worker.origin, api_key=worker.secret, max_retries=0
    ) as client:
        found = await client.models.retrieve("xiaomi/mimo-v2.6-pro")
        assert (found.id, found.lifecycle) == ("xiaomi/mimo-v2.6-pro", "active")
        assert found.created_at.year == 2023
        offer(worker, 45)
        assert [each.id async for each in client.models.list()] == [f"m{n}" for n in range(45)]
        backwards = client.models.list(before_id="m44", limit=20)
        assert {each.id async for each in backwards} == {f"m{n}" for n in range(44)}
        with pytest.raises(anthropic.NotFoundError, match="mimo"):
            await client.models.retrieve("mimo")

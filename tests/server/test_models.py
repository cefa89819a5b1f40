"""GET /v1/models and /v1/models/{id}."""

import pytest

from farebox.billing.prices import price_object
from tests.server.worker import PRICE

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

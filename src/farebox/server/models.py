"""GET /v1/models and /v1/models/{id}: what the caller may use, with its list price."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from farebox.billing.prices import price_object
from farebox.core import clock
from farebox.core.account import Caller
from farebox.routing.catalogue import Catalogue, Group, Model
from farebox.routing.select import choose_model, offered
from farebox.server.answers import json_answer
from farebox.server.state import State


async def listing(state: State, _request: Request, caller: Caller) -> Response:
    """Every model that this key may use."""
    catalogue = state.gateway.catalogue
    models = offered(catalogue, _group(catalogue, caller), caller.key.models, clock.now_us())
    return json_answer({"object": "list", "data": [_item(each, catalogue) for each in models]})


async def one(state: State, request: Request, caller: Caller) -> Response:
    """One model by its id or an alias, case ignored. Raises NotFound with near names."""
    catalogue = state.gateway.catalogue
    model = choose_model(
        catalogue,
        _group(catalogue, caller),
        caller.key.models,
        request.path_params["id"],
        clock.now_us(),
    )
    return json_answer(_item(model, catalogue))


def _group(catalogue: Catalogue, caller: Caller) -> Group:
    """The caller's group; one that the catalogue no longer has is offered nothing."""
    name = caller.account.group
    return catalogue.groups.get(name) or Group(name, rate_ppm=0, models=())


def _item(model: Model, catalogue: Catalogue) -> dict[str, object]:
    """OpenAI's model object, and beside it the price in credits per million tokens, and limits."""
    assert model.price is not None  # what is offered has one
    return {
        "id": model.id,
        "object": "model",
        "created": catalogue.created_us // 1_000_000,
        "owned_by": model.owned_by,
        "aliases": list(model.aliases),
        "price": price_object(model.price),
        "context": model.context,
        "max_output": model.max_output,
    }

"""GET /v1/models and /v1/models/{id}: what the caller may use, with its list price."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from farebox.billing.prices import price_object
from farebox.core.account import Caller
from farebox.errors import NotFound
from farebox.routing.catalogue import Catalogue, Model, matches
from farebox.routing.select import near
from farebox.server.answers import json_answer
from farebox.server.state import State


async def listing(state: State, _request: Request, caller: Caller) -> Response:
    """Every model that this key may use."""
    catalogue = state.gateway.catalogue
    items = [_item(model, catalogue) for model in usable(catalogue, caller)]
    return json_answer({"object": "list", "data": items})


async def one(state: State, request: Request, caller: Caller) -> Response:
    """One model by its id or an alias, case ignored. Raises NotFound with names that are near."""
    name: str = request.path_params["id"]
    catalogue = state.gateway.catalogue
    offered = list(usable(catalogue, caller))
    model = catalogue.find(name)
    if model is not None and any(each is model for each in offered):
        return json_answer(_item(model, catalogue))
    names = [each for model in offered for each in (model.id, *model.aliases)]
    nearest = near(name, names)
    hint = f" Near to it: {', '.join(nearest)}." if nearest else ""
    raise NotFound(
        f"Model '{name[:100]}' is not offered to you.{hint} GET /v1/models lists what is.",
        code="model_not_found",
        param="model",
    )


def usable(catalogue: Catalogue, caller: Caller) -> Iterator[Model]:
    """The models with a price that both the account's group and the key allow."""
    group = catalogue.groups.get(caller.account.group)
    if group is None:
        return
    for model in catalogue.models.values():
        if model.price is None or not matches(model, group.models):
            continue
        if not caller.key.models or matches(model, caller.key.models):
            yield model


def _item(model: Model, catalogue: Catalogue) -> dict[str, object]:
    """OpenAI's model object, and beside it the price in credits per million tokens, and limits."""
    assert model.price is not None  # usable() yields no other
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

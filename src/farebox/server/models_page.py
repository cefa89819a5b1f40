"""Models as Anthropic's clients read them: an item each, in pages that go on from an id.

Source: Anthropic's reference, "List Models"; the types `ModelInfo` and `SyncPage` of its SDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from farebox.billing.prices import price_object
from farebox.core import clock
from farebox.errors import BadRequest
from farebox.routing.catalogue import Catalogue, Model
from farebox.server.query import SHOWN_CHARS, number

_LIMIT, _MAX_LIMIT = 20, 1000


def page(
    models: Sequence[Model], catalogue: Catalogue, query: Mapping[str, str], at_us: int
) -> dict[str, object]:
    """The page that the query asks for: `limit` models from the first, behind the one that is
    `after_id`, or in front of the one that is `before_id`. Raises BadRequest.
    """
    limit = number(query, "limit", _LIMIT, 1, _MAX_LIMIT)
    if "after_id" in query and "before_id" in query:
        raise BadRequest("Send 'after_id' or 'before_id', not both.", param="after_id")
    if "before_id" in query:
        rest = models[: _place(models, query, "before_id")]
        shown = rest[-limit:]
    else:
        start = _place(models, query, "after_id") + 1 if "after_id" in query else 0
        rest = models[start:]
        shown = rest[:limit]
    return {
        "data": [item(model, catalogue, at_us) for model in shown],
        "has_more": len(rest) > limit,
        "first_id": shown[0].id if shown else None,
        "last_id": shown[-1].id if shown else None,
    }


def item(model: Model, catalogue: Catalogue, at_us: int) -> dict[str, object]:
    """Anthropic's model object, and beside it aliases and the price."""
    price = model.price_at(at_us)
    assert price is not None  # what is offered has one
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": clock.rfc3339(catalogue.created_us),
        "lifecycle": "active",
        "max_input_tokens": model.context,
        "max_tokens": model.max_output,
        "capabilities": None,
        "aliases": list(model.aliases),
        "price": price_object(price),
    }


def _place(models: Sequence[Model], query: Mapping[str, str], name: str) -> int:
    for place, model in enumerate(models):
        if model.id == query[name]:
            return place
    raise BadRequest(
        f"{name!r} names no model of this list: {query[name][:SHOWN_CHARS]!r}.",
        param=name,
        code="invalid_value",
    )

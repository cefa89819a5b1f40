"""GET /v1/models and /v1/models/{id}: what the caller may use, with its list price.

The list has two forms in one body: OpenAI's `data`, and `models` as the Codex CLI reads it. Clients
of Anthropic's get theirs, which is models_page.py's.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from farebox.billing.prices import price_object
from farebox.core import clock
from farebox.core.account import Caller
from farebox.routing.catalogue import Catalogue, Group, Model
from farebox.routing.select import choose_model, offered
from farebox.server import models_page
from farebox.server.answers import json_answer
from farebox.server.forms import ANTHROPIC_VERSION
from farebox.server.state import State

# What Codex needs to know of a model that it does not know by itself. `use_responses_lite` and
# `tool_mode` have it declare its tools plainly, so that models of any vendor can use them.
_CODEX: Final[dict[str, object]] = {
    "description": None,
    "default_reasoning_level": "medium",
    "supported_reasoning_levels": [
        {"effort": "low", "description": "Answers soonest"},
        {"effort": "medium", "description": "Thinks where it helps"},
        {"effort": "high", "description": "Thinks longest"},
    ],
    "shell_type": "unified_exec",
    "visibility": "list",
    "supported_in_api": True,
    "base_instructions": (
        "You are a coding agent that works in the user's own files, through the tools you are given"
        ". Look before you change anything, make the smallest change that does what was asked,"
        " check that it works, and then say briefly what you did and what you could not do."
    ),
    "supports_reasoning_summaries": True,
    "support_verbosity": False,
    "default_verbosity": None,
    "apply_patch_tool_type": "freeform",
    "truncation_policy": {"mode": "tokens", "limit": 10_000},
    "supports_parallel_tool_calls": True,
    "supports_search_tool": False,
    "use_responses_lite": False,
    "tool_mode": None,
    "experimental_supported_tools": [],
    "input_modalities": ["text", "image"],
}
_CODEX_CONTEXT_TOKENS = 128_000  # for a model whose context is not known here


async def listing(state: State, request: Request, caller: Caller) -> Response:
    """Every model that this key may use; a page of them for Anthropic's clients."""
    catalogue, now_us = state.gateway.catalogue, clock.now_us()
    models = offered(catalogue, group_of(catalogue, caller), caller.key.models, now_us)
    if _is_anthropics(request):
        return json_answer(models_page.page(models, catalogue, request.query_params, now_us))
    return json_answer(
        {
            "object": "list",
            "data": [_item(each, catalogue, now_us) for each in models],
            "models": [_codex_item(each, place) for place, each in enumerate(models)],
        }
    )


async def one(state: State, request: Request, caller: Caller) -> Response:
    """One model by its id or an alias, case ignored. Raises NotFound with near names."""
    catalogue, now_us = state.gateway.catalogue, clock.now_us()
    group, name = group_of(catalogue, caller), request.path_params["id"]
    model = choose_model(catalogue, group, caller.key.models, name, now_us)
    item = models_page.item if _is_anthropics(request) else _item
    return json_answer(item(model, catalogue, now_us))


def _is_anthropics(request: Request) -> bool:
    return ANTHROPIC_VERSION.decode() in request.headers


def group_of(catalogue: Catalogue, caller: Caller) -> Group:
    """The caller's group; one that the catalogue no longer has is offered nothing."""
    name = caller.account.group
    return catalogue.groups.get(name) or Group(name, rate_ppm=0, models=())


def _item(model: Model, catalogue: Catalogue, at_us: int) -> dict[str, object]:
    """OpenAI's model object, and beside it the price in credits per million tokens, and limits."""
    price = model.price_at(at_us)
    assert price is not None  # what is offered has one
    return {
        "id": model.id,
        "object": "model",
        "created": catalogue.created_us // 1_000_000,
        "owned_by": model.owned_by,
        "aliases": list(model.aliases),
        "price": price_object(price),
        "context": model.context,
        "max_output": model.max_output,
    }


def _codex_item(model: Model, place: int) -> dict[str, object]:
    """Codex's `ModelInfo`, by its release 0.169. `place` in the list is the order of its menu."""
    return {
        "slug": model.id,
        "display_name": model.id,
        "priority": place,
        "context_window": model.context or _CODEX_CONTEXT_TOKENS,
        **_CODEX,
    }

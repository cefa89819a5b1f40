"""The public price page: what this is, how to call it, what it costs; and the same as JSON.

Every figure comes from the price object and the bill that calls are charged by.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farebox.billing.charge import bill
from farebox.billing.prices import price_object, show_day
from farebox.core import clock
from farebox.core.money import PPM, show_credits, show_ppm
from farebox.core.settings import Settings
from farebox.core.usage import Usage
from farebox.routing.catalogue import Catalogue, Model

if TYPE_CHECKING:
    from jinja2 import Template

UNIT = "credits per million tokens"
FORMULA = (
    "input × input price + output × output price (cache write ×1.25, cache read ×0.1), "
    "then × your rate"
)
CLASSES = {  # as price objects name them -> as the page does
    "input": "Input",
    "output": "Output",
    "cache_read": "Cache read",
    "cache_write": "Cache write",
    "cache_write_1h": "Cache write, 1\u00a0h",
    "audio_input": "Audio in",
    "audio_output": "Audio out",
    "image_input": "Image in",
}
_PRICED_AS = {"uncached_input": "input"}  # where a bill's class and its price have other names
_EXAMPLE_USAGE = Usage(uncached_input=1000, cache_read=8000, cache_write=2000, output=500)
_EXAMPLE_RATE_PPM = 800_000
_NO_MODEL = "MODEL"
_CREDITS_EXPONENT = -21  # a bill's exact unit is 10^-12 nano-credits
_WEEK = "mon,tue,wed,thu,fri,sat,sun"
_FOLDER = Path(__file__).parent / "templates"


def routes(catalogue: Callable[[], Catalogue], settings: Settings) -> list[Route]:
    """`/pricing` and `/pricing.json`, from the catalogue in force when they are asked for."""
    page = _Page(settings)

    async def pricing(request: Request) -> Response:
        if _wants_json(request.headers.get("accept", "")):
            return _json(catalogue())
        # The first one loads and compiles the template: no call of this worker waits for that.
        return await asyncio.to_thread(page.render, catalogue())

    async def pricing_json(_request: Request) -> Response:
        return _json(catalogue())

    served: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/pricing": pricing,
        "/pricing.json": pricing_json,
    }
    return [Route(path, endpoint) for path, endpoint in served.items()]


def rows(catalogue: Catalogue, at_us: int) -> list[dict[str, Any]]:
    """The models that are sold, each with its list price as everybody is shown it, and the one
    that is the next to come.
    """
    return [
        {
            "id": model.id,
            "aliases": list(model.aliases),
            "price": price_object(price),
            "next_price": _next_price(model, at_us),
            "context": model.context,
            "max_output": model.max_output,
        }
        for model in catalogue.models.values()
        if (price := model.price_at(at_us)) is not None
    ]


def _next_price(model: Model, at_us: int) -> dict[str, object] | None:
    for price in model.prices:
        if price.starts_us > at_us:
            return {"from": show_day(price.starts_us), **price_object(price)}
    return None


@dataclass(frozen=True, slots=True)
class ExampleLine:
    """One class of the worked example. Price and amount are decimal credits, exact."""

    name: str
    tokens: int
    price: str  # per million tokens
    amount: str  # after the rate


@dataclass(frozen=True, slots=True)
class Example:
    """A worked bill: its lines, and their sum rounded up once."""

    model: str
    rate: str
    lines: tuple[ExampleLine, ...]
    charge_nanocredits: int

    @property
    def charge(self) -> str:
        """The charge in credits."""
        return show_credits(self.charge_nanocredits)


def example(catalogue: Catalogue, at_us: int) -> Example | None:
    """A worked bill of the first model that costs something, by the function that bills calls."""
    model = _example_model(catalogue, at_us)
    price = model and model.price_at(at_us)
    if model is None or price is None:
        return None
    worked = bill(_EXAMPLE_USAGE, price, _EXAMPLE_RATE_PPM, at_us)
    lines = tuple(
        ExampleLine(
            CLASSES[_PRICED_AS.get(line.name, line.name)],
            line.tokens,
            show_credits(line.price_nanocredits_per_million * line.multiplier_ppm // PPM),
            _exact_credits(line.exact),
        )
        for line in worked.lines
    )
    return Example(model.id, show_ppm(_EXAMPLE_RATE_PPM), lines, worked.due_nanocredits)


def _example_model(catalogue: Catalogue, at_us: int) -> Model | None:
    sold = [(m, p) for m in catalogue.models.values() if (p := m.price_at(at_us)) is not None]
    dear = [(model, price) for model, price in sold if price.input and price.output]
    return next((model for model, _ in dear or sold), None)


def _exact_credits(exact: int) -> str:
    return format(Decimal(exact).scaleb(_CREDITS_EXPONENT).normalize(), "f")


def _json(catalogue: Catalogue) -> Response:
    data = {"unit": UNIT, "formula": FORMULA, "models": rows(catalogue, clock.now_us())}
    return Response(
        msgspec.json.encode(data),
        headers={"cache-control": "no-cache", "vary": "accept"},
        media_type="application/json",
    )


def _wants_json(accept: str) -> bool:
    return "application/json" in accept and "text/html" not in accept


class _Page:
    """The page's template, its style, and the headers under which nothing else may run in it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._style = (_FOLDER / "pricing.css").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self._headers = {
            "cache-control": "no-cache",
            "vary": "accept",
            "content-security-policy": (
                f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
                "form-action 'none'; frame-ancestors 'none'"
            ),
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }

    @cached_property
    def _template(self) -> Template:
        import jinja2  # when there is a page: it takes a while, and workers start without

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        return environment.get_template("pricing.html")

    def render(self, catalogue: Catalogue) -> Response:
        """The page for this catalogue. To be called in a thread."""
        now_us = clock.now_us()
        listed = rows(catalogue, now_us)
        called = _example_model(catalogue, now_us)
        model = called.id if called else _NO_MODEL
        images = any("image_input" in (row["price"] | (row["next_price"] or {})) for row in listed)
        html = self._template.render(
            style=self._style,
            base_url=self._settings.base_url,
            body=_shell_quoted(_request(model, stream=False)),
            stream_body=_shell_quoted(_request(model, stream=True)),
            formula=FORMULA,
            unit=UNIT,
            classes={name: CLASSES[name] for name in CLASSES if images or name != "image_input"},
            rows=listed,
            weekdays=_weekdays,
            example=example(catalogue, now_us),
        )
        return Response(html, headers=self._headers, media_type="text/html")


def _weekdays(days: str) -> str:
    """Days of a price object as people write them: three and more in a row as "mon-fri"."""
    named = days.split(",")
    in_a_row = len(named) > 2 and days in _WEEK
    return f"{named[0]}-{named[-1]}" if in_a_row else ", ".join(named)


def _request(model: str, *, stream: bool) -> dict[str, object]:
    if not stream:
        return {
            "model": model,
            "messages": [{"role": "user", "content": "Hello! Who are you?"}],
        }
    return {
        "model": model,
        "messages": [{"role": "user", "content": "Write a short poem about summer."}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _shell_quoted(body: dict[str, object]) -> str:
    """JSON between the single quotes of a POSIX shell, one field a line."""
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in body.items()]
    text = "{\n    " + ",\n    ".join(fields) + "\n  }"
    return "'" + text.replace("'", "'\\''") + "'"

"""The price page and its JSON: the biller's own figures, in a page that is safe and well formed."""

import base64
import hashlib
import json
import math
import subprocess
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from starlette.routing import Router

from farebox.billing.prices import price_object, read_price
from farebox.console import pricing
from farebox.core import clock
from farebox.core.settings import Settings
from farebox.routing.catalogue import Catalogue, Group, Model

pytestmark = pytest.mark.anyio

PLAIN = read_price({"input": "1.32", "output": "3.96"})
RICH = read_price(
    {
        "input": "2",
        "output": "8",
        "cache_read": "0.5",
        "cache_write": "0",
        "image_input": "3",
        "long_context": {"threshold": 272000, "input_multiplier": "2", "output_multiplier": "1.5"},
        "tiers": {"flex": "0.5", "priority": "2"},
        "windows": [
            {"days": "mon-fri", "utc": "01:00-04:00", "multiplier": "2"},
            {"days": "sat,sun", "utc": "00:00-24:00", "multiplier": "0.5"},
        ],
        "tools": {"web_search": "0.01"},
    }
)
SOON = read_price({"input": "1.5", "output": "3.96", "cache_read": "0.132", "from": "2998-01-01"})
LATER = read_price({"input": "9", "output": "9", "from": "2999-01-01"})
MODELS = [
    Model(
        "deepseek-v4-pro",
        (),
        (PLAIN, SOON, LATER),
        aliases=("ds-pro",),
        context=1_000_000,
        max_output=384_000,
    ),
    Model("<script>alert('x')</script>", (), (RICH,)),
    Model("unpriced", (), ()),
    Model("not-yet", (), (read_price({"input": "1", "output": "1", "from": "2999-01-01"}),)),
]
CATALOGUE = Catalogue.of(3, [], MODELS, [Group("default", 1_000_000)])
EMPTY = Catalogue.of(1, [], [], [])


async def get(path, accept="", catalogue=CATALOGUE):
    """Status, headers and body of a GET, by the routes as the gateway mounts them."""
    settings = Settings(Path("/nowhere"), "", public_url="https://ai.example")
    router = Router(pricing.routes(lambda: catalogue, settings))
    messages = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        messages.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"accept", accept.encode())],
    }
    await router(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    return messages[0]["status"], headers, b"".join(each.get("body", b"") for each in messages)


class Page(HTMLParser):
    """Reads a page: its elements must close in order; cells, code, style are kept."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, html):
        super().__init__()
        self.open, self.texts, self.rows, self.attributes = [], {}, {}, []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.attributes += [(tag, name) for name in named]
        if tag not in self.VOID:
            self.open.append((tag, named))
            self.texts.setdefault(tag, []).append("")
        if "data-model" in named:
            self.rows[named["data-model"]] = {}

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if not self.open:
            return
        tag, named = self.open[-1]
        self.texts[tag][-1] += data
        if "data-class" in named:
            list(self.rows.values())[-1][named["data-class"]] = data


async def page(catalogue=CATALOGUE):
    status, headers, body = await get("/pricing", "text/html", catalogue)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    return headers, Page(body.decode())


def arguments_of_curl(command):
    """What a POSIX shell gives to curl."""
    script = "curl() { printf '%s\\0' \"$@\"; }\n" + command
    environ = {"OPENAI_API_KEY": "sk-fb-x"}
    done = subprocess.run(["sh", "-c", script], env=environ, check=True, capture_output=True)
    return done.stdout.split(b"\0")


async def test_the_json_has_each_sold_model_with_its_price_object():
    """The table is what is sold now, each row with the very object of the biller's prices."""
    status, headers, body = await get("/pricing.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == {
        "unit": "credits per million tokens",
        "formula": "input × input price + output × output price "
        "(cache write ×1.25, cache read ×0.1), then × your rate",
        "models": [
            {
                "id": model.id,
                "aliases": list(model.aliases),
                "price": price_object(price),
                "next_price": following,
                "context": model.context,
                "max_output": model.max_output,
            }
            for model, price, following in (
                (MODELS[0], PLAIN, {"from": "2998-01-01", **price_object(SOON)}),
                (MODELS[1], RICH, None),
            )
        ],
    }


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        ("text/html,application/xhtml+xml,application/json;q=0.5", "text/html"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
    ],
)
async def test_one_address_answers_people_and_programs(accept, content_type):
    """/pricing is a page unless JSON alone is asked for."""
    status, headers, _ = await get("/pricing", accept)
    assert status == 200
    assert headers["content-type"].startswith(content_type)
    assert headers["vary"] == "accept"


async def test_the_page_shows_what_the_json_says():
    """Each cell of the page is the field of the same name of the JSON."""
    _, _, body = await get("/pricing.json")
    _, shown = await page()
    for row in json.loads(body)["models"]:
        cells = shown.rows[row["id"]]
        assert list(cells) == list(pricing.CLASSES)
        for name, text in cells.items():
            assert text == row["price"].get(name, "as text")
    assert list(shown.rows) == [model.id for model in MODELS[:2]]


async def test_the_page_tells_which_price_comes_next():
    """Its day, and the classes that will have another price."""
    _, shown = await page()
    notes = [" ".join(text.split()) for text in shown.texts["span"]]
    told = "from 2998-01-01: input 1.5, cache write 1.875, cache write, 1 h 3, audio in 1.5"
    assert told in notes
    priced = {"input": "1", "output": "2"}
    prices = (
        read_price(priced),
        read_price({**priced, "tiers": {"flex": "0.5"}, "from": "2998-01-01"}),
    )
    _, shown = await page(Catalogue.of(1, [], [Model("m", (), prices)], []))
    assert "from 2998-01-01: on other terms" in [
        " ".join(text.split()) for text in shown.texts["span"]
    ]


async def test_the_page_tells_what_multiplies_a_price():
    """Long context, tiers, hours and tools are named beside the model that has them."""
    _, shown = await page()
    text = " ".join(" ".join(shown.texts["span"]).split())
    for part in (
        "above 272,000 input tokens: input × 2, output × 1.5",
        "service tier flex × 0.5, priority × 2",
        "mon-fri 01:00-04:00 UTC: × 2",
        "sat, sun 00:00-24:00 UTC: × 0.5",
        "web_search: 0.01 credits a call",
        "also ds-pro",
    ):
        assert part in text


async def test_the_formula_stands_on_the_page():
    """How billing works is one line, and that counting is free is said."""
    _, shown = await page()
    assert pricing.FORMULA in shown.texts["p"]
    assert any("Counting tokens is free" in text for text in shown.texts["p"])


async def test_what_a_credit_is_stands_on_the_page():
    _, shown = await page()
    assert any("one credit is one US dollar" in " ".join(text.split()) for text in shown.texts["p"])


async def test_the_worked_example_is_right_by_hand():
    """The example's amounts are tokens × price × rate, and the charge is their sum rounded up."""
    worked = pricing.example(CATALOGUE, clock.now_us())
    assert worked is not None
    exact = Fraction(0)
    for line in worked.lines:
        amount = line.tokens * Fraction(line.price) / 1_000_000 * Fraction(worked.rate)
        assert Fraction(line.amount) == amount
        exact += amount
    assert math.ceil(exact * 10**9) == worked.charge_nanocredits
    assert Fraction(worked.charge) == Fraction(worked.charge_nanocredits, 10**9)
    assert {line.name: line.price for line in worked.lines} == {
        "Input": "1.32",
        "Cache read": "0.132",
        "Cache write": "1.65",
        "Output": "3.96",
    }
    _, shown = await page()
    assert worked.charge in shown.texts["td"]


@pytest.mark.parametrize("catalogue", [CATALOGUE, EMPTY, Catalogue.of(1, [], MODELS[1:2], [])])
async def test_the_curl_lines_work_as_pasted(catalogue):
    """Each call is one shell command whose body is JSON: a plain call and a stream with usage."""
    _, shown = await page(catalogue)
    commands = [text for text in shown.texts["code"] if text.startswith("curl ")]
    bodies = []
    for command in commands:
        said = arguments_of_curl(command)
        assert b"https://ai.example/v1/chat/completions" in said
        assert b"Authorization: Bearer sk-fb-x" in said
        bodies.append(json.loads(said[-2]))
    plain, stream = bodies
    sold = [model.id for model in catalogue.models.values() if model.prices]
    assert plain["model"] == stream["model"] == (sold[0] if sold else "MODEL")
    assert "stream" not in plain
    assert (stream["stream"], stream["stream_options"]) == (True, {"include_usage": True})


async def test_the_page_may_run_nothing_and_load_nothing():
    """The policy allows its one style element, by hash, and there is nothing else to allow."""
    headers, shown = await page()
    (style,) = shown.texts["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "script" not in shown.texts
    names = {name for _, name in shown.attributes}
    assert not names & {"style", "src", "onclick", "onload"}


async def test_an_empty_catalogue_teaches():
    """Without models the page says what to do, and the JSON is an empty list."""
    _, shown = await page(EMPTY)
    assert any("farebox apply" in text for text in shown.texts["code"])
    _, _, body = await get("/pricing.json", catalogue=EMPTY)
    assert msgspec.json.decode(body)["models"] == []

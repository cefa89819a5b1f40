"""What the clients meet: a gateway whose models are all served by one fake vendor, and purses.

A purse is an account that one test has for itself, so that its receipts are that test's.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from farebox.cli.main import app
from tests.e2e.serving import Serving
from tests.fakes.upstream import FakeUpstream, Recorded

# The vendors that speak chat only, and what each calls the one model that it serves here.
UPSTREAM_NAMES = {
    "deepseek": "deepseek-v4-pro",
    "zhipu": "glm-5.2",
    "mimo": "mimo-v2.6-pro",
    "openai_compatible": "my-own-model",
}
# The vendor that speaks the Messages API and nothing else.
NATIVE = {"anthropic": "claude-sonnet-5-5"}
# What clients ask for. Codex declares its tools in another way for each of the three.
PLAIN = "house-model"  # unknown to Codex: functions, one namespace
PATCHING = "gpt-5.5"  # and apply_patch, a custom tool with a grammar
LITE = "gpt-6.1-sol"  # everything in namespaces, within an input item
HANGING = "hanging-model"  # says half an answer and then nothing more
BREAKING = "breaking-model"  # says half of a streamed answer; a whole one is as it should be
FULL = "full-model"  # its vendor has no room at present
# A name that no vendor knows, and that means the first of them.
ALIAS = "claude-opus-9-9"

_CHANNEL = """
[[channels]]
id = "{vendor}"
vendor = "{vendor}"
base_url = "{url}"
api_key = "env:FAKE_KEY"
speaks = ["{speaks}"]

[[groups]]
id = "default"
rate = "1"
"""
_MODEL = """
[[models]]
id = "{model}"
aliases = {aliases}
context = 1000000
max_output = 64000
channels = [{{ channel = "{vendor}", model = "{upstream}" }}]
price = {{ input = "4", output = "20" }}
"""


def gateway_over(vendor: str, upstream: FakeUpstream, folder: Path) -> Serving:
    """A gateway, not yet started, whose only vendor is this one."""
    speaks = "messages" if vendor in NATIVE else "chat"
    parts = [_CHANNEL.format(vendor=vendor, url=upstream.base_url(vendor), speaks=speaks)]
    names = dict.fromkeys((PLAIN, PATCHING, LITE), (NATIVE | UPSTREAM_NAMES)[vendor])
    names |= {HANGING: "hang-mid-stream", BREAKING: "early-end", FULL: "fail-503"}
    for model, name in names.items():
        aliases = json.dumps([ALIAS] if model == PLAIN else [])
        parts.append(_MODEL.format(model=model, aliases=aliases, vendor=vendor, upstream=name))
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "farebox.toml"
    config.write_text("".join(parts), encoding="utf-8")
    args = ("--config", str(config), "--data-dir", str(folder / "data"))
    return Serving(folder, args, {"FAKE_KEY": upstream.key(vendor)})


@dataclass(frozen=True)
class Tokens:
    """What a client says that it used, in one dialect's sense: input includes what was cached."""

    input: int
    cached: int
    output: int

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input, self.cached + other.cached, self.output + other.output
        )


NOTHING = Tokens(0, 0, 0)
_numbers = itertools.count(1)


def _cli(gateway: Serving, *args: str) -> Any:
    """A verb of the command line in this process: to start one for each would take minutes."""
    where = ("--data-dir", str(gateway.folder / "data"), "--json")
    env = {"FAREBOX_CONFIG": "", "FAREBOX_DATABASE": ""}
    done = CliRunner().invoke(app, [*args, *where], env=env, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Purse:
    """An account with credits and one key."""

    gateway: Serving
    account: str
    key: str

    @classmethod
    def fresh(cls, gateway: Serving, credits: str = "100") -> Purse:
        account = f"client-{next(_numbers)}"
        _cli(gateway, "accounts", "create", account, "--credits", credits)
        key = _cli(gateway, "keys", "create", "--account", account)["key"]
        return cls(gateway, account, key)

    def receipts(self) -> list[dict[str, Any]]:
        """The receipts of its calls, oldest first."""
        store = self.gateway.folder / "data" / "farebox.db"
        connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                "SELECT request_id FROM usage JOIN accounts ON accounts.id = account_id"
                " WHERE accounts.name = ? ORDER BY usage.created_us",
                (self.account,),
            ).fetchall()
        finally:
            connection.close()
        return [self.gateway.get(f"/v1/receipts/{row[0]}", self.key).json for row in rows]

    def charged(self) -> Tokens:
        """The tokens of all its receipts. Raises AssertionError if one of them is not whole."""
        receipts = self.receipts()
        assert {receipt["outcome"] for receipt in receipts} <= {"complete"}
        return sum((tokens_of(receipt["usage"]) for receipt in receipts), NOTHING)


def tokens_of(usage: Mapping[str, int]) -> Tokens:
    """What a receipt charges, in the sense in which clients count."""
    written = usage["cache_write"] + usage["cache_write_1h"]
    return Tokens(
        usage["uncached_input"] + usage["cache_read"] + written,
        usage["cache_read"],
        usage["output"],
    )


def messages_from(recorded: Recorded, role: str) -> list[str]:
    """What the messages of a role say, in a request as the upstream got it."""
    found = [message["content"] for message in recorded.body["messages"] if message["role"] == role]
    return [each if isinstance(each, str) else json.dumps(each) for each in found]

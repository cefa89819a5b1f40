"""Two accounts at one gateway: what is bob's is what alice asks for.

An answer to her is compared with the one for an id that there never was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.config import keys, write_config
from tests.e2e.serving import Answer, Serving
from tests.fakes.upstream import FakeUpstream

_HOSTED = "{ file_search = '0', code_interpreter = '0', image_generation = '0', shell = '0' }"
_MODELS = "".join(
    f"""
[[models]]
id = "{way}"
max_output = 4000
channels = [{{ channel = "{channel}", model = "{name}" }}]
price = {{ input = "1", output = "2", tools = {_HOSTED} }}
"""
    for way, channel, name in (
        ("native", "openai", "gpt-5.6"),
        ("native-messages", "anthropic", "claude-sonnet-5-5"),
        ("translated", "deepseek", "deepseek-v4-pro"),
    )
)


@dataclass
class Tenants:
    """The gateway, what stands behind it, and a key of each."""

    gateway: Serving
    upstream: FakeUpstream
    alice: str
    bob: str

    def made_by_bob(self, way: str, **fields: Any) -> Any:
        """A response of bob's, as it is kept."""
        body = json.dumps({"model": way, "input": "say: mine", **fields}).encode()
        answer = self.gateway.request("POST", "/v1/responses", body, key=self.bob)
        assert (answer.status, answer.json["status"]) == (200, "completed"), answer
        return answer.json


@contextmanager
def tenants_in(folder: Path) -> Iterator[Tenants]:
    """A gateway with two workers, over all vendors."""
    with FakeUpstream() as upstream:
        config = write_config(folder / "farebox.toml", upstream, _MODELS)
        args = ("--config", str(config), "--data-dir", str(folder / "data"), "--workers", "2")
        with Serving(folder, (*args, "--no-local"), keys(upstream)) as gateway:
            made: list[str] = []
            for name in ("alice", "bob"):
                gateway.cli("accounts", "create", name, "--credits", "10")
                made.append(gateway.cli("keys", "create", "--account", name)["key"])
            yield Tenants(gateway, upstream, *made)


def told(answer: Answer) -> str:
    """An answer's status, body and what was changed of the request."""
    headers = [answer.headers.get(name) for name in ("content-type", "x-farebox-adjusted")]
    return f"{answer.status} {headers} {answer.body.decode()}"


def nobodys(known: str) -> str:
    """An id of the same form that there never was: its last letters are others."""
    return known[:-8] + known[-8:].swapcase().translate(str.maketrans("0123456789_", "1234567890-"))

"""The configuration of the gateway that the tests share."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.upstream import FakeUpstream, closed_port

VENDORS = ("openai", "deepseek", "zhipu", "zai", "mimo", "openai_compatible", "anthropic")
MODELS = {
    "openai": "gpt-5.6",
    "deepseek": "deepseek-v4-pro",
    "zhipu": "ZHIPU/GLM-5.2",
    "zai": "ZHIPU/GLM-5.3",
    "mimo": "xiaomi/mimo-v2.6-pro",
    "openai_compatible": "my-own-model",
    "anthropic": "claude-sonnet-5-5",
}
UPSTREAM_NAMES = {"zhipu": "glm-5.2", "zai": "glm-5.3", "mimo": "mimo-v2.6-pro"}

_CHANNEL = """
[[channels]]
id = "{name}"
vendor = "{name}"
base_url = "{url}"
api_key = "env:FAKE_{upper}_KEY"
"""
_MODEL = """
[[models]]
id = "{model}"
aliases = {aliases}
context = 1000000
max_output = 4000
channels = {channels}
price = {{ input = "{input}", output = "{output}" }}
"""
_REST = """
[[channels]]
id = "dead"
vendor = "openai_compatible"
base_url = "http://127.0.0.1:{dead}/v1"

[[groups]]
id = "default"
rate = "1"

[[groups]]
id = "friends"
rate = "0.5"
models = ["gpt-*"]
"""


def keys(upstream: FakeUpstream) -> dict[str, str]:
    """The environment in which the channels of that file find their credentials."""
    return {f"FAKE_{name.upper()}_KEY": upstream.key(name) for name in VENDORS}


def write_config(path: Path, upstream: FakeUpstream, extra: str = "") -> Path:
    """A channel and a model for each vendor, models that fail over or fail, two groups."""
    parts = [
        _CHANNEL.format(name=name, url=upstream.base_url(name), upper=name.upper())
        for name in VENDORS
    ]
    for vendor, model in MODELS.items():
        name = UPSTREAM_NAMES.get(vendor, model)
        aliases = [name] if name != model else []
        parts.append(_model(model, [(vendor, name)], aliases, "4", "20"))
    parts.append(_model("over", [("dead", "x"), ("openai", "gpt-4o")], [], "2.5", "10"))
    faults = ("fail-500", "fail-429", "hang-mid-stream", "slow", "refuse-400", "hop-loop")
    parts += [_model(f"test-{fault}", [("openai", fault)], [], "2.5", "10") for fault in faults]
    parts.append(_REST.format(dead=closed_port()))
    path.write_text("".join(parts) + extra, encoding="utf-8")
    return path


def _model(
    model: str, routes: list[tuple[str, str]], aliases: list[str], p_in: str, p_out: str
) -> str:
    channels = ", ".join(f'{{ channel = "{ch}", model = "{name}" }}' for ch, name in routes)
    return _MODEL.format(
        model=model, channels=f"[{channels}]", aliases=aliases, input=p_in, output=p_out
    ).replace("'", '"')

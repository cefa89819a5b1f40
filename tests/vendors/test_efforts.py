"""Reasoning efforts that a caller only wishes for, as a Messages call does: who gets which."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from farebox.core.channel import ChannelOptions
from farebox.vendors import registry
from tests.vendors.contract import CAP, HOP, call_of, channel_of

REASONING = ("o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-5.4-mini", "gpt-6-sol",
             "gpt-6.1-sol", "ft:gpt-5:x", "codex-mini-latest")  # fmt: skip
OTHERS = ("gpt-4o", "gpt-4.1-mini", "gpt-3.5-turbo", "chatgpt-4o-latest", "gpt-5-chat-latest")


def asked(name: str, model: str, effort: str, options: ChannelOptions | None = None) -> Any:
    """The effort that goes out in chat and in Responses, and what is told of it."""
    vendor = registry.find(name)
    channel = channel_of(vendor, options=options or ChannelOptions())
    chat = {"messages": [{"role": "user", "content": "a"}], "reasoning_effort": effort}
    response = {"input": "a", "reasoning": {"effort": effort, "summary": "auto"}}
    found: list[Any] = []
    for dialect, body in (("chat", chat), ("responses", response)):
        call = call_of(json.dumps(body).encode(), dialect=dialect, effort_is_wish=True)
        result = vendor.prepare(channel, model, call, CAP, HOP, "alice")
        sent = msgspec.json.decode(result.request.body)
        where = sent.get("reasoning", {}) if dialect == "responses" else sent
        found.append((where.get("effort" if dialect == "responses" else "reasoning_effort"),
                      result.adjusted))  # fmt: skip
    return found


@pytest.mark.parametrize("model", REASONING)
def test_models_that_reason_get_it(model: str):
    """As it was wished for."""
    assert asked("openai", model, "low") == [("low", ()), ("low", ())]


@pytest.mark.parametrize("model", OTHERS)
def test_models_that_do_not_reason_do_not_get_it(model: str):
    """They would refuse the call."""
    assert asked("openai", model, "low") == [
        (None, ("reasoning_effort=dropped",)),
        (None, ("reasoning=dropped",)),
    ]


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("o3", "none", None),
        ("gpt-5", "none", None),
        ("gpt-5.1", "none", "none"),
        ("gpt-6-sol", "none", "none"),
        ("o3", "max", "high"),
        ("gpt-5.1", "xhigh", "high"),
        ("gpt-5.4", "max", "xhigh"),
        ("gpt-6.1-sol", "xhigh", "xhigh"),
    ],
)
def test_families_differ_in_what_they_know(model: str, effort: str, sent: str | None):
    """What a model does not know becomes the nearest that it knows, or nothing, and is named."""
    told = sent or "dropped"
    same = sent == effort
    assert asked("openai", model, effort) == [
        (sent, () if same else (f"reasoning_effort={told}",)),
        (sent, () if same else (f"reasoning.effort={told}",)),
    ]


def test_a_callers_own_effort_is_the_vendors_to_refuse():
    """Who asks for it in so many words, means it."""
    vendor = registry.find("openai")
    body = b'{"messages":[],"reasoning_effort":"max"}'
    result = vendor.prepare(channel_of(vendor), "gpt-4o", call_of(body), CAP, HOP, "alice")
    assert msgspec.json.decode(result.request.body)["reasoning_effort"] == "max"
    assert result.adjusted == ()


def test_an_operator_knows_better():
    """Of a server that nobody here knows."""
    yes, no = ChannelOptions(reasoning_effort=True), ChannelOptions(reasoning_effort=False)
    assert asked("openai_compatible", "m", "max")[0] == (None, ("reasoning_effort=dropped",))
    assert asked("openai_compatible", "m", "max", yes)[0] == ("max", ())
    assert asked("openai", "gpt-5", "low", no)[0] == (None, ("reasoning_effort=dropped",))

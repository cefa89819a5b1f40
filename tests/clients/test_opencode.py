"""opencode over chat and over the Responses API: a turn in which a tool is used."""

from __future__ import annotations

import json

import pytest

from tests.clients.agents import Agents, opencode_parts, opencode_tokens
from tests.clients.gateway import PLAIN, messages_from
from tests.fakes.upstream import FakeUpstream

# The AI SDK's package decides which of the two APIs is spoken.
PACKAGES = {"chat": "@ai-sdk/openai-compatible", "responses": "@ai-sdk/openai"}
COMMAND = "echo fa''re > box.txt; cat box.txt"


@pytest.mark.parametrize("dialect", PACKAGES)
def test_a_turn_with_a_tool_ends_and_is_counted(
    agents: Agents, fake_upstream: FakeUpstream, dialect: str
) -> None:
    """The command runs, its output reaches the upstream, the steps' tokens are the receipts'."""
    call = json.dumps({"command": COMMAND, "description": "Writes a file."})
    prompt = f"call: bash {call}\nsay: It is done.\ntokens: 1000 200 50 20"
    run = agents.opencode(prompt, PLAIN, PACKAGES[dialect])
    assert (agents.work / "box.txt").read_text(encoding="utf-8") == "fare\n"
    (tool,) = opencode_parts(run, "tool")
    assert (tool["tool"], tool["state"]["status"]) == ("bash", "completed")
    assert opencode_parts(run, "text")[-1]["text"] == "It is done."
    assert messages_from(fake_upstream.last, "tool") == ["fare\n"]
    assert opencode_tokens(run) == agents.purse.charged()
    assert {receipt["dialect"] for receipt in agents.purse.receipts()} == {dialect}

"""Codex over vendors that speak chat only: each kind of tool, an image, a compaction, WebSocket.

Each test ends by comparing what Codex says that it used with the receipts of the gateway.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from tests.clients.agents import BUILT_IN, CUSTOM, Agents, Run, codex_items, codex_tokens
from tests.clients.gateway import LITE, PATCHING, PLAIN, messages_from, tokens_of
from tests.clients.pictures import png
from tests.fakes.upstream import FakeUpstream

TOKENS = "tokens: 1000 200 50 20"
PATCH = "*** Begin Patch\n*** Add File: box.txt\n+fare\n*** End Patch\n"


def call(name: str, **arguments: Any) -> str:
    """The line of a script that calls a tool."""
    return f"call: {name} {json.dumps(arguments)}"


def script(*lines: str) -> str:
    return "\n".join((*lines, "say: It is done.", TOKENS))


def check(run: Run, agents: Agents, calls: int) -> None:
    """The turn ended with the text, after so many calls, and Codex counts what was charged.

    The one thing that it complains of is a model that it has never heard of.
    """
    said = [item["message"] for item in codex_items(run, "error")]
    assert [each for each in said if not each.startswith("Model metadata for")] == []
    assert [item["text"] for item in codex_items(run, "agent_message")][-1] == "It is done."
    assert len(agents.purse.receipts()) == calls
    assert codex_tokens(run) == agents.purse.charged()


def test_a_turn_with_a_shell_call(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """The command runs and its output reaches the upstream."""
    run = agents.codex(script(call("exec_command", cmd="echo fa''re > box.txt")), PLAIN)
    (done,) = codex_items(run, "command_execution")
    assert (done["exit_code"], done["status"]) == (0, "completed")
    assert (agents.work / "box.txt").read_text(encoding="utf-8") == "fare\n"
    (output,) = messages_from(fake_upstream.last, "tool")
    assert "Process exited with code 0" in output
    check(run, agents, calls=2)


def test_a_turn_with_apply_patch(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """A custom tool with a grammar is a function upstream, and comes back as a custom tool."""
    run = agents.codex(script(call("apply_patch", input=PATCH)), PATCHING)
    (change,) = codex_items(run, "file_change")
    assert [Path(each["path"]).name for each in change["changes"]] == ["box.txt"]
    assert (agents.work / "box.txt").read_text(encoding="utf-8") == "fare\n"
    assert len(messages_from(fake_upstream.last, "tool")) == 1
    check(run, agents, calls=2)


def test_a_turn_with_two_parallel_calls(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """Both commands run, and each output answers its own call."""
    calls = [call("exec_command", cmd=f"echo {name}; touch {name}") for name in ("one", "two")]
    run = agents.codex(script(*calls), PLAIN)
    assert len(codex_items(run, "command_execution")) == 2
    assert sorted(path.name for path in agents.work.iterdir()) == ["one", "two"]
    messages = fake_upstream.last.body["messages"]
    (asked,) = (each for each in messages if each.get("tool_calls"))
    wanted = {
        each["id"]: json.loads(each["function"]["arguments"])["cmd"].split("; ")[0]
        for each in asked["tool_calls"]
    }
    answered = {
        each["tool_call_id"]: each["content"] for each in messages if "tool_call_id" in each
    }
    assert set(answered) == set(wanted)
    for each, command in wanted.items():
        assert command.removeprefix("echo ") in answered[each]
    check(run, agents, calls=2)


def test_a_turn_with_namespaced_tools(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """Tools that only an input item declares: a custom one, and a function of another namespace."""
    source = "text(await tools.exec_command({cmd: \"touch box.txt; echo fa''re\"}))"
    run = agents.codex(script(call("exec", input=source), call("collaboration__list_agents")), LITE)
    assert (agents.work / "box.txt").exists()
    outputs = messages_from(fake_upstream.last, "tool")
    assert len(outputs) == 2
    assert "fare" in outputs[0]
    assert "unsupported" not in outputs[1]
    check(run, agents, calls=2)


def test_a_turn_with_an_image(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """A picture of the prompt arrives as an image_url of chat."""
    picture = agents.home / "dot.png"
    picture.write_bytes(png())
    run = agents.codex(script(), PATCHING, "--image", str(picture))
    (image,) = _images(fake_upstream)
    kind, _, data = image["url"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert image.get("detail") in (None, "auto", "low", "high")
    check(run, agents, calls=1)


def _images(upstream: FakeUpstream) -> list[dict[str, Any]]:
    contents = [message["content"] for message in upstream.last.body["messages"]]
    parts = [part for each in contents if isinstance(each, list) for part in each]
    return [part["image_url"] for part in parts if part["type"] == "image_url"]


def test_a_compaction(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """A history that is over the limit is summarised in a call of its own, and the turn goes on."""
    prompt = script(call("exec_command", cmd="echo fare"))
    run = agents.codex(prompt, PLAIN, "-c", "model_auto_compact_token_limit=900")
    assert len(codex_items(run, "command_execution")) == 1
    _, compaction, after = [messages_from(each, "user") for each in fake_upstream.requests]
    assert "CONTEXT CHECKPOINT COMPACTION" in compaction[-1]
    summary = f"Hello from {fake_upstream.last.persona}."
    assert summary in after[-1]
    assert codex_items(run, "agent_message")[-1]["text"] == summary
    assert len(agents.purse.receipts()) == 3
    assert codex_tokens(run) == agents.purse.charged()


def test_a_compaction_by_the_gateway(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """Codex' own provider asks for a sealed summary, and brings it back with what follows.

    It does so over a WebSocket, and leaves that call out of what it counts.
    """
    prompt = script(call("exec_command", cmd="echo fare"))
    flags = ("-c", "model_auto_compact_token_limit=900")
    run = agents.codex(prompt, PATCHING, *flags, config=BUILT_IN)
    assert len(codex_items(run, "command_execution")) == 1
    assert codex_items(run, "error") == []
    summary = f"Hello from {fake_upstream.last.persona}."
    assert summary in messages_from(fake_upstream.last, "user")[-1]
    first, compaction, last = [tokens_of(each["usage"]) for each in agents.purse.receipts()]
    assert codex_tokens(run) == first + last
    assert agents.purse.charged() == first + compaction + last


def test_a_turn_after_a_turn(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """A session that is resumed has its calls and their reasoning, which some vendors insist on."""
    agents.codex(script(call("exec_command", cmd="echo fare")), PLAIN)
    run = agents.codex(script(), PLAIN, "resume", "--last")
    roles = [message["role"] for message in fake_upstream.last.body["messages"]]
    assert [role for role in roles if role != "system"][-5:] == [
        *("user", "assistant", "tool", "assistant", "user")
    ]
    check(run, agents, calls=3)


def test_a_turn_over_websocket(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """The same turn over one socket, of which nothing falls back to HTTP."""
    run = agents.codex(
        script(call("exec_command", cmd="touch box.txt")),
        PLAIN,
        config=CUSTOM + "supports_websockets = true\n",
    )
    assert (agents.work / "box.txt").exists()
    assert codex_items(run, "command_execution")
    check(run, agents, calls=2)

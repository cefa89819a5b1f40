"""Claude Code over vendors that speak chat only, and over one that speaks the Messages API.

Each test ends by comparing what Claude Code says that it used with the receipts of the gateway.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.clients.agents import Agents, Run, claude_blocks, claude_result, claude_tokens
from tests.clients.gateway import (
    ALIAS,
    BREAKING,
    NATIVE,
    PLAIN,
    UPSTREAM_NAMES,
    Purse,
    tokens_of,
)
from tests.clients.pictures import png
from tests.clients.turns import of, turns
from tests.e2e.serving import Serving
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.parametrize("gateway", [*UPSTREAM_NAMES, *NATIVE], indirect=True)
TOKENS = "tokens: 1000 200 50 20"
THOUGHT = "think: First the box."


def call(name: str, **arguments: Any) -> str:
    """The line of a script that calls a tool."""
    return f"call: {name} {json.dumps(arguments)}"


def script(*lines: str) -> str:
    """A script that ends with a thought and the text."""
    return "\n".join((*lines, THOUGHT, "say: It is done.", TOKENS))


def shell(command: str) -> str:
    return call("Bash", command=command, description="Does it.")


def check(run: Run, agents: Agents, calls: int) -> None:
    """The turn ended with the text, after so many calls, and Claude Code counts what was charged.

    The one thing that it complains of is a model that it has never heard of.
    """
    said = [line for line in run.stderr.splitlines() if "unrecognized_model" not in line]
    assert said == []
    result = claude_result(run)
    assert (result["is_error"], result["result"]) == (False, "It is done.")
    assert {receipt["dialect"] for receipt in agents.purse.receipts()} == {"messages"}
    assert len(agents.purse.receipts()) == calls
    assert claude_tokens(run) == agents.purse.charged()


def test_a_turn_with_a_shell_call(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """The command runs, and its output reaches the upstream behind what was thought and called."""
    run = agents.claude(script(shell("echo fa''re > box.txt; cat box.txt")), PLAIN)
    assert (agents.work / "box.txt").read_text(encoding="utf-8") == "fare\n"
    (used,) = claude_blocks(run, "tool_use")
    assert used["name"] == "Bash"
    kinds = [kind for kind, _ in turns(fake_upstream.last) if kind not in ("system", "user")]
    assert kinds == ["thought", "called", "returned"]
    assert of(fake_upstream.last, "thought") == ["First the box."]
    ((answers, output),) = of(fake_upstream.last, "returned")
    ((called, arguments),) = of(fake_upstream.last, "called")
    assert (answers, output) == (called, "fare")
    assert arguments["command"] == used["input"]["command"]
    check(run, agents, calls=2)


def test_a_turn_with_two_parallel_calls(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """Both tools are used, and each result answers its own call."""
    path = str(agents.work / "two.txt")
    calls = [shell("touch one.txt; echo one"), call("Write", file_path=path, content="two\n")]
    run = agents.claude(script(*calls), PLAIN)
    assert sorted(each.name for each in agents.work.iterdir()) == ["one.txt", "two.txt"]
    called = dict(of(fake_upstream.last, "called"))
    returned = dict(of(fake_upstream.last, "returned"))
    assert list(returned) == list(called)
    (shells,) = (each for each, arguments in called.items() if "command" in arguments)
    assert returned.pop(shells) == "one"
    assert "two.txt" in json.dumps(returned)
    check(run, agents, calls=2)


def test_thinking_is_shown(agents: Agents) -> None:
    """Before the text, and signed, so that it may be brought back."""
    run = agents.claude(script(), PLAIN)
    (thought,) = claude_blocks(run, "thinking")
    assert thought["thinking"] == "First the box."
    assert len(thought["signature"]) > 16
    check(run, agents, calls=1)


def test_a_turn_with_an_image(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """A picture that is read arrives with the result of the call, or behind it."""
    picture = agents.work / "dot.png"
    picture.write_bytes(png())
    agents.claude(script(call("Read", file_path=str(picture))), PLAIN)
    found = json.dumps(fake_upstream.last.body["messages"])
    assert base64.b64encode(png()).decode() in found
    assert len(agents.purse.receipts()) == 2


def test_an_unknown_model_is_one_of_ours_by_an_alias(
    agents: Agents, fake_upstream: FakeUpstream
) -> None:
    """Claude Code asks for a name that no vendor has, and reads it again in the answer."""
    run = agents.claude(script(shell("echo fare")), ALIAS)
    assert list(claude_result(run)["modelUsage"]) == [ALIAS]
    assert {receipt["model"] for receipt in agents.purse.receipts()} == {PLAIN}
    assert fake_upstream.last.body["model"] in (NATIVE | UPSTREAM_NAMES).values()
    check(run, agents, calls=2)


def test_a_resumed_session_has_what_was_called(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """With the reasoning before it, which some vendors insist on."""
    agents.claude(script(shell("echo fare")), PLAIN)
    run = agents.claude(script(), PLAIN, "--continue")
    kinds = [kind for kind, _ in turns(fake_upstream.last) if kind not in ("system", "user")]
    assert kinds[:3] == ["thought", "called", "returned"]
    assert kinds[3:] in (["thought", "assistant"], ["assistant"])  # what no call needs may go
    assert of(fake_upstream.last, "assistant") == ["It is done."]
    check(run, agents, calls=3)


def test_a_session_is_compacted(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """The summary is a call like any other, and what comes after begins with it."""
    agents.claude(script(), PLAIN)
    summary = "<summary>There was a box.</summary>"
    agents.claude(f"/compact {TOKENS}\n{THOUGHT}\nsay: {summary}", PLAIN, "--continue")
    run = agents.claude(script(), PLAIN, "--continue")
    # Without its tags it is the model's; with them it is what was asked for.
    assert "\nThere was a box.\n" in "".join(of(fake_upstream.last, "user"))
    check(run, agents, calls=3)


def test_a_subagent_has_calls_of_its_own(agents: Agents) -> None:
    """What it uses is in what the whole run used."""
    task = call(
        "Agent",
        description="A task",
        prompt=script(shell("echo fare > box.txt")),
        subagent_type="general-purpose",
        run_in_background=False,
    )
    run = agents.claude(script(task), PLAIN)
    assert (agents.work / "box.txt").exists()
    check(run, agents, calls=4)


def test_tools_that_are_searched_for(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """A tool that was left out of the first request is in the second, and what refers to it is
    told in words where references are unknown.
    """
    search = call("ToolSearch", query="select:CronList", max_results=1)
    run = agents.claude(script(search), PLAIN, ENABLE_TOOL_SEARCH="true")
    before, after = [json.dumps(each.body["tools"]) for each in fake_upstream.requests]
    assert '"CronList"' not in before
    assert '"CronList"' in after
    (result,) = of(fake_upstream.last, "returned")
    assert "CronList" in json.dumps(result)
    check(run, agents, calls=2)


def test_a_web_search_that_nobody_here_can_do(agents: Agents, fake_upstream: FakeUpstream) -> None:
    """Claude Code asks for it in a call of its own. That is refused, since an answer without would
    be taken for what was found, and the model is told.
    """
    run = agents.claude(script(call("WebSearch", query="fares")), PLAIN)
    assert len(fake_upstream.requests) == 2
    (result,) = of(fake_upstream.last, "returned")
    assert "'web_search" in json.dumps(result)
    check(run, agents, calls=2)


def test_the_context_is_counted_for_nothing(
    gateway: Serving, agents: Agents, fake_upstream: FakeUpstream
) -> None:
    """`/context` makes its many counts on an account without credits, too."""
    poor = replace(agents, purse=Purse.fresh(gateway, "0"))
    before = _counts(gateway)
    run = poor.claude("/context", PLAIN)
    result = claude_result(run)
    assert result["is_error"] is False
    assert "| System tools |" in result["result"]
    assert "| System prompt |" in result["result"]
    assert _counts(gateway) - before >= 10
    assert (poor.purse.receipts(), fake_upstream.requests) == ([], [])


def _counts(gateway: Serving) -> float:
    """How often tokens were counted, as the metrics say."""
    metrics = gateway.get("/metrics").body.decode()
    label = re.escape('{route="/v1/messages/count_tokens",status="2xx"}')
    found = re.search(rf"^farebox_requests_total{label} (.+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0


def test_without_credits_it_stops_at_once(
    gateway: Serving, agents: Agents, fake_upstream: FakeUpstream
) -> None:
    """And says why in the gateway's words."""
    poor = replace(agents, purse=Purse.fresh(gateway, "0"))
    run = poor.claude(script(), PLAIN, fails=True)
    result = claude_result(run)
    assert (result["is_error"], result["api_error_status"]) == (True, 402)
    assert "the balance is 0: " in result["result"]
    assert "Add credits" in result["result"]
    (refused,) = poor.purse.receipts()
    assert (refused["outcome"], refused["charge_nanocredits"]) == ("refused", 0)
    assert fake_upstream.requests == []


def test_a_stream_that_breaks_is_made_good_by_a_whole_answer(
    agents: Agents, fake_upstream: FakeUpstream
) -> None:
    """Claude Code asks again without a stream. What was said before the break has a receipt."""
    run = agents.claude(script().replace(THOUGHT, "think:" + " well" * 20), BREAKING)
    assert claude_result(run)["result"] == "It is done."
    assert [each.body.get("stream", False) for each in fake_upstream.requests] == [True, False]
    broken, whole = agents.purse.receipts()
    assert (broken["outcome"], whole["outcome"]) == ("upstream_failed", "complete")
    assert tokens_of(whole["usage"]) == claude_tokens(run)

"""What the fake says to a script: calls by name, counted tokens, and an end to the calls."""

from __future__ import annotations

from typing import Any

from tests.fakes.answers import answer_to
from tests.fakes.personas import PERSONAS

SCRIPT = 'call: add {"n": 1}\ncall: add {"n": 2}\nsay: done\ntokens: 1000 200 50 20'
ASKED: dict[str, Any] = {"role": "user", "content": SCRIPT}
CALLED: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": []}
TOOLS = [{"type": "function", "function": {"name": "add"}}]


def _body(*messages: dict[str, Any], tools: list[Any]) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), "tools": tools}


def test_tools_are_called_by_name_with_their_arguments() -> None:
    """Each line is a call of the same turn, which says nothing."""
    answer = answer_to(PERSONAS["mimo"], _body(ASKED, tools=TOOLS))
    assert (answer.tools, answer.arguments) == (("add", "add"), ('{"n": 1}', '{"n": 2}'))
    assert (answer.words, answer.finish) == ((), "tool_calls")


def test_a_turn_ends_once_tools_have_answered() -> None:
    """The same message is then answered with its text."""
    output = {"role": "tool", "content": "3", "tool_call_id": "call_0"}
    answer = answer_to(PERSONAS["mimo"], _body(ASKED, CALLED, output, tools=TOOLS))
    assert (answer.tools, answer.words, answer.finish) == ((), ("done",), "stop")


def test_a_tool_that_is_not_offered_is_not_called() -> None:
    """A client that lost its tools on the way is told so."""
    answer = answer_to(PERSONAS["mimo"], _body(ASKED, tools=[]))
    assert (answer.tools, "".join(answer.words)) == ((), "add is not offered.")


def test_tokens_are_counted_in_the_vendors_own_shape() -> None:
    """DeepSeek says what was cached twice, GLM says nothing of reasoning."""
    usages = [
        answer_to(PERSONAS[name], _body(ASKED, tools=TOOLS)).usage for name in ("deepseek", "zai")
    ]
    assert all(usages)
    assert usages[0] is not None
    assert usages[0]["prompt_cache_hit_tokens"] == 200
    assert usages[1] == {
        "prompt_tokens": 1000,
        "completion_tokens": 50,
        "total_tokens": 1050,
        "prompt_tokens_details": {"cached_tokens": 200},
    }

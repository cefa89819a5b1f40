"""A call of the Messages API becomes a chat completion: its fields, what passes and what not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from farebox.dialects import messages as dialect
from farebox.dialects.messages_to_chat import MessagesToChat, messages_to_chat
from farebox.errors import BadRequest
from tests.dialects.asking import (
    MARK,
    assistant,
    body,
    body_of,
    call_for,
    function,
    refused,
    result,
    returned,
    sent,
    text,
    tool,
    use,
    user,
)
from tests.dialects.translating import around, called
from tests.fakes.personas import PERSONAS

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def test_a_plain_text_is_a_users_message() -> None:
    """And nothing else is added: the cap is the vendor's to set."""
    assert body(user("Hi")) == {"model": "m", "messages": [user("Hi")]}


def test_the_call_is_the_same_but_for_what_belongs_to_its_dialect() -> None:
    """What billing and routing know stays."""
    asked = replace(
        call_for(
            stream=True,
            speed="fast",
            tools=[
                {"type": "web_search_20250305", "name": "web_search"},
                {"name": "f", "input_schema": {"type": "object"}},
            ],
            cache_control={"type": "ephemeral", "ttl": "1h"},
        ),
        passed_headers=((b"anthropic-beta", b"x"),),
    )
    outgoing = messages_to_chat(asked, around()).call
    assert outgoing == replace(
        asked,
        dialect="chat",
        fields=outgoing.fields,
        hosted_tools=(),
        passed_headers=(),
        effort_is_wish=True,
    )
    assert (outgoing.output_cap, outgoing.service_tier, outgoing.writes_1h) == (100, "fast", True)


def _as_claude_code_asks() -> MessagesToChat:
    return sent(
        user(text("<system-reminder>Rules.</system-reminder>"), text("Go on.", cache_control=MARK)),
        assistant(
            {"type": "thinking", "thinking": "Hm.", "signature": "EqQBCkYIBxgCKkBfake"},
            text("I look."),
            use("toolu_1", "Bash", input={"command": "ls"}),
            use("toolu_2", "Read", input={"file_path": "/a"}),
        ),
        user(
            result("toolu_1", "a\nb"),
            result("toolu_2", [text("no such file")], is_error=True, cache_control=MARK),
            text("Quick."),
        ),
        {"role": "system", "content": "The date is new."},
        system=[
            text("x-anthropic-billing-header: cc_version=2.1.197; cch=00000;"),
            text("You are Claude Code.", cache_control=MARK),
            text("Be brief.", cache_control={**MARK, "ttl": "1h"}),
        ],
        tools=[
            tool("Bash", description="Runs.", input_schema={"$schema": "x", **SCHEMA}),
            tool("Read"),
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
        ],
        thinking={"type": "enabled", "budget_tokens": 31_999},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        metadata={"user_id": '{"device_id":"d"}'},
        stream=True,
        temperature=1,
    )


def test_a_request_of_claude_codes_becomes_chat() -> None:
    """The billing header, marks and what manages a context are left out; the tools are all
    there.
    """
    to = _as_claude_code_asks()
    assert body_of(to) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You are Claude Code.\n\nBe brief."},
            user("<system-reminder>Rules.</system-reminder>\n\nGo on."),
            called(
                ("toolu_1", "Bash", '{"command":"ls"}'),
                ("toolu_2", "Read", '{"file_path":"/a"}'),
                content="I look.",
            ),
            returned("toolu_1", "a\nb"),
            returned("toolu_2", "Error: no such file"),
            user("Quick."),
            {"role": "system", "content": "The date is new."},
        ],
        "temperature": 1,
        "reasoning_effort": "high",
        "tools": [
            function("Bash", {"$schema": "x", **SCHEMA}, description="Runs."),
            function("Read"),
        ],
        "stream": True,
    }
    assert PERSONAS["openai"].refuses(body_of(to)) is None
    assert to.adjusted == (
        "tools.web_search=dropped",
        "cache_control=dropped",
        "messages.thinking=dropped",
        "context_management=dropped",
    )
    assert (to.shows_thinking, to.omits_thinking, to.stop_sequences) == (True, False, ())
    assert sorted(to.tools) == ["Bash", "Read"]


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 3}, None),
        ({"temperature": None, "top_p": None, "top_k": None, "thinking": None}, {}),
        ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stop_sequences": []}, {}),
        ({"stop_sequences": None, "output_config": None, "system": None, "tools": None}, {}),
        ({"output_config": {}}, {}),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "max"}),
        ({"output_config": {"effort": None, "format": None, "task_budget": None}}, {}),
        ({"metadata": {"user_id": "u"}, "service_tier": "auto", "speed": "standard"}, {}),
        ({"inference_geo": "global", "fallbacks": [], "mcp_servers": [], "betas": ["b"]}, {}),
        ({"container": None, "thread": None, "compaction": None, "diagnostics": None}, {}),
        ({"context_management": None, "cache_control": None}, {}),
        ({"stream": False}, {}),
        ({"stream": True}, None),
        ({"tool_choice": {"type": "auto"}}, {}),
        ({"seed": 1, "min_p": 0.1, "repetition_penalty": 1.1, "user": "u"}, None),
    ],
)
def test_fields_mean_the_same_or_are_the_gateways(
    fields: dict[str, Any], more: dict[str, Any] | None
) -> None:
    """None: they pass as they are. What vendors know beyond both APIs passes too."""
    to = sent(**fields)
    expected = {"model": "m", "messages": [user()], **(fields if more is None else more)}
    assert body_of(to) == expected
    assert to.adjusted == ()


def test_sequences_that_stop_are_told() -> None:
    """Who reads the answer must know which of them it may have met."""
    assert sent(stop_sequences=["a", "b"]).stop_sequences == ("a", "b")


@pytest.mark.parametrize(
    ("thinking", "shown", "omitted", "effort"),
    [
        (None, False, False, None),
        ({"type": "disabled"}, False, False, "none"),
        ({"type": "adaptive"}, True, False, None),
        ({"type": "adaptive", "display": "omitted"}, True, True, None),
        ({"type": "adaptive", "display": "summarized"}, True, False, None),
        ({"type": "between_tools"}, True, False, None),
        ({"type": "enabled", "budget_tokens": 1024}, True, False, "low"),
        ({"type": "enabled", "budget_tokens": 4095}, True, False, "low"),
        ({"type": "enabled", "budget_tokens": 4096}, True, False, "medium"),
        ({"type": "enabled", "budget_tokens": 16_383}, True, False, "medium"),
        ({"type": "enabled", "budget_tokens": 16_384, "display": "omitted"}, True, True, "high"),
    ],
)
def test_thinking_is_an_effort_and_what_the_client_sees(
    thinking: Any, shown: bool, omitted: bool, effort: str | None
) -> None:
    """All efforts are wishes, which a model that knows none may leave unheard."""
    to = sent(thinking=thinking)
    assert (to.shows_thinking, to.omits_thinking) == (shown, omitted)
    assert body_of(to).get("reasoning_effort") == effort
    assert to.call.effort_is_wish


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        ({"type": "adaptive"}, "low"),
        ({"type": "enabled", "budget_tokens": 20000}, "low"),
        ({"type": "disabled"}, "none"),
    ],
)
def test_an_effort_counts_for_more_than_thinking_unless_that_is_off(
    thinking: dict[str, Any], effort: str
) -> None:
    """It is said outright; but vendors that have a switch take any effort for "on"."""
    fields = {"thinking": thinking, "output_config": {"effort": "low"}}
    assert body(**fields)["reasoning_effort"] == effort


def test_the_systems_last_word_on_effort_counts_most() -> None:
    """It is about the turn that is asked for."""
    said = [
        user("a"),
        {"role": "system", "content": "x", "output_config": {"effort": "high"}},
        {"role": "system", "content": "y", "output_config": {"effort": "medium"}},
        {"role": "system", "content": "z", "output_config": {}},
    ]
    assert body(*said, output_config={"effort": "low"})["reasoning_effort"] == "medium"


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (SCHEMA, True),
        ({**SCHEMA, "required": []}, False),
        ({**SCHEMA, "required": None}, False),
        ({"type": "object", "properties": {}}, False),
        ({"type": "object"}, False),
        ({"type": "array", "items": SCHEMA}, True),
        ({"type": "array", "items": {"anyOf": [SCHEMA, {"type": "object"}]}}, False),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_a_schema_for_the_answer_is_a_response_format(schema: Any, strict: bool, old: bool) -> None:
    """Strict where OpenAI can be, whose rules are narrower; also where its beta put it."""
    form = {"type": "json_schema", "schema": schema}
    fields = {"output_format": form} if old else {"output_config": {"format": form}}
    wanted = {"name": "answer", "schema": schema, **({"strict": True} if strict else {})}
    assert body(**fields)["response_format"] == {"type": "json_schema", "json_schema": wanted}


@pytest.mark.parametrize(
    ("fields", "adjusted"),
    [
        ({"context_management": {"edits": []}}, "context_management"),
        ({"speed": "fast"}, "speed"),
        ({"diagnostics": {"previous_message_id": "msg_1"}}, "diagnostics"),
        ({"container": {"skills": [{"skill_id": "pdf"}]}}, "container"),
        ({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}, "mcp_servers"),
        ({"output_config": {"task_budget": {"total": 5}}}, "output_config.task_budget"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
        ({"MAX_completion_tokens": 5}, "MAX_completion_tokens"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"stop": ["x"]}, "stop"),
        ({"n": 2}, "n"),
        ({"Top_K": 2}, "Top_K"),
        ({"cache_control": MARK}, "cache_control"),
    ],
)
def test_what_is_left_out_is_named(fields: dict[str, Any], adjusted: str) -> None:
    """Chat's own words too, behind which it would be asked for other than what was held for."""
    to = sent(**fields)
    assert body_of(to) == {"model": "m", "messages": [user()]}
    assert to.adjusted == (f"{adjusted}=dropped",)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"thread": {"id": "t"}}, "thread", "unsupported_value"),
        ({"user_profile_id": "u"}, "user_profile_id", "unsupported_value"),
        ({"workspace_id": "w"}, "workspace_id", "unsupported_value"),
        ({"fallback_credit_token": "t"}, "fallback_credit_token", "unsupported_value"),
        ({"billing_policy": {"x": 1}}, "billing_policy", "unsupported_value"),
        ({"compaction": {"type": "summarize"}}, "compaction", "unsupported_value"),
        ({"container": "container_1"}, "container", "unsupported_value"),
        ({"container": {"id": "container_1", "skills": []}}, "container", "unsupported_value"),
        ({"thinking": "enabled"}, "thinking", "invalid_value"),
        ({"thinking": {}}, "thinking.type", "invalid_value"),
        ({"thinking": {"type": "on"}}, "thinking.type", "invalid_value"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "invalid_value"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": True}},
            "thinking.budget_tokens",
            "invalid_value",
        ),
        ({"thinking": {"type": "adaptive", "display": "x"}}, "thinking.display", "invalid_value"),
        ({"output_config": 5}, "output_config", "invalid_value"),
        ({"output_config": {"effort": "none"}}, "output_config.effort", "invalid_value"),
        ({"output_config": {"format": {}}}, "output_config.format.type", "invalid_value"),
        (
            {"output_config": {"format": {"type": "json_schema"}}},
            "output_config.format.schema",
            "invalid_value",
        ),
        ({"output_format": {"type": "x"}}, "output_format.type", "invalid_value"),
        ({"stop_sequences": "x"}, "stop_sequences", "invalid_value"),
        ({"stop_sequences": ["x", 5]}, "stop_sequences[1]", "invalid_value"),
        ({"cache_control": "1h"}, "cache_control", "invalid_value"),
        ({"cache_control": {"type": "eternal"}}, "cache_control.type", "invalid_value"),
        ({"cache_control": {**MARK, "ttl": "2h"}}, "cache_control.ttl", "invalid_value"),
        ({"system": [{"type": "image"}]}, "system[0].type", "invalid_value"),
        ({"system": [text("x"), {"type": "text"}]}, "system[1].text", "invalid_value"),
        ({"messages": [assistant("")]}, "messages", "invalid_value"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], param: str, code: str) -> None:
    """Each with where it stands, in the client's words."""
    error = refused(**fields)
    assert (error.status, error.param, error.code) == (400, param, code), error.message


def test_errors_say_what_is_wrong_and_what_to_do() -> None:
    """In one sentence or two."""
    assert refused(thread={"id": "t"}).message == (
        "'thread' cannot be had with this model. Leave it out."
    )
    assert refused(thinking={"type": "on"}).message == (
        "'thinking.type' must be disabled, enabled, adaptive or between_tools, not 'on'."
    )


@pytest.mark.parametrize("depth", [995, 5000])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", '[{"name":"f","input_schema":DEEP}]'),
        ("output_config", '{"format":{"type":"json_schema","schema":DEEP}}'),
        ("system", '[{"type":"text","text":"x","y":DEEP}]'),
        ("messages", '[{"role":"user","content":[{"type":"text","text":"x","y":DEEP}]}]'),
    ],
)
def test_what_is_nested_too_deeply_is_refused(name: str, value: str, depth: int) -> None:
    """By a sentence, wherever the depth is."""
    deep = value.replace("DEEP", '{"a":' * depth + "1" + "}" * depth)
    rest = '"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]'
    if name == "messages":
        rest = '"model":"m","max_tokens":9'
    with pytest.raises(BadRequest, match="nested too deeply"):
        messages_to_chat(dialect.parse(f'{{{rest},"{name}":{deep}}}'.encode(), "req_1"), around())

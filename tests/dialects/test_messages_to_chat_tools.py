"""Tools of the Messages API become chat functions, and choices of them choices of those."""

from __future__ import annotations

from typing import Any

import pytest

from farebox.dialects.chat_tools import Tool
from tests.dialects.asking import (
    assistant,
    body,
    body_of,
    function,
    refused,
    result,
    sent,
    tool,
    use,
    user,
)
from tests.dialects.translating import called

STRICT = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
COMPUTER = {"type": "computer_20250124", "name": "computer", "display_width_px": 1}
MOVING = "old_path new_path"
LONG = "mcp__a_server_of_many_tools__" + "x" * 90


def _tools(*tools: Any, **fields: Any) -> dict[str, Any]:
    """What chat is told of these tools."""
    sent = body(tools=list(tools), **fields)
    return {name: sent[name] for name in sent if name not in ("model", "messages")}


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (tool(), function()),
        (tool(type="custom", description=None, strict=None), function()),
        (tool(type=None, description="Does."), function(description="Does.")),
        (tool(input_schema=STRICT, strict=True), function(parameters=STRICT, strict=True)),
        (tool(input_schema=STRICT, strict=False), function(parameters=STRICT)),
        (tool(input_schema={**STRICT, "required": []}, strict=True), None),
        (tool(input_schema={}), function()),
        (tool(input_schema={"type": "object", "properties": None, "required": None}), function()),
        (
            tool(defer_loading=True, eager_input_streaming=True, allowed_callers=["direct"]),
            function(),
        ),
    ],
)
def test_a_tool_is_a_function(declared: Any, expected: Any) -> None:
    """Strict where OpenAI can be, whose rules are narrower."""
    wanted = expected or function(parameters={**STRICT, "required": []})
    assert _tools(declared) == {"tools": [wanted]}


def test_examples_of_input_are_dropped_and_named() -> None:
    """Chat has no place for them."""
    to = sent(tools=[tool(input_examples=[{"a": 1}])])
    assert to.adjusted == ("tools.input_examples=dropped",)
    assert body_of(to)["tools"] == [function()]


@pytest.mark.parametrize(
    ("kind", "name", "required", "properties"),
    [
        ("bash_20250124", "bash", [], "command restart"),
        (
            "text_editor_20250728",
            "str_replace_based_edit_tool",
            ["command", "path"],
            "command path view_range file_text old_str new_str insert_line insert_text",
        ),
        (
            "text_editor_20250124",
            "str_replace_editor",
            ["command", "path"],
            "command path view_range file_text old_str insert_line new_str",
        ),
        (
            "memory_20250818",
            "memory",
            ["command"],
            "command path view_range file_text old_str new_str insert_line insert_text " + MOVING,
        ),
    ],
)
def test_tools_that_anthropic_defines_have_a_schema_of_ours(
    kind: str, name: str, required: list[str], properties: str
) -> None:
    """Clients run them, and other models have never heard of them."""
    to = sent(tools=[{"type": kind, "name": name}])
    (declared,) = body_of(to)["tools"]
    schema = declared["function"]["parameters"]
    assert declared["function"]["name"] == name
    assert declared["function"]["description"]
    assert schema["required"] == required
    assert list(schema["properties"]) == properties.split()
    assert (to.tools, to.adjusted) == ({name: Tool("function", name)}, ())


def test_early_editors_can_take_back_what_they_did() -> None:
    """Later ones cannot."""
    early, late = (
        body(tools=[{"type": f"text_editor_{date}", "name": "e"}])["tools"][0]["function"]
        for date in ("20241022", "20250429")
    )
    assert early["parameters"]["properties"]["command"]["enum"][-1] == "undo_edit"
    assert late["parameters"]["properties"]["command"]["enum"][-1] == "insert"


def test_what_chat_has_no_equivalent_of_is_dropped_and_named() -> None:
    """Without the dates; the client's own stay."""
    kinds = """
    web_search_20260318 web_fetch_20260309 code_execution_20260521 tool_search_tool_regex
    advisor_20260301 computer_toolset_20260801 browser_toolset_20260801 something_20270101
    """
    to = sent(tools=[SEARCH, COMPUTER, tool(), *({"type": kind} for kind in kinds.split())])
    assert body_of(to) == {"model": "m", "messages": [user()], "tools": [function()]}
    assert to.adjusted == (
        "tools.web_search=dropped",
        "tools.computer=dropped",
        "tools.web_fetch=dropped",
        "tools.code_execution=dropped",
        "tools.tool_search=dropped",
        "tools.advisor=dropped",
        "tools.computer_toolset=dropped",
        "tools.browser_toolset=dropped",
        "tools.something=dropped",
    )
    toolset = {"type": "mcp_toolset", "mcp_server_name": "x"}
    assert sent(tools=[tool(), toolset]).adjusted == ("tools.mcp_toolset=dropped",)


@pytest.mark.parametrize(
    ("choice", "more"),
    [
        (None, {}),
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "f"},
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
        ({"type": "any", "disable_parallel_tool_use": False}, {"tool_choice": "required"}),
        ({"type": "none", "disable_parallel_tool_use": None}, {"tool_choice": "none"}),
    ],
)
def test_a_choice_is_the_same_in_chats_words(choice: Any, more: dict[str, Any]) -> None:
    """Also where some of the tools had to be left out."""
    expected = {"tools": [function()], **more}
    assert _tools(tool(), tool_choice=choice) == expected
    assert _tools(SEARCH, tool(), COMPUTER, tool_choice=choice) == expected


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "none"}, {"type": "any"}])
def test_no_tools_leave_nothing_to_choose(choice: Any) -> None:
    """Chat takes no choice without tools."""
    assert _tools(tool_choice={**choice, "disable_parallel_tool_use": True}) == {}


@pytest.mark.parametrize(
    ("tools", "choice", "kind"),
    [
        ([SEARCH, tool()], {"type": "tool", "name": "web_search"}, "web_search_20250305"),
        ([COMPUTER, tool()], {"type": "tool", "name": "computer"}, "computer_20250124"),
        ([SEARCH], {"type": "any"}, "web_search_20250305"),
        ([SEARCH], {"type": "auto"}, "web_search_20250305"),
        ([COMPUTER, SEARCH], None, "computer_20250124"),
        ([{"type": "mcp_toolset"}], {"type": "any"}, "mcp_toolset"),
    ],
)
def test_a_forced_tool_that_had_to_be_left_out_is_an_error(
    tools: list[Any], choice: Any, kind: str
) -> None:
    """An answer without it is not what was asked for; nor is one where nothing else was offered."""
    error = refused(tools=tools, tool_choice=choice)
    assert (error.param, error.code) == ("tools", "unsupported_value")
    assert error.message == (
        f"The tool {kind!r} cannot be had with this model. Offer tools of your own, or ask without "
        "any."
    )


def test_tools_that_must_not_be_called_are_missed_by_nobody() -> None:
    """Where none of them can be had."""
    to = sent(tools=[SEARCH], tool_choice={"type": "none"})
    assert body_of(to) == {"model": "m", "messages": [user()]}
    assert to.adjusted == ("tools.web_search=dropped",)


def test_names_that_chat_cannot_have_are_shortened_and_found_again() -> None:
    """The same in the tools, the choice and earlier calls."""
    to = sent(
        assistant(use(name=LONG)),
        user(result()),
        tools=[tool(LONG), tool("a.b")],
        tool_choice={"type": "tool", "name": LONG},
    )
    (short,) = (name for name, known in to.tools.items() if known.name == LONG)
    assert len(short) == 64
    assert dict(to.tools) == {short: Tool("function", LONG), "a_b": Tool("function", "a.b")}
    assert body_of(to) == {
        "model": "m",
        "messages": [
            called(("toolu_1", short, '{"a":1}')),
            {"role": "tool", "tool_call_id": "toolu_1", "content": "ok"},
        ],
        "tools": [function(short), function("a_b")],
        "tool_choice": {"type": "function", "function": {"name": short}},
    }


def test_earlier_calls_may_be_of_tools_that_are_no_longer_there() -> None:
    """Their names find the way back too."""
    to = sent(assistant(use(name="x.y")), user(result()))
    assert dict(to.tools) == {"x_y": Tool("function", "x.y")}
    assert "tools" not in to.call.fields


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [tool("")]}, "tools[0].name"),
        ({"tools": [tool(), {"name": "g"}]}, "tools[1].input_schema"),
        ({"tools": [tool(input_schema="{}")]}, "tools[0].input_schema"),
        ({"tools": [tool(description=5)]}, "tools[0].description"),
        ({"tools": [tool(type="function")]}, "tools[0].type"),
        ({"tools": [tool(type="web_search")]}, "tools[0].type"),
        ({"tools": [{"type": "bash_20250124"}]}, "tools[0].name"),
        ({"tools": [tool(cache_control="x")]}, "tools[0].cache_control"),
        ({"tools": [tool()], "tool_choice": {"type": "required"}}, "tool_choice.type"),
        ({"tools": [tool()], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [tool()], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice"),
        (
            {
                "tools": [tool()],
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": "yes"},
            },
            "tool_choice.disable_parallel_tool_use",
        ),
    ],
)
def test_bad_tools_are_named(fields: dict[str, Any], param: str) -> None:
    """By where the error stands, in the client's words."""
    error = refused(**fields)
    assert (error.status, error.param, error.code) == (400, param, "invalid_value"), error.message
    assert param in error.message


def test_a_tool_in_the_form_of_chat_is_told_apart() -> None:
    """By a sentence that says which form is wanted."""
    assert refused(tools=[{"type": "function", "function": {"name": "f"}}]).message == (
        "'tools[0].type' must be custom, or a tool with its version's date, not 'function'."
    )

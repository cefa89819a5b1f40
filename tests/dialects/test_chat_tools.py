"""Tools become functions under names that chat takes and that lead back to the client's tool."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.chat_tools import Toolbox
from farebox.dialects.responses_to_chat import Tool
from farebox.errors import BadRequest
from tests.dialects.translating import body, call, function, messages, namespace, sent, user

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
EMPTY = {"type": "object", "properties": {}}


def _functions(*tools: Any, **fields: Any) -> list[dict[str, Any]]:
    declared = body("Hi", tools=list(tools), **fields).get("tools", [])
    assert all(tool["type"] == "function" for tool in declared)
    return [tool["function"] for tool in declared]


def _names(*tools: Any, **fields: Any) -> list[str]:
    return [tool["name"] for tool in _functions(*tools, **fields)]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {"parameters": EMPTY}),
        ({"parameters": None, "strict": None, "description": None}, {"parameters": EMPTY}),
        ({"parameters": {}, "strict": False}, {"parameters": EMPTY}),
        (
            {"description": "D", "strict": True, "parameters": {"type": "object"}},
            {"description": "D", "strict": True, "parameters": {"type": "object"}},
        ),
        (
            {"defer_loading": True, "output_schema": {}, "allowed_callers": ["direct"]},
            {"parameters": EMPTY},
        ),
    ],
)
def test_a_function_is_a_function(more: dict[str, Any], expected: dict[str, Any]) -> None:
    """With what chat knows of it."""
    assert _functions(function("f", **more)) == [{"name": "f", **expected}]


def test_the_keyword_encrypted_is_taken_out_of_schemas() -> None:
    """Wherever it is a keyword, and nowhere else: a property may have the name."""
    leaf = {"type": "string", "encrypted": True}
    schema = {
        "type": "object",
        "encrypted": False,
        "properties": {"encrypted": leaf, "b": {"items": [leaf], "anyOf": [leaf]}},
        "$defs": {"encrypted": leaf},
        "default": {"encrypted": 1},
        "required": ["encrypted"],
    }
    plain = {"type": "string"}
    assert _functions(function("f", parameters=schema)) == [
        {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {"encrypted": plain, "b": {"items": [plain], "anyOf": [plain]}},
                "$defs": {"encrypted": plain},
                "default": {"encrypted": 1},
                "required": ["encrypted"],
            },
        }
    ]


def test_a_custom_tool_is_a_function_of_one_text() -> None:
    """Its grammar is told in words."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}
    tool = {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": grammar}
    to = sent("Hi", tools=[tool, {"type": "custom", "name": "say", "format": {"type": "text"}}])
    patch, say = _functions(tool, {"type": "custom", "name": "say", "format": {"type": "text"}})
    assert patch["description"].startswith("Edits.\n\n")
    assert patch["description"].endswith("lark grammar:\nstart: /x/")
    assert say["description"] == ""
    for made in (patch, say):
        schema = made["parameters"]
        assert schema["properties"]["input"]["type"] == "string"
        assert (schema["required"], schema["additionalProperties"]) == (["input"], False)
    assert to.tools == {"apply_patch": Tool("custom", "apply_patch"), "say": Tool("custom", "say")}


def test_namespaces_are_flattened() -> None:
    """`functions` is the namespace of what needs none."""
    tools = [
        namespace("functions", function("wait"), {"type": "custom", "name": "exec"}),
        namespace("clock", function("now")),
        function("plain"),
    ]
    assert _names(*tools) == ["wait", "exec", "clock__now", "plain"]
    assert sent("Hi", tools=tools).tools == {
        "wait": Tool("function", "wait", "functions"),
        "exec": Tool("custom", "exec", "functions"),
        "clock__now": Tool("function", "now", "clock"),
        "plain": Tool("function", "plain"),
    }


def test_names_that_would_be_one_stay_two() -> None:
    """The second has a hash of what the client calls it, the same in each turn."""
    tools = [
        function("a__b"),
        namespace("a", function("b")),
        function("x.y"),
        function("x_y"),
        function("n" * 65),
        namespace("m" * 40, function("n" * 40)),
        function("天気"),
    ]
    names = _names(*tools)
    assert names[0] == "a__b"
    assert names[2] == "x_y"
    assert re.fullmatch(r"a__b_[0-9a-f]{8}", names[1])
    assert re.fullmatch(r"x_y_[0-9a-f]{8}", names[3])
    assert re.fullmatch(r"n{55}_[0-9a-f]{8}", names[4])
    assert names[6] == "__"
    assert all(NAME.fullmatch(name) for name in names)
    assert len(set(names)) == len(tools)
    assert names == _names(*tools)
    assert sent("Hi", tools=tools).tools[names[1]] == Tool("function", "b", "a")


def test_tools_come_from_items_too() -> None:
    """Wherever these stand; one that is declared again replaces the first, in its place."""
    to = body(
        [
            user(),
            {"type": "additional_tools", "tools": [function("g"), function("f", strict=True)]},
        ],
        tools=[function("f")],
    )
    assert [tool["function"] for tool in to["tools"]] == [
        {"name": "f", "parameters": EMPTY, "strict": True},
        {"name": "g", "parameters": EMPTY},
    ]
    assert to["messages"] == [user()]


def test_a_search_for_tools_by_the_client_is_a_function() -> None:
    """What it found is told, and declared from then on."""
    search = {"type": "tool_search", "execution": "client", "description": "Finds."}
    items = [
        user(),
        {"type": "tool_search_call", "call_id": "c1", "arguments": {"query": "mail"}},
        {
            "type": "tool_search_output",
            "call_id": "c1",
            "tools": [namespace("mail", function("send"))],
        },
        {"type": "tool_search_call", "call_id": "c2", "arguments": '{"query":1}'},
        {"type": "tool_search_output", "call_id": "c2", "tools": []},
    ]
    to = sent(items, tools=[search])
    assert to.tools == {
        "tool_search": Tool("tool_search", "tool_search"),
        "mail__send": Tool("function", "send", "mail"),
    }
    assert [tool["function"]["name"] for tool in body(items, tools=[search])["tools"]] == [
        "tool_search",
        "mail__send",
    ]
    said = messages(*items, tools=[search])
    assert said[1]["tool_calls"][0]["function"] == {
        "name": "tool_search",
        "arguments": '{"query":"mail"}',
    }
    assert said[2]["content"] == "Found, and available from now on: mail__send"
    assert said[4]["content"] == "Found none."


def test_a_search_for_tools_by_the_vendor_is_left_out() -> None:
    """All tools are sent instead, also those that were to be found, and what it found before."""
    to = sent(
        [
            user(),
            {"type": "tool_search_call", "call_id": None, "arguments": {}},
            {"type": "tool_search_output", "call_id": None, "tools": [function("g")]},
        ],
        tools=[{"type": "tool_search"}, function("f", defer_loading=True)],
    )
    assert list(to.tools) == ["f", "g"]
    assert to.adjusted == ("tools.tool_search=dropped",)


def test_the_clients_function_and_the_search_may_share_a_name() -> None:
    """They are two tools."""
    search = {"type": "tool_search", "execution": "client"}
    to = sent("Hi", tools=[function("tool_search"), search])
    assert sorted(tool.kind for tool in to.tools.values()) == ["function", "tool_search"]


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("web_search", "web_search"),
        ("web_search_preview_2025_03_11", "web_search"),
        ("computer_use_preview", "computer"),
        ("file_search", "file_search"),
        ("mcp", "mcp"),
        ("shell", "shell"),
        ("a b,c", "a_b_c"),
    ],
)
def test_tools_that_run_at_a_vendor_are_dropped_and_named(kind: str, named: str) -> None:
    """Codex always declares a search of the web: a refusal would make it useless."""
    for choice in (None, "auto", "none"):
        to = sent("Hi", tools=[{"type": kind}, {"type": kind}], tool_choice=choice)
        assert "tools" not in to.call.fields
        assert "tool_choice" not in to.call.fields
        assert to.adjusted == (f"tools.{named}=dropped",)


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([{"type": "web_search"}, function("f")], {"type": "web_search"}),
        ([{"type": "mcp", "server_label": "s"}], {"type": "mcp", "server_label": "s"}),
        ([{"type": "web_search"}], "required"),
        (
            [{"type": "web_search"}, function("f")],
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]},
        ),
    ],
)
def test_a_tool_that_must_run_at_a_vendor_is_refused(tools: Any, choice: Any) -> None:
    """An answer without it is not what was asked for."""
    with pytest.raises(BadRequest) as raised:
        sent("Hi", tools=tools, tool_choice=choice)
    assert (raised.value.param, raised.value.code) == ("tools", "unsupported_value")


def _allowed(*tools: Any, mode: Any = "auto") -> dict[str, Any]:
    return {"type": "allowed_tools", "mode": mode, "tools": list(tools)}


F = {"type": "function", "name": "f"}


@pytest.mark.parametrize(
    ("choice", "names", "mode"),
    [
        (None, ["f", "n__g", "n__h", "c"], None),
        ("auto", ["f", "n__g", "n__h", "c"], "auto"),
        ("none", ["f", "n__g", "n__h", "c"], "none"),
        ("required", ["f", "n__g", "n__h", "c"], "required"),
        (F, ["f", "n__g", "n__h", "c"], "f"),
        ({"type": "custom", "name": "c"}, ["f", "n__g", "n__h", "c"], "c"),
        ({"type": "function", "name": "g"}, ["f", "n__g", "n__h", "c"], "n__g"),
        (
            {"type": "function", "name": "g", "namespace": "n"},
            ["f", "n__g", "n__h", "c"],
            "n__g",
        ),
        (_allowed(F), ["f"], "auto"),
        (_allowed(F, {"type": "custom", "name": "c"}, mode="required"), ["f", "c"], "required"),
        (_allowed({"type": "namespace", "name": "n"}), ["n__g", "n__h"], "auto"),
        (_allowed({"type": "web_search"}, F), ["f"], "auto"),
        (_allowed({"type": "web_search"}), [], None),
    ],
)
def test_the_choice_is_told_in_chats_words(choice: Any, names: list[str], mode: Any) -> None:
    """A named tool under the upstream's name; allowed tools are those that are sent."""
    tools = [
        function("f"),
        namespace("n", function("g"), function("h")),
        {"type": "custom", "name": "c"},
        {"type": "web_search"},
    ]
    to = body("Hi", tools=tools, tool_choice=choice)
    assert [tool["function"]["name"] for tool in to.get("tools", [])] == names
    if mode is None or mode in ("auto", "none", "required"):
        assert to.get("tool_choice") == mode
    else:
        assert to["tool_choice"] == {"type": "function", "function": {"name": mode}}


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ({"f": 1}, None, "tools"),
        ([function("")], None, "tools[0].name"),
        ([{"type": "function", "function": {"name": "f"}}], None, "tools[0].name"),
        ([function("f", parameters=[])], None, "tools[0].parameters"),
        ([function("f", description=5)], None, "tools[0].description"),
        ([{"type": "namespace", "name": "n"}], None, "tools[0].tools"),
        ([namespace("n", namespace("m"))], None, "tools[0].tools[0].type"),
        ([namespace("n", {"name": "f"})], None, "tools[0].tools[0].type"),
        (
            [{"type": "custom", "name": "c", "format": {"type": "grammar"}}],
            None,
            "tools[0].format.definition",
        ),
        ([function("f")], {"type": "function", "name": "g"}, "tool_choice"),
        ([function("f")], {"type": "function"}, "tool_choice.name"),
        ([function("f")], {"type": 5}, "tool_choice.type"),
        ([function("f")], [], "tool_choice"),
        ([function("f")], _allowed(F, mode="none"), "tool_choice.mode"),
        ([function("f")], {"type": "allowed_tools"}, "tool_choice.tools"),
        ([function("f")], _allowed("f"), "tool_choice.tools[0]"),
    ],
)
def test_malformed_tools_are_named(tools: Any, choice: Any, param: str) -> None:
    """By their place."""
    with pytest.raises(BadRequest) as raised:
        sent("Hi", tools=tools, tool_choice=choice)
    assert raised.value.param == param


def test_earlier_calls_have_the_upstreams_names() -> None:
    """Also of tools that are declared no more, which lead back to what they were."""
    calls = [
        call("c1", "now", "{}", namespace="clock"),
        call("c2", "gone", "{}", namespace="old"),
        call("c3", "clock__now", "{}"),
        {"type": "custom_tool_call", "call_id": "c4", "name": "exec", "input": 'a"b'},
    ]
    tools = [
        namespace("clock", function("now")),
        namespace("functions", {"type": "custom", "name": "exec"}),
    ]
    to = sent(calls, tools=tools)
    made = messages(*calls, tools=tools)[0]["tool_calls"]
    assert [call["function"] for call in made] == [
        {"name": "clock__now", "arguments": "{}"},
        {"name": "old__gone", "arguments": "{}"},
        {"name": "clock__now", "arguments": "{}"},
        {"name": "exec", "arguments": '{"input":"a\\"b"}'},
    ]
    assert to.tools["old__gone"] == Tool("function", "gone", "old")


_NAMES = st.one_of(
    st.sampled_from(["a", "b", "a__b", "a.b", "a_b", "functions", "tool_search", "a" * 64]),
    st.text(min_size=1, max_size=80),
)
_MEMBERS = st.builds(
    lambda kind, name: {"type": kind, "name": name}, st.sampled_from(["function", "custom"]), _NAMES
)
_TOOLS = st.one_of(
    _MEMBERS,
    st.builds(lambda name, tools: namespace(name, *tools), _NAMES, st.lists(_MEMBERS, max_size=4)),
    st.just({"type": "tool_search", "execution": "client"}),
)


@given(st.lists(_TOOLS, max_size=8))
def test_every_name_leads_back(tools: list[dict[str, Any]]) -> None:
    """Each tool has one name that chat takes, and no two the same."""
    toolbox = Toolbox()
    names = toolbox.declare(tools, "tools")
    declared = [
        (member["type"], member.get("name", "tool_search"), space)
        for tool in tools
        for space, members in [
            (tool["name"], tool["tools"]) if tool["type"] == "namespace" else (None, [tool])
        ]
        for member in members
    ]
    assert len(names) == len(declared)
    by_name: dict[str, set[Any]] = {}
    for name, (kind, own, space) in zip(names, declared, strict=True):
        assert NAME.fullmatch(name)
        plain = None if space == "functions" else space
        by_name.setdefault(name, set()).add((kind == "tool_search", own, plain))
        found = toolbox.tools[name]
        assert found.name == own
        assert (None if found.namespace == "functions" else found.namespace) == plain
        assert toolbox.name_of(kind, own, space) == name
    assert all(len(tools) == 1 for tools in by_name.values())
    functions: list[Any] = toolbox.choose(None).functions
    sent_names = [function["function"]["name"] for function in functions]
    assert sorted(sent_names) == sorted(by_name)

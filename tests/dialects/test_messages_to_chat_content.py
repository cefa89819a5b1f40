"""Blocks of every kind become parts of chat messages, or a refusal that says where to look."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dialects.asking import (
    FILE,
    MARK,
    PNG,
    SEEN,
    F,
    assistant,
    body_of,
    chat,
    document,
    function,
    image,
    refused,
    result,
    returned,
    sent,
    system,
    text,
    tool,
    use,
    user,
)
from tests.dialects.translating import called

URL = "https://x.example/a"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (["Hi"], "Hi"),
        ([""], ""),
        ([], "Hi"),
        ([text("a")], "a"),
        ([text("a", citations=None), text("b")], "a\n\nb"),
        ([text("a"), image()], [text("a"), SEEN]),
        (
            [image(type="url", url=URL), text("b")],
            [{"type": "image_url", "image_url": {"url": URL}}, text("b")],
        ),
        ([document()], [{"type": "file", "file": FILE}]),
        (
            [document(title="Bill", context="Of May.")],
            [
                text("Document: Bill\n\nOf May."),
                {"type": "file", "file": {**FILE, "filename": "Bill"}},
            ],
        ),
        (
            [document({"type": "url", "url": URL})],
            [{"type": "file_url", "file_url": {"url": URL}}],
        ),
        (
            [document({"type": "text", "media_type": "text/plain", "data": "It is."}, title="T")],
            "Document: T\n\nIt is.",
        ),
        ([document({"type": "text", "data": "It is."}, title=None)], "It is."),
        ([document({"type": "content", "content": "It is."}, context="C")], "C\n\nIt is."),
        (
            [document({"type": "content", "content": [text("a"), image()]}, title="T")],
            [text("Document: T"), text("a"), SEEN],
        ),
        (
            [
                {
                    "type": "search_result",
                    "source": URL,
                    "title": "T",
                    "content": [text("a"), text("b")],
                }
            ],
            f"T\n{URL}\n\na\n\nb",
        ),
    ],
)
def test_what_users_say(content: list[Any], expected: Any) -> None:
    """Text is a plain string, as every upstream takes it; beside other parts it is one of them."""
    assert chat(user(*content)) == [{"role": "user", "content": expected}]


def test_no_content_is_an_empty_text() -> None:
    """A message without a word is still one."""
    assert chat({"role": "user", "content": []}) == [user("")]


@pytest.mark.parametrize(
    ("content", "more", "expected"),
    [
        ("ok", {}, "ok"),
        (None, {}, ""),
        ([], {}, ""),
        ([text("a"), text("b")], {"is_error": False}, "a\nb"),
        ("no", {"is_error": True}, "Error: no"),
        (None, {"is_error": True}, "Error: "),
        ([{"type": "tool_reference", "tool_name": "g"}], {}, "The tool g is available."),
        (
            [{"type": "browser_state", "tabs": [{"tab_id": 1}]}],
            {},
            'The browser\'s tabs: [{"tab_id":1}]',
        ),
        ([document({"type": "text", "data": "x"}, title="T")], {}, "Document: T\n\nx"),
    ],
)
def test_what_tools_give(content: Any, more: dict[str, Any], expected: str) -> None:
    """Is one text; one that went wrong says so."""
    asked = (assistant(use()), user(result(content=content, **more)))
    assert chat(*asked)[1:] == [returned(content=expected)]


def test_a_result_without_content_is_an_empty_one() -> None:
    """As of a command that says nothing."""
    bare = {"type": "tool_result", "tool_use_id": "toolu_1"}
    assert chat(assistant(use()), user(bare))[1:] == [returned(content="")]


def test_what_tools_show_follows_as_the_users() -> None:
    """Chat's results hold only text."""
    label = text("From the output of tool call toolu_1:")
    assert chat(assistant(use()), user(result(content=[text("seen"), image()]), text("?"))) == [
        called(("toolu_1", "f", F)),
        returned(content="seen"),
        user(label, SEEN, text("?")),
    ]
    assert chat(assistant(use()), user(result(content=[image(), document()])))[1:] == [
        returned(content="The output is in the next message."),
        user(label, SEEN, {"type": "file", "file": FILE}),
    ]


def test_citations_are_dropped_and_named() -> None:
    """Chat's answers have none."""
    assert sent(user(document(citations={"enabled": True}))).adjusted == (
        "messages.citations=dropped",
    )
    assert sent(user(document(citations={"enabled": False}))).adjusted == ()


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ("Hi", ""),
        ({"content": "x"}, ".role"),
        ({"role": "developer", "content": "x"}, ".role"),
        ({"role": ["user"], "content": "x"}, ".role"),
        ({"role": "user"}, ".content"),
        ({"role": "assistant", "content": None}, ".content"),
        ({"role": "user", "content": {"type": "text"}}, ".content"),
        (user("x", "y"), ".content[0]"),
        (user({"text": "x"}), ".content[0].type"),
        (user({"type": "poem"}), ".content[0].type"),
        (user({"type": ["text"]}), ".content[0].type"),
        (user(use()), ".content[0].type"),
        (user({"type": "thinking", "thinking": "x"}), ".content[0].type"),
        (user({"type": "text"}), ".content[0].text"),
        (user(text("x", cache_control={"type": "x"})), ".content[0].cache_control.type"),
        (user({"type": "image"}), ".content[0].source"),
        (user(image(type="x")), ".content[0].source.type"),
        (user(image(type="base64", data=PNG)), ".content[0].source.media_type"),
        (user(image(type="base64", media_type="image/png")), ".content[0].source.data"),
        (user(image(type="url")), ".content[0].source.url"),
        (user(image(type="file", file_id="f")), ".content[0].source.file_id"),
        (user({"type": "document"}), ".content[0].source"),
        (user(document({"type": "file", "file_id": "f"})), ".content[0].source.file_id"),
        (user(document({"type": "x"})), ".content[0].source.type"),
        (
            user(document({"type": "content", "content": [document()]})),
            ".content[0].source.content[0].type",
        ),
        (user(document(title=5)), ".content[0].title"),
        (user(document(citations=True)), ".content[0].citations"),
        (user({"type": "search_result", "title": "t"}), ".content[0].source"),
        (
            user({"type": "search_result", "title": "t", "source": "s", "content": [image()]}),
            ".content[0].content[0].type",
        ),
        (user({"type": "container_upload", "file_id": "f"}), ".content[0].file_id"),
        (user({"type": "tool_result", "tool_use_id": 5}), ".content[0].tool_use_id"),
        (assistant(image()), ".content[0].type"),
        (assistant({"type": "tool_result"}), ".content[0].type"),
        (assistant({"type": 5}), ".content[0].type"),
        (assistant(use("")), ".content[0].id"),
        (assistant({"type": "tool_use", "id": "t", "name": 5}), ".content[0].name"),
        (assistant(use(input="{}")), ".content[0].input"),
        (assistant({"type": "thinking", "signature": "x"}), ".content[0].thinking"),
        (assistant({"type": "thinking", "thinking": "", "signature": 5}), ".content[0].signature"),
        (system([image()]), ".content[0].type"),
        (system("x", output_config={"effort": "x"}), ".output_config.effort"),
        (system([{"type": "tool_addition"}]), ".content[0].tool"),
        (
            system([{"type": "tool_addition", "tool": {"type": "tool_definition"}}]),
            ".content[0].tool.definition",
        ),
    ],
)
def test_bad_messages_are_named(message: Any, path: str) -> None:
    """By where the error stands."""
    error = refused(user(), message)
    assert (error.status, error.param) == (400, f"messages[1]{path}"), error.message


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (5, ".content"),
        ([use()], ".content[0].type"),
        ([{"type": "tool_reference"}], ".content[0].tool_name"),
        ([{"type": "browser_state"}], ".content[0].tabs"),
        ([image(type="file")], ".content[0].source.file_id"),
    ],
)
def test_bad_results_are_named(content: Any, path: str) -> None:
    """By where the error stands."""
    error = refused(assistant(use()), user(result(content=content)))
    assert error.param == f"messages[1].content[0]{path}"


MARKED = {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}}


def test_marks_go_where_they_are_taken() -> None:
    """On texts of all roles, on results of tools, and on tools; what has none stays a text."""
    to = sent(
        user(text("a"), MARKED),
        assistant(text("a"), MARKED, use()),
        user(result(content="r", cache_control=MARK)),
        assistant("plain"),
        user("plain"),
        assistant(use("toolu_2")),
        user(result("toolu_2", [text("a"), text("b", cache_control=MARK)])),
        system=[text("a"), MARKED],
        tools=[tool("f"), tool("g", cache_control=MARK)],
        marks=True,
    )
    assert body_of(to) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": [text("a"), MARKED]},
            user(text("a"), MARKED),
            called(("toolu_1", "f", '{"a":1}'), content=[text("a"), MARKED]),
            returned(content=[text("r", cache_control=MARK)]),
            assistant("plain"),
            user("plain"),
            called(("toolu_2", "f", '{"a":1}')),
            returned("toolu_2", [text("a\nb", cache_control=MARK)]),
        ],
        "tools": [function("f"), {**function("g"), "cache_control": MARK}],
    }
    assert to.adjusted == ()


def test_a_mark_on_the_whole_request_is_one_on_its_end() -> None:
    """Of whatever role that is."""
    assert chat(user("a"), assistant("b"), user("c"), cache_control=MARK, marks=True) == [
        user("a"),
        assistant("b"),
        user(text("c", cache_control=MARK)),
    ]
    asked = (user("a"), assistant(use()), user(result()))
    assert chat(*asked, cache_control=MARK, marks=True)[-1] == returned(
        content=[text("ok", cache_control=MARK)]
    )


def test_marks_that_find_no_place_are_named() -> None:
    """Pictures and calls take none."""
    marked = {**image(), "cache_control": MARK}
    to = sent(
        user(marked), assistant(use(cache_control=MARK)), user(result()), user(marked), marks=True
    )
    assert body_of(to)["messages"] == [
        user(SEEN),
        called(("toolu_1", "f", '{"a":1}')),
        returned(),
        user(SEEN),
    ]
    assert to.adjusted == ("cache_control=dropped",)
    assert sent(user(image()), cache_control=MARK, marks=True).adjusted == (
        "cache_control=dropped",
    )

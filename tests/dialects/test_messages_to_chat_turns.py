"""Messages of every role and block become chat messages that the strictest upstream takes."""

from __future__ import annotations

from typing import Any

import pytest

from farebox.dialects.messages_to_chat_turns import SUMMARY_INTRO
from farebox.dialects.recall import Recall
from farebox.errors import BadRequest
from tests.dialects.asking import (
    SEEN,
    F,
    assistant,
    chat,
    image,
    refused,
    result,
    returned,
    sent,
    system,
    text,
    use,
    user,
)
from tests.dialects.translating import ACCOUNT, SEAL, called


def _thought(text: str = "", blob: str | None = None, account: int = ACCOUNT) -> dict[str, Any]:
    sealed = SEAL.seal(account, "reasoning", text) if blob is None else blob
    return {"type": "thinking", "thinking": text, "signature": sealed}


def test_an_answer_is_one_message_with_all_its_calls() -> None:
    """And the results follow at once, before what the user says beside them."""
    assert chat(
        user(),
        assistant(text("I "), text("look.", citations=[{"type": "x"}]), use("t1"), use("t2", "g")),
        user(text("Here."), result("t2", "two"), result("t1", "one"), text("Go on.")),
        assistant("Done."),
    ) == [
        user(),
        called(("t1", "f", F), ("t2", "g", F), content="I look."),
        returned("t1", "one"),
        returned("t2", "two"),
        user("Here.\n\nGo on."),
        assistant("Done."),
    ]


def test_turns_of_one_side_in_a_row_are_legal() -> None:
    """They are one, as at Anthropic: the templates of some models insist that sides alternate."""
    assert chat(
        user("a"),
        user(text("b"), image()),
        user("c"),
        assistant("c"),
        assistant(use("t1"), use("t2")),
        system("Beware."),
        user(result("t1")),
        user(result("t2"), text("d")),
        user(""),
    ) == [
        user(text("a"), text("b"), SEEN, text("c")),
        called(("t1", "f", F), ("t2", "f", F), content="c"),
        returned("t1"),
        returned("t2"),
        system("Beware."),
        user("d"),
    ]


def test_a_beginning_of_the_answer_is_passed_on() -> None:
    """The model goes on from there."""
    assert chat(user(), assistant("{")) == [user(), assistant("{")]


def test_ids_may_come_again_in_a_later_answer() -> None:
    """Each result belongs to the use right before it."""
    assert chat(
        assistant(use("t")), user(result("t", "1")), assistant(use("t")), user(result("t", "2"))
    ) == [
        called(("t", "f", F)),
        returned("t", "1"),
        called(("t", "f", F)),
        returned("t", "2"),
    ]


def test_the_system_may_speak_at_any_time() -> None:
    """What it says first is one message; what was meant for an earlier turn is gone."""
    said = [
        system("b"),
        user("c"),
        system("gone", clear_at="next_user_message"),
        system([text("d"), text("e")], clear_at="never"),
        assistant("f"),
        user("g"),
        system("h", clear_at="next_user_message"),
    ]
    assert chat(*said, system="a") == [
        system("a\n\nb"),
        user("c"),
        system("d\n\ne"),
        assistant("f"),
        user("g"),
        system("h"),
    ]


def test_only_a_block_of_its_own_is_the_billing_header() -> None:
    """A text that begins like it is what the user wrote."""
    header = "x-anthropic-billing-header: cc_version=1;"
    assert chat(user(header), system=[text(header), text("a")]) == [system("a"), user(header)]
    assert chat(system=f"{header}\na") == [system(f"{header}\na"), user()]
    assert chat(system=[text(header)]) == [user()]


def test_tools_may_come_within_the_conversation() -> None:
    """Those that are only referred to are there anyway; what is taken away stays, and is named."""
    to = sent(
        user(),
        system(
            [
                {
                    "type": "tool_addition",
                    "tool": {
                        "type": "tool_definition",
                        "definition": {"name": "f", "input_schema": {}},
                    },
                },
                {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "g"}},
                {"type": "tool_addition", "tool": {"type": "mcp_toolset_reference"}},
                {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "g"}},
            ]
        ),
    )
    assert sorted(to.tools) == ["f"]
    assert b'"name":"f"' in bytes(to.call.fields["tools"])
    assert to.adjusted == ("messages.tool_addition=dropped", "messages.tool_removal=dropped")


def test_thoughts_that_were_sealed_here_come_back() -> None:
    """Whatever the client was shown of them."""
    thoughts = [{**_thought("I think."), "thinking": ""}, _thought("And think.")]
    assert chat(user(), assistant(*thoughts, text("So."), use()), user(result())) == [
        user(),
        called(
            ("toolu_1", "f", F), content="So.", reasoning_content="I think.\n\nAnd think."
        ),
        returned(),
    ]  # fmt: skip


def test_thoughts_of_others_are_dropped_and_named() -> None:
    """Nobody here can read them."""
    to = sent(
        user(),
        assistant(
            _thought("x", blob="EqQBCkYIBxgC"),
            {"type": "thinking", "thinking": "no signature"},
            {"type": "redacted_thinking", "data": "Emwk"},
            text("So."),
        ),
        user("On."),
    )
    assert to.adjusted == ("messages.thinking=dropped", "messages.redacted_thinking=dropped")
    assert b"reasoning" not in b"".join(map(bytes, to.call.fields.values()))


def test_thoughts_that_a_client_dropped_are_remembered() -> None:
    """By the calls that they led to; also in place of what another vendor sealed."""
    recall = Recall()
    recall.note(ACCOUNT, ["toolu_1"], "I think.")
    asked = (assistant(_thought("x", blob="Eq"), use()), user(result()))
    expected = [called(("toolu_1", "f", F), reasoning_content="I think."), returned()]
    assert chat(*asked, recall=recall) == expected


def test_thoughts_of_another_account_are_refused() -> None:
    """And so is a blob that was changed."""
    blob = SEAL.seal(ACCOUNT, "reasoning", "x")
    for thought in (
        _thought("x", account=ACCOUNT + 1),
        _thought("x", blob=blob[:-4]),
        _thought("x", blob=SEAL.seal(ACCOUNT, "compaction", "x")),
    ):
        error = refused(user(), assistant(thought))
        assert (error.param, error.code) == (
            "messages[1].content[0].signature",
            "invalid_encrypted_content",
        )


def test_what_a_vendors_tools_did_is_dropped_and_named() -> None:
    """Each kind once."""
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    kinds = ["server_tool_use", "mcp_tool_use", "mcp_tool_result", "fallback", "mcp_tool_listing"]
    to = sent(
        assistant(text("a"), *({"type": kind} for kind in kinds), found, found, text("b")), user()
    )
    assert to.adjusted == (
        "messages.server_tool_use=dropped",
        "messages.mcp_tool_use=dropped",
        "messages.mcp_tool_result=dropped",
        "messages.fallback=dropped",
        "messages.mcp_tool_listing=dropped",
        "messages.web_search_tool_result=dropped",
    )
    assert chat(assistant(text("a"), found, text("b"))) == [assistant("a\n\nb")]


def test_a_summary_stands_for_what_was_said_before() -> None:
    """One that only its vendor can read is dropped."""
    assert chat(assistant({"type": "compaction", "content": "All."}), user("On.")) == [
        user(SUMMARY_INTRO + "All.\n\nOn."),
    ]
    to = sent(assistant({"type": "compaction", "content": None, "encrypted_content": "x"}), user())
    assert to.adjusted == ("messages.compaction=dropped",)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([user(result())], "messages[0].content[0].tool_use_id"),
        ([user(), assistant("a"), user(text("b"), result())], "messages[2].content[1].tool_use_id"),
        (
            [assistant(use()), user(result(), result())],
            "messages[1].content[1].tool_use_id",
        ),
        (
            [assistant(use()), user(result()), assistant("a"), user(result())],
            "messages[3].content[0].tool_use_id",
        ),
        ([user(), assistant(text("a"), use()), user("b")], None),
        ([user(), assistant(text("a"), use())], "messages[1].content[1].id"),
        ([user(), assistant(use()), user("b"), assistant("c")], "messages[1].content[0].id"),
        (
            [assistant(use("t1"), use("t2")), user(result("t1")), assistant("c"), user()],
            "messages[0].content[1].id",
        ),
        ([assistant(use(), use()), user(result())], "messages[0].content[1].id"),
        ([assistant(use()), assistant(use()), user(result())], "messages[1].content[0].id"),
    ],
)
def test_uses_and_results_of_tools_come_in_pairs(messages: list[Any], param: str | None) -> None:
    """Each result once, in the message behind its use; the path says which has none."""
    error = refused(*messages)
    assert (error.param, error.code) == (param or "messages[1].content[1].id", "invalid_value")
    assert f"'{error.param}'" in error.message


def test_errors_say_what_is_wrong_and_what_to_do() -> None:
    """With the client's own words."""

    def said(error: BadRequest) -> str:
        return error.message

    assert said(refused(user(result("toolu_9")))) == (
        "'messages[0].content[0].tool_use_id' names the tool use 'toolu_9', which is not in the "
        "message before, or has its result already. Send each result once, right behind the "
        "message of its tool_use."
    )
    assert said(refused(assistant(use("toolu_9")), user("x"))) == (
        "'messages[0].content[0].id' is the tool use 'toolu_9', which has no tool_result in the "
        "next message. Send one, if only to say that there is none."
    )
    assert said(refused(user({"type": "poem"}))) == (
        "'messages[0].content[0].type' must be text, image, document, search_result or "
        "tool_result, not 'poem'."
    )

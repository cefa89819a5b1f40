"""Messages of the usual shape are read as the general way reads them; every other is left to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.body import hides_letters
from farebox.dialects.chat_weight import Weight, weigh_blocks
from farebox.dialects.messages import parse, parse_count
from farebox.dialects.messages_interpreter import MessagesInterpreter
from farebox.dialects.messages_to_chat import Tool, messages_to_chat
from farebox.errors import BadRequest
from tests.dialects.asking import assistant, result, system, text, use, user
from tests.dialects.translating import SEAL, around
from tests.dialects.usual import odd, outcomes, shuffled, texts
from tests.dialects.usual_bodies import Pairs, text_of

OURS = SEAL.seal(around().account_id, "reasoning", "so it is")
FOREIGN = SEAL.seal(around().account_id + 1, "reasoning", "so it is")


def thought(about: str) -> dict[str, Any]:
    """Thinking that was sealed here."""
    signature = SEAL.seal(around().account_id, "reasoning", about)
    return {"type": "thinking", "thinking": about, "signature": signature}


_marks = st.sampled_from([[("type", "ephemeral")], [("type", "ephemeral"), ("ttl", "1h")], None])
_marked: dict[str, st.SearchStrategy[Any]] = {"cache_control": _marks}
_inputs = st.builds(
    lambda name, value: [(name, value)],
    texts | st.sampled_from(["file_id", "source", "content"]),
    texts | st.sampled_from([(1, 2.5, None), [("type", "image"), ("file_id", "f")]]),
)


@st.composite
def _text_blocks(draw: st.DrawFn) -> Pairs:
    needed = [("type", "text"), ("text", draw(texts))]
    return draw(shuffled(needed, {**_marked, "citations": st.none()}))


@st.composite
def _thoughts(draw: st.DrawFn) -> Pairs:
    if draw(st.booleans()):
        return [("type", "redacted_thinking"), ("data", draw(texts))]
    signature = draw(st.sampled_from(["theirs", OURS, FOREIGN]))
    return [("type", "thinking"), ("thinking", draw(texts)), ("signature", signature)]


_content = texts | st.lists(_text_blocks(), min_size=1, max_size=2).map(tuple)


@st.composite
def _turns(draw: st.DrawFn, n: int) -> tuple[Pairs, ...]:
    """What the model says and does, and what the user says to that."""
    blocks = draw(st.lists(_thoughts() | _text_blocks(), max_size=2))
    if not draw(st.booleans()):
        said = tuple(blocks) or draw(texts)
        return (
            [("role", "assistant"), ("content", said)],
            [("role", "user"), ("content", draw(_content))],
        )
    use_id = f"toolu_{n}"
    use = [("type", "tool_use"), ("id", use_id), ("name", "f"), ("input", draw(_inputs))]
    caller = st.just([("type", "direct")])
    blocks.append(draw(shuffled(use, {**_marked, "caller": caller})))
    gave = [("type", "tool_result"), ("tool_use_id", use_id)]
    more = {**_marked, "content": _content, "is_error": st.booleans()}
    result = draw(shuffled(gave, more))
    return (
        [("role", "assistant"), ("content", tuple(blocks))],
        [
            ("role", "user"),
            ("content", (result, *draw(st.lists(_text_blocks() | _thoughts(), max_size=1)))),
        ],
    )


@st.composite
def _requests(draw: st.DrawFn) -> Pairs:
    """A request's members, its messages among them."""
    first: Pairs = [("role", "user"), ("content", draw(_content))]
    turns = [draw(_turns(n)) for n in range(draw(st.integers(0, 3)))]
    messages = list(sum(turns, (first,)))
    if draw(st.sampled_from([False, False, True])) and turns:  # else all take turns
        del messages[draw(st.integers(0, len(messages) - 1))]
    search = [("type", "web_search_20250305"), ("name", "web_search")]
    schema = [("type", "object"), ("properties", [("file_id", [])])]
    others: Pairs = [
        ("stream", draw(st.booleans())),
        ("system", draw(_content | st.none())),
        ("tools", ([("name", "f"), ("input_schema", schema)], search)),
        ("thinking", [("type", "enabled"), ("budget_tokens", 1024)]),
        ("metadata", [("user_id", "u")]),
    ]
    others = draw(st.lists(st.sampled_from(others), unique_by=lambda member: member[0]))
    needed = [("model", "m"), ("max_tokens", 9), ("messages", tuple(messages))]
    return draw(st.permutations([*needed, *others]))


def _check_is_the_same(call: Call, body: bytes) -> None:
    raw = call.fields["messages"]
    assert Weight(call.text_bytes, call.table_tokens) == weigh_blocks(len(body), raw)
    may_write = b'"1h"' in body or b"\\u0031" in body or hides_letters(body)
    assert call.writes_1h == may_write
    quick = list(outcomes(call, MessagesInterpreter, searched=False))
    assert quick == list(outcomes(call, MessagesInterpreter, searched=True))
    assert _tools_of(call) == _tools_of(replace(call, message_words=None))


def _tools_of(call: Call) -> list[tuple[str, Tool]]:
    """The client's tools, also those that only earlier calls name."""
    try:
        return list(messages_to_chat(call, around()).tools.items())
    except BadRequest:
        return []


@given(_requests())
def test_a_usual_request_is_read_as_any_other(request_: Pairs) -> None:
    """Its weight, and what is sent to upstreams that speak Messages, chat or Responses; or why
    not.
    """
    body = text_of(request_).encode()
    call = parse(body, "req_1")
    assert call.message_words is not None
    _check_is_the_same(call, body)


@given(odd(_requests()))
@example(
    b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"x",'
    b'"type":"image","source":{"type":"url","url":"u"}}]}]}'
)
@example(
    b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"source":{"type":"file",'
    b'"file_id":"f"}}],"content":"x"}]}'
)
@example(
    b'{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use",'
    b'"id":"t","name":"f","input":{"n":1e999,"source":1}}]}]}'
)
@example(
    b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"thinking",'
    b'"thinking":"x","signature":"fb1.x"}]}]}'
)
@example(
    b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"},{"role":"assistant",'
    b'"content":[{"type":"tool_use","id":"t","name":"f","input":{}}]},{"role":"user","content":'
    b'[{"type":"tool_result","tool_use_id":"t","content":[{"text":"x"}]}]}]}'
)
def test_what_is_odd_is_read_as_any_other_or_not_at_all(body: bytes) -> None:
    """Nothing is held to be usual that the general way makes something else of."""
    try:
        call = parse(body, "req_1")
    except BadRequest:
        return
    if call.message_words is not None:
        _check_is_the_same(call, body)


@pytest.mark.parametrize(
    "said",
    [
        [assistant("a"), assistant("b"), user("c")],
        [assistant(""), user("b")],
        [user("b"), assistant("c")],
        [assistant(use())],
        [assistant(use()), user("b")],
        [assistant(use()), assistant("a"), user(result())],
        [assistant(use()), user(text("b"), result())],
        [assistant(use()), user(text(""), result(), text("b"))],
        [assistant(use()), user(result(), text("b"), result())],
        [assistant(use("t1"), use("t1")), user(result("t1"))],
        [assistant(use("t1"), use("t2")), user(result("t2"), text("b"), result("t1"))],
        [assistant(use("t1"), use("t2")), user(result("t2"), result("t1"))],
        [assistant(use("")), user(result(""))],
        [assistant(use(), text("a"), text("b")), user(result(), text("c"))],
        [assistant(use()), user(result()), system("x"), user("b")],
        [assistant(thought(""), use()), user(result())],
        [assistant(thought("a"), thought("b"), use()), user(result())],
    ],
)
def test_whoever_speaks_when_it_is_the_same(said: list[Any]) -> None:
    """Who has the word twice, answers late or never, and what stands between, is as it was; and so
    is a thought of nothing.
    """
    body = {"model": "m", "max_tokens": 9, "messages": [user("a"), *said]}
    data = json.dumps(body).encode()
    call = parse(data, "req_1")
    assert call.message_words is not None
    _check_is_the_same(call, data)


def _body(block: str, system: str = '"Be brief."') -> bytes:
    first = '{"role":"user","content":"Hi"}'
    answer = f'{{"role":"assistant","content":[{block}]}}'
    return f'{{"model":"m","system":{system},"messages":[{first}, {answer}]}}'.encode()


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ('{"type":"text","text":"x"}', []),
        ('{"type":"tool_use","id":"t","name":"f","input":{"file_id":"f"}}', []),
        ('{"type":"thinking","thinking":"x","signature":"theirs"}', []),
        ('{"type":"thinking","thinking":"x","signature":"fb1.x"}', ["signature"]),
    ],
)
def test_what_may_have_to_be_changed_is_named(block: str, words: list[str]) -> None:
    """What was sealed here."""
    call = parse_count(_body(block), "req_1")
    assert call.message_words == {f'"{word}"'.encode() for word in words}


@pytest.mark.parametrize(
    "block",
    [
        '{"type":"image","source":{"type":"url","url":"u"}}',
        '{"type":"document","source":{"type":"file","file_id":"f"}}',
        '{"type":"container_upload","file_id":"f"}',
        '{"type":"text","text":{"file_id":"f"}}',
        '{"type":"text","text":"x","file_id":"f"}',
        '{"type":"text","text":"x","type":"image"}',
        '{"type":"text","text":"x","citations":[{"type":"char_location","file_id":"f"}]}',
        '{"type":"tool_use","id":"t","name":"f","input":{"n":1e999}}',
        '{"type":"tool_use","id":"t","name":"f","input":"x"}',
        '{"type":"tool_result","tool_use_id":"t","content":[{"type":"image"}]}',
        '{"type":"tool_addition","tool":{"type":"tool_definition"}}',
        '{"type":"server_tool_use","id":"t","name":"web_search","input":{}}',
        '{"text":"x"}',
    ],
)
def test_what_is_more_than_text_is_left_to_the_general_way(block: str) -> None:
    """Whatever may weigh more than its bytes, name what is kept somewhere, or bring tools."""
    assert parse_count(_body(block), "req_1").message_words is None


def test_a_system_text_has_to_be_usual_too() -> None:
    """It may name a file as messages may."""
    block, usual = '{"type":"text","text":"x"}', '[{"type":"text","text":"Be brief."}]'
    assert parse_count(_body(block, usual), "req_1").message_words == frozenset()
    assert parse_count(_body(block, '[{"file_id":"f"}]'), "req_1").message_words is None

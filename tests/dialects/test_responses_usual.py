"""An input of the usual shape is read as the general way reads it; every other is left to that."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.chat_weight import Weight, weigh_input
from farebox.dialects.responses import asks_to_compact, parse, with_input
from farebox.dialects.responses_interpreter import ResponsesInterpreter
from farebox.errors import BadRequest
from farebox.server.items import split
from tests.dialects.translating import SEAL, around
from tests.dialects.usual import odd, outcomes, shuffled, texts
from tests.dialects.usual_bodies import Pairs, text_of

OURS = SEAL.seal(around().account_id, "reasoning", "so it is")
FOREIGN = SEAL.seal(around().account_id + 1, "reasoning", "so it is")
_ids = st.sampled_from(["i", "", None])
_statuses = st.sampled_from(["completed", None])


def _parts(*kinds: str) -> st.SearchStrategy[tuple[Pairs, ...]]:
    part = st.builds(
        lambda kind, text, more: [("type", kind), ("text", text), *more],
        st.sampled_from(kinds),
        texts,
        st.sampled_from([[], [("annotations", ()), ("logprobs", ())]]),
    )
    return st.lists(part, max_size=2).map(tuple)


_said = texts | _parts("input_text", "output_text")
_common: dict[str, st.SearchStrategy[Any]] = {"id": _ids, "status": _statuses}


@st.composite
def _items(draw: st.DrawFn) -> tuple[Pairs, ...]:
    """A message, thoughts, or a call and its output."""
    kind = draw(st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call"]))
    call_id = draw(st.sampled_from(["c1", "c2"]))
    if kind == "message":
        role = draw(st.sampled_from(["system", "developer", "user", "assistant"]))
        typed = draw(st.sampled_from([[], [("type", kind)]]))
        said = [*typed, ("role", role), ("content", draw(_said))]
        return (draw(shuffled(said, {**_common, "phase": st.just("commentary")})),)
    if kind == "reasoning":
        thoughts = [("type", kind), ("summary", draw(_parts("summary_text")))]
        more = {
            "content": st.none() | _parts("reasoning_text"),
            "encrypted_content": st.sampled_from(["gAAAA", OURS, FOREIGN, None]),
        }
        return (draw(shuffled(thoughts, {**_common, **more})),)
    given = "input" if kind == "custom_tool_call" else "arguments"
    call = [("type", kind), ("call_id", call_id), ("name", "f"), (given, draw(texts))]
    gave = [("type", f"{kind}_output"), ("call_id", call_id), ("output", draw(_said))]
    return (
        draw(shuffled(call, {**_common, "namespace": st.sampled_from(["n", None])})),
        draw(shuffled(gave, _common)),
    )


_inputs = st.lists(_items(), min_size=1, max_size=4).map(lambda groups: sum(groups, ()))


@st.composite
def _requests(draw: st.DrawFn) -> Pairs:
    """A request's members, its input among them."""
    search = [("type", "web_search")]
    others: Pairs = [
        ("stream", draw(st.booleans())),
        ("instructions", draw(texts)),
        ("tools", ([("type", "function"), ("name", "f"), ("parameters", [])], search)),
        ("reasoning", [("effort", "high")]),
        ("store", draw(st.booleans())),
        ("metadata", [("input", "i")]),
    ]
    others = draw(st.lists(st.sampled_from(others), unique_by=lambda member: member[0]))
    asked = draw(texts | _inputs)
    return draw(st.permutations([("model", "m"), ("input", asked), *others]))


def _check_is_the_same(call: Call, size_bytes: int) -> None:
    raw = call.fields["input"]
    assert Weight(call.text_bytes, call.table_tokens) == weigh_input(size_bytes, raw)
    assert call.wires == ("responses", "chat")
    assert not asks_to_compact(call.fields)
    assert split(call) == split(replace(call, message_words=None))
    quick = list(outcomes(call, ResponsesInterpreter, searched=False))
    assert quick == list(outcomes(call, ResponsesInterpreter, searched=True))


@given(_requests())
def test_a_usual_request_is_read_as_any_other(request_: Pairs) -> None:
    """Its weight, and what is sent to upstreams that speak Responses and to those that speak chat;
    or why not.
    """
    body = text_of(request_).encode()
    call = parse(body, "req_1")
    assert call.message_words is not None
    _check_is_the_same(call, len(body))


@given(odd(_requests()))
@example(b'{"model":"m","input":[{"role":"user","content":{"file_id":"f"},"content":"x"}]}')
@example(b'{"model":"m","input":[{"type":"reasoning","type":"image_generation_call","id":"i"}]}')
@example(b'{"model":"m","input":[{"id":"i"}]}')
@example(b'{"model":"m","input":"x","messages":[{"content":[{"file":{"file_id":"f"}}]}]}')
@example(b'{"model":"m","input":[{"type":"reasoning","id":"r","encrypted_content":"fb1.x"}]}')
def test_what_is_odd_is_read_as_any_other_or_not_at_all(body: bytes) -> None:
    """Nothing is held to be usual that the general way makes something else of."""
    try:
        call = parse(body, "req_1")
    except BadRequest:
        return
    if call.message_words is not None and "input" in call.fields:
        _check_is_the_same(call, len(body))


@given(_inputs)
def test_a_conversation_that_is_put_in_place_is_read_anew(items: tuple[Pairs, ...]) -> None:
    """What was known of the input before is not what is known of it then."""
    raw = [msgspec.Raw(text_of(item).encode()) for item in items]
    whole = {"model": "m", "input": raw}
    call = with_input(parse(b'{"model":"m","input":"x"}', "req_1"), raw)
    assert call.message_words == parse(msgspec.json.encode(whole), "req_1").message_words


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ('{"role":"user","content":"x"}', []),
        ('{"type":"message","role":"user","content":"x","id":"i"}', []),
        ('{"type":"function_call","call_id":"c","name":"f","arguments":""}', []),
        ('{"type":"function_call","call_id":"c","name":"f","arguments":"","id":"i"}', ["id"]),
        ('{"type":"reasoning","id":"r","summary":[],"encrypted_content":"gAAAA"}', []),
        ('{"type":"reasoning","id":"r","summary":[]}', ["reasoning"]),
        ('{"type":"reasoning","summary":[],"encrypted_content":"fb1.x"}', ["encrypted_content"]),
    ],
)
def test_what_may_have_to_be_changed_is_named(item: str, words: list[str]) -> None:
    """An id that nobody needs, reasoning that nobody sealed, and what was sealed here."""
    body = f'{{"model":"m","input":[{{"role":"user","content":"Hi"}}, {item}]}}'.encode()
    assert parse(body, "req_1").message_words == {f'"{word}"'.encode() for word in words}


@pytest.mark.parametrize(
    "item",
    [
        '{"id":"i"}',
        '{"type":"item_reference","id":"i"}',
        '{"role":"user","content":[{"type":"input_image","image_url":"u"}]}',
        '{"role":"user","content":[{"type":"input_file","file_id":"f"}]}',
        '{"role":"user","content":[{"type":"input_text","text":{"file_id":"f"}}]}',
        '{"role":"user","content":{"file_id":"f"},"content":"x"}',
        '{"role":"user","content":7}',
        '{"role":"user","content":"x","file_id":"f"}',
        '{"role":"critic","content":"x"}',
        '{"type":"image_generation_call","id":"i","result":null}',
        '{"type":"code_interpreter_call","container_id":"c"}',
        '{"type":"additional_tools","tools":[]}',
        '{"type":"compaction_trigger"}',
        '{"type":"compaction","encrypted_content":"fb1.x"}',
        '{"type":"function_call_output","call_id":"c","output":[{"type":"input_image"}]}',
    ],
)
def test_what_is_more_than_text_is_left_to_the_general_way(item: str) -> None:
    """Whatever may weigh more than its bytes, name what is kept somewhere, or bring tools."""
    body = f'{{"model":"m","input":[{{"role":"user","content":"Hi"}},{item}]}}'.encode()
    assert parse(body, "req_1").message_words is None

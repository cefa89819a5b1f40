"""Streams of events that are alike: what leaves is what would if each were read by itself.

A stream that never learns a pattern reads each event by the rules, so it says what is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.core.call import Call
from farebox.dialects.messages_from_chat import MessageFromChat
from farebox.dialects.responses import parse
from farebox.dialects.responses_from_chat import FromChat
from farebox.dialects.responses_shell import Shell
from farebox.dialects.responses_to_chat import to_chat
from tests.dialects import accumulating, responding
from tests.dialects.feeding import cut, feed, is_good, reason_of
from tests.dialects.streaming import DONE, MIB, USAGE, body_of, choice, chunk, finished, stream_for

Make = Callable[[], Any]
FIRST = body_of(chunk(choice({"role": "assistant", "content": ""})))


def _response(*, compacts: bool = False) -> FromChat:
    around = responding.circumstances()
    items: list[Any] = [{"type": "message", "role": "user", "content": "Hi"}]
    if compacts:
        items.append({"type": "compaction_trigger"})
    body = {"model": "m", "input": items, "stream": True}
    call = parse(json.dumps(body).encode(), "req_abc")
    return FromChat(Shell(call, around), to_chat(call, around), around, responding.ENDINGS, MIB)


def _message(**sent: Any) -> MessageFromChat:
    call = Call("req_abc", "messages", "m", {}, stream=True)
    around = accumulating.circumstances()
    return MessageFromChat(
        call, accumulating.sent_for(call, **sent), around, responding.ENDINGS, MIB
    )


MAKERS: dict[str, Make] = {
    "same": lambda: stream_for("up"),
    "renamed": lambda: stream_for('odd"\n\\é'),
    "usage": lambda: stream_for("other", include_usage=True),
    "response": _response,
    "message": _message,
    "hidden": lambda: _message(shows=False),
    "omitted": lambda: _message(shows=False, omits=True),
}

# An event each; `@` is its text, `#` something else that changes.
_HEAD = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"up",'
_END = b'"finish_reason":null}],"usage":null}\n\n'
PLAIN = _HEAD + b'"choices":[{"index":0,"delta":{"content":"@"},' + _END
OBFUSCATED = PLAIN.replace(b"null}\n\n", b'null,"obfuscation":"#"}\n\n')
FORMS = [
    PLAIN,
    OBFUSCATED,
    json.dumps(json.loads(PLAIN[6:])).encode().join([b"data: ", b"\n\n"]),
    PLAIN.replace(b'"model":"up",', b"").replace(b"null}\n\n", b'null,"model":"up"}\n\n'),
    OBFUSCATED.replace(b'"model":"up",', b"").replace(b',"obf', b',"model":"up","obf'),
    PLAIN.replace(b'"model":"up",', b'"model":"\\u0075p",'),
    PLAIN.replace(b'"model":"up",', b'"x":{"model":"no"},"model":"old","model":"up",'),
    PLAIN.replace(b'"model":"up",', b""),
    PLAIN.replace(b'"content"', b'"reasoning_content"'),
    PLAIN.replace(b'"content"', b'"content":null,"reasoning"'),
    PLAIN.replace(b'"content"', b'"reasoning_content":"r","content"'),
    PLAIN.replace(b'"content":', b'"content":"@","content":'),
    PLAIN.replace(b'"content":"@"', b'"content":"@","content":"again"'),
    PLAIN.replace(b'"content"', b'"\\u0063ontent"'),
    PLAIN.replace(b'"content"', b'"x":{"content":"@"},"content"'),
    PLAIN.replace(b'"content"', b'"role":"assistant","content"'),
    PLAIN.replace(b'"choices"', b'"service_tier":"flex","choices"'),
    PLAIN.replace(b'"choices"', b'"service_tier":"default","choices"'),
    PLAIN.replace(b'"choices"', b'"service_tier":"","choices"'),
    PLAIN.replace(b"chatcmpl-1", b"chatcmpl-2"),
    PLAIN.replace(b'"index":0', b'"index":1'),
    PLAIN.replace(b'"index":0,', b""),
    PLAIN.replace(_END, b'"stop_reason":"s","logprobs":{"content":[]},' + _END),
    PLAIN.replace(b"data: ", b"event: x\ndata: "),
    PLAIN.replace(b"\n", b"\r\n"),
    PLAIN.replace(b"\n", b"\r"),
    PLAIN.replace(b"}\n\n", b"\n\n"),
    PLAIN.replace(b"null}\n\n", b'null,"obfuscation":"#","x":"#"}\n\n'),
]
CALL = {"index": 0, "id": "call_123456789", "function": {"name": "f", "arguments": "{}"}}
ODD = [
    *(b": ping\n\n", b"\n\n", b"\n", b"data: {}\n\n", b"data: junk\n\n", DONE),
    body_of(finished()),
    body_of(finished(usage=USAGE)),
    body_of(chunk(usage=USAGE)),
    body_of(chunk(choice({"content": "x"}, index=1))),
    body_of(chunk(choice({"tool_calls": [CALL]}))),
    body_of(chunk(choice({"refusal": "no"}))),
    body_of({"error": {"message": "bad"}}),
]
TEXTS = [
    *(b"a", b" the", b"", b"\\n", b'\\"', b"\\\\", b"\\/", b"\\u00e9", b"\\\\u12", "é 😀".encode()),
    *(b"\\ud83d\\ude00", b"\\ud83d", b"\\ude00", b"\xc3", b"\xa9", b"\x7f", b"x" * 5000),
    *(b"\\", b'"', b"\x01", b"\n", b"\r", b"\\q", b"\\u12", b'{\\"model\\":\\"up\\"}', b"%d"),
    *(b'\\"}\n\n', b'"},' + _END[:-2], b'","content":"', PLAIN[:-2], OBFUSCATED),
]
GOOD = TEXTS[:11]
_EVENTS = re.compile(rb".*?\n\n|.+\Z", re.DOTALL)
FILL = [b"", b"x0Zr4dQ2", b"y", b'\\"', b"\\", b'"', "é".encode()]


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """A few events of one form, most of their texts good."""
    form = draw(st.sampled_from(FORMS) | st.sampled_from(FORMS[:5]))
    texts = draw(st.lists(st.sampled_from(GOOD), max_size=6))
    texts += draw(st.lists(st.sampled_from(TEXTS), max_size=1))
    fills = draw(st.lists(st.sampled_from(FILL[:3]), min_size=len(texts), max_size=len(texts)))
    fills += draw(st.lists(st.sampled_from(FILL), max_size=1))
    return b"".join(
        form.replace(b"@", text).replace(b"#", fill)
        for text, fill in zip(texts, fills, strict=False)
    )


bodies = st.builds(
    lambda runs, end: FIRST + b"".join(runs) + end,
    st.lists(events() | events() | st.sampled_from(ODD), max_size=8),
    st.sampled_from([b"", DONE, body_of(finished()) + DONE, PLAIN[:-1]]),
)


def outcome(make: Make, parts: list[bytes], *, keeps: bool = True) -> tuple[Any, ...]:
    """All that a stream gives and knows; `keeps`: the text too."""
    stream = make()
    if keeps:
        stream.keep_text()
    sent = feed(stream, *parts)
    usage = stream.usage and msgspec.json.decode(stream.usage)
    said = stream.said and (stream.said.texts, stream.said.rest_bytes)
    known = (usage, stream.service_tier, stream.text_bytes, stream.started, stream.whole, said)
    tail = b""
    if is_good(stream):
        asked = None if hasattr(stream, "_include_usage") else responding.USAGE
        tail = stream.tail(asked)
    return sent, tail, reason_of(stream), stream.error, known


def outcome_by_the_rules(make: Make, body: bytes, *, keeps: bool = True) -> tuple[Any, ...]:
    """The same, each event read by itself."""
    with patch("farebox.dialects.repeating_stream.learn", return_value=None):
        return outcome(make, [body], keeps=keeps)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=100)
@given(data=st.data())
def test_events_that_are_alike_leave_as_if_each_were_read(name: str, data: st.DataObject) -> None:
    """Whatever is written how, and wherever the reads cut it; mostly each has an event."""
    body, keeps = data.draw(bodies), data.draw(st.booleans())
    expected = outcome_by_the_rules(MAKERS[name], body, keeps=keeps)
    assert outcome(MAKERS[name], [body], keeps=keeps) == expected
    assert outcome(MAKERS[name], _EVENTS.findall(body), keeps=keeps) == expected
    assert outcome(MAKERS[name], data.draw(cut(body, 20)), keeps=keeps) == expected


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=50)
@given(body=bodies, keeps=st.booleans())
def test_what_is_alike_brings_text_and_nothing_else(name: str, body: bytes, keeps: bool) -> None:
    """So whoever looks at a stream need not look at the rest of it then. The end is never alike."""
    stream = MAKERS[name]()
    if keeps:
        stream.keep_text()
    for event in _EVENTS.findall(body):
        before, text_bytes = _rest_of(stream), stream.text_bytes
        stream.feed(event)
        if stream.is_alike:
            assert _rest_of(stream) == before
            assert stream.text_bytes >= text_bytes
        if not is_good(stream):
            break
    stream.end()
    assert not stream.is_alike


def _rest_of(stream: Any) -> tuple[object, ...]:
    is_over = (stream.finished, stream.ending, stream.whole)
    return stream.started, stream.usage, stream.error, stream.failure, is_over


def test_most_events_of_most_streams_are_alike() -> None:
    """From the third on, once two were read; until the one that ends the answer."""
    stream = stream_for("other")
    events = [FIRST, *[PLAIN.replace(b"@", text) for text in GOOD[:4]], body_of(finished())]
    alike = []
    for event in events:
        stream.feed(event)
        alike.append(stream.is_alike)
    assert alike == [False, False, True, True, True, False]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
def test_each_way_to_write_an_event_may_come_in_single_bytes(name: str, form: bytes) -> None:
    """Every form with a few texts, and then another form."""
    texts = [b"a", b"\\n", "é".encode(), b"b"]
    body = FIRST + b"".join(form.replace(b"@", text).replace(b"#", text[:1]) for text in texts)
    body += PLAIN * 2 + body_of(finished()) + DONE
    expected = outcome_by_the_rules(MAKERS[name], body)
    assert outcome(MAKERS[name], [body]) == expected
    assert outcome(MAKERS[name], [bytes([byte]) for byte in body]) == expected


@pytest.mark.parametrize("name", MAKERS)
def test_events_may_become_others_and_again_what_they_were(name: str) -> None:
    """Also within one read, in which both kinds are learned."""
    one, other = (form.replace(b"@", b"a").replace(b"#", b"x") for form in FORMS[:2])
    body = one + other * 2 + one * 2 + other + body_of(finished()) + DONE
    expected = outcome_by_the_rules(MAKERS[name], FIRST + one + body)
    assert outcome(MAKERS[name], [FIRST + one, body]) == expected


def test_a_summary_is_written_by_events_that_are_alike() -> None:
    """It is sealed as a whole, and nothing of it leaves before."""
    events = [PLAIN.replace(b"@", text) for text in (b"In", b" s", b"hort", b".")]
    answer = FIRST + b"".join(events) + body_of(finished()) + DONE
    stream = _response(compacts=True)
    assert feed(stream, answer) == b""
    assert stream.text_bytes == len("In short.")
    done = responding.events(stream.tail(responding.USAGE))[-2]
    sealed = done["item"]["encrypted_content"]
    assert responding.SEAL.open(1, "compaction", sealed) == "In short."

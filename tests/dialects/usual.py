"""Requests of the usual shape and of odd ones, written out; and what becomes of a call that is
known to be usual, and of the same one that has to be looked through.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.interpreter import Dialect
from farebox.dialects.recall import Recall
from farebox.errors import BadRequest
from farebox.vendors.anthropic import VENDOR as ANTHROPIC
from farebox.vendors.base import Vendor
from farebox.vendors.deepseek import VENDOR as DEEPSEEK
from farebox.vendors.openai import VENDOR as OPENAI
from tests.dialects.translating import ACCOUNT, around
from tests.dialects.usual_bodies import SIGNS, Pairs, text_of
from tests.vendors.contract import channel_of

_RECALL = Recall()
_RECALL.note(ACCOUNT, ["toolu_1", "c1"], "so it was")
# Who is asked in each dialect. DeepSeek's messages are edited most.
_ASKED = {"chat": (OPENAI, DEEPSEEK), "responses": (OPENAI,), "messages": (ANTHROPIC,)}

texts = st.text(st.sampled_from('ab"\\{}[],:é\n'), max_size=8) | st.sampled_from(
    ["file_id", "1h", '"source"', '"tool_definition"', "https://a.example/x_url", "\\u0041", "fb1"]
)
# What makes a request an unusual one, or none at all: some text in place of some other.
_oddities = st.sampled_from(
    [
        *SIGNS,
        '"id":"i",',
        '"file_id":"f",',
        '"container":"c",',
        '"type":"image",',
        '"type":"item_reference",',
        '"type":"image_generation_call",',
        '"source":{"type":"base64","data":"d"},',
        '"content":"x",',
        '"content":[{"type":"input_image","image_url":"u"}],',
        '"content":[{"type":"document","source":{"type":"file","file_id":"f"}}],',
        '"input":[{"role":"user","content":"other"}],',
        '"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}],',
        '"tools":[{"type":"code_interpreter","container":"c"}],',
        '"encrypted_content":null,',
        '"1h"',
    ]
)


@st.composite
def shuffled(draw: st.DrawFn, needed: Pairs, optional: dict[str, st.SearchStrategy[Any]]) -> Pairs:
    """An object with these members and some of those, in any order."""
    names = draw(st.lists(st.sampled_from(sorted(optional)), unique=True, max_size=3))
    return draw(st.permutations([*needed, *((name, draw(optional[name])) for name in names)]))


@st.composite
def odd(draw: st.DrawFn, requests: st.SearchStrategy[Pairs]) -> bytes:
    """A request with something put into it, in place of a few bytes or of none."""
    text = text_of(draw(requests), draw(st.sampled_from(["", "", " "])))
    for _ in range(draw(st.integers(0, 3))):
        # Mostly where a member may stand.
        places = [at + 1 for at, sign in enumerate(text) if sign in "{,"]
        at = draw(st.sampled_from(places) | st.integers(0, len(text)))
        text = text[:at] + draw(_oddities) + text[at + draw(st.sampled_from([0, 0, 0, 1, 2])) :]
    return text.encode(errors="surrogateescape")


def outcomes(call: Call, dialect: Dialect, *, searched: bool) -> Iterator[tuple[Any, ...]]:
    """What is sent to upstreams of every kind, or why it is refused. `searched`: nothing is known
    of its messages, or of what was made of them.
    """
    for wire in call.wires:
        for vendor in _ASKED[wire]:
            try:
                yield _sent(call, dialect, wire, vendor, searched=searched)
            except BadRequest as error:
                yield (wire, error.message, error.param, error.code)


def _sent(
    call: Call, dialect: Dialect, wire: str, vendor: Vendor, *, searched: bool
) -> tuple[Any, ...]:
    unknown = {"message_words": None} if searched else {}
    outgoing = dialect(replace(call, **unknown), around(recall=_RECALL)).outgoing(wire)
    prepared = vendor.prepare(
        channel_of(vendor), "up-1", replace(outgoing.call, **unknown), 321, "hop", "alice"
    )
    return (wire, prepared.request.body, outgoing.adjusted, prepared.adjusted)

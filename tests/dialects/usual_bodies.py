"""Chat requests of the usual shape as text, and such as are odd somewhere, as strategies."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

Pairs = list[tuple[str, Any]]
"""An object's members as they are written, perhaps with a key twice; lists are tuples here."""

texts = st.text(st.sampled_from('ab"\\{}[],:é\n'), max_size=8) | st.sampled_from(
    ["file_id", "developer", '"messages":[{"role":"user"}]', "https://a.example/x_url"]
)
parts = st.builds(
    lambda text, mark: [("type", "text"), ("text", text), *mark],
    texts,
    st.sampled_from([[], [("cache_control", [("type", "ephemeral")])]]),
)
calls = st.builds(
    lambda name, said: [
        ("id", "c"),
        ("type", "function"),
        ("function", [("name", name), ("arguments", said)]),
    ],
    texts,
    texts,
)
usual_members: dict[str, st.SearchStrategy[Any]] = {
    "content": texts | st.none() | st.lists(parts, min_size=1, max_size=2).map(tuple),
    "name": texts,
    "tool_calls": st.lists(calls, max_size=2).map(tuple) | st.none(),
    "tool_call_id": texts,
    "reasoning_content": texts | st.none(),
    "refusal": st.none(),
    "annotations": st.just(()),
    "audio": st.none(),
    "function_call": st.none(),
}
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])


@st.composite
def usual_messages(draw: st.DrawFn) -> Pairs:
    """A message, its members in any order."""
    names = draw(st.lists(st.sampled_from(sorted(usual_members)), unique=True, max_size=4))
    members = [("role", draw(roles)), *((name, draw(usual_members[name])) for name in names)]
    return draw(st.permutations(members))


@st.composite
def requests(draw: st.DrawFn) -> Pairs:
    """A request's members, its messages among them."""
    others: Pairs = [
        ("model", "m"),
        ("stream", draw(st.sampled_from([True, False, None]))),
        ("n", draw(st.integers(1, 128) | st.none())),
        ("max_tokens", draw(st.integers(1, 9) | st.none())),
        ("stop", ("a", "]")),
        ("metadata", [("messages", ())]),
        ("messages\\", "messages"),
    ]
    others = others[:1] + draw(st.lists(st.sampled_from(others[1:]), unique_by=lambda m: m[0]))
    messages = tuple(draw(st.lists(usual_messages(), min_size=1, max_size=4)))
    return draw(st.permutations([*others, ("messages", messages)]))


def text_of(value: Any, blank: str = "") -> str:
    """A value as JSON, with this between its signs."""
    if isinstance(value, tuple):
        inner = f",{blank}".join(text_of(each, blank) for each in value)
        return f"[{inner}]"
    if isinstance(value, list):
        members = (f"{json.dumps(key)}:{blank}{text_of(each, blank)}" for key, each in value)
        return "{" + f",{blank}".join(members) + "}"
    return json.dumps(value, ensure_ascii=False)


# Signs that may make JSON into other JSON, or into none.
SIGNS = ("", " ", "[", "]", "{", "}", '"', ",", "\\", "\\u0061", "null", "1e999", "\udcff")
# What makes a request an unusual one, or none at all: some text in place of some other.
oddities = st.sampled_from(
    [
        *SIGNS,
        '"content":"x",',
        '"content":[{"type":"image_url","image_url":"u"}],',
        '"messages":[],',
        '"messages":[{"role":"user","content":"other"}],',
        '"file_id":"f",',
        '"audio":{"id":"a"},',
        '"x":{"messages":[{"role":"user"}]},',
        ',"a":1}',
        "]}",
    ]
)


@st.composite
def odd_bodies(draw: st.DrawFn) -> bytes:
    """A request with something put into it, in place of a few bytes or of none."""
    text = text_of(draw(requests()), draw(st.sampled_from(["", "", "", " "])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(oddities) + text[at + draw(st.integers(0, 2)) :]
    return text.encode(errors="surrogateescape")

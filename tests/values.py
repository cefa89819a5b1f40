"""Values of any shape, for tests that whatever comes is taken or refused in words."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Values = st.SearchStrategy[Any]
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def json_values(longest: int = 5, most_leaves: int = 6, floats: Values = FINITE) -> Values:
    """JSON's values, whose texts and names have up to `longest` signs."""
    texts = st.text(max_size=longest)
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner),
        max_leaves=most_leaves,
    )


def worded_values(words: str) -> Values:
    """JSON's values, of which many are these words, or objects that have them as names."""
    texts = st.sampled_from(words.split()) | st.text()
    return st.recursive(
        st.none() | st.booleans() | st.integers() | FINITE | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )


def typed_values(types: str, names: str) -> Values:
    """JSON's values, of which many are objects of these types, with fields of these names."""
    kinds = st.sampled_from(types.split())
    keys = st.sampled_from(names.split())
    return st.recursive(
        json_values() | kinds,
        lambda inner: (
            st.dictionaries(keys, inner, max_size=5)
            | st.builds(
                lambda kind, rest: {**rest, "type": kind},
                kinds,
                st.dictionaries(keys, inner, max_size=5),
            )
            | st.lists(inner, max_size=3)
        ),
        max_leaves=12,
    )

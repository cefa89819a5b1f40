"""Prices and usages for tests of billing: how Hypothesis draws them, and moments of UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

from hypothesis import strategies as st

from farebox.core.price import LongContext, Price, Window
from farebox.core.usage import Usage

PPM = 1_000_000
MAX_TOKENS = 3_000_000

# Up to three multipliers meet, each in quarters: a price in 64ths then stays a whole number.
amounts = st.integers(0, 10**9).map(lambda n: 64 * n)
dear = st.integers(4, 12).map(lambda quarters: quarters * PPM // 4)  # 1 and above
multipliers = st.integers(0, 12).map(lambda quarters: quarters * PPM // 4)
rates = st.integers(0, 3 * PPM)
moments = st.integers(0, 4 * 10**15)  # microseconds, 1970 to 2096
tokens = st.integers(0, MAX_TOKENS)


def at(text: str) -> int:
    """A moment of UTC, such as 2026-11-23T01:00:00, in microseconds."""
    seconds = Fraction(str(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()))
    return int(seconds * PPM)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """A span on some days."""
    start = draw(st.integers(0, 1439))
    return Window(
        draw(st.frozensets(st.integers(0, 6), min_size=1)),
        start,
        draw(st.integers(start + 1, 1440)),
        draw(multipliers),
    )


def _items(mapping: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(mapping.items())


def prices(long_multipliers: st.SearchStrategy[int] = multipliers) -> st.SearchStrategy[Price]:
    """Whatever an operator may price."""
    names = st.sampled_from(["flex", "priority", "default", "auto", "standard"])
    tools = st.sampled_from(["web_search", "code_interpreter"])
    return st.builds(
        Price,
        input=amounts,
        output=amounts,
        cache_read=amounts,
        cache_write=amounts,
        cache_write_1h=amounts,
        audio_input=amounts,
        audio_output=amounts,
        image_input=st.none() | amounts,
        long_context=st.none()
        | st.builds(
            LongContext,
            threshold=st.integers(1, MAX_TOKENS),
            input_multiplier_ppm=long_multipliers,
            output_multiplier_ppm=long_multipliers,
        ),
        tiers=st.dictionaries(names, multipliers).map(_items),
        windows=st.lists(windows(), max_size=3).map(tuple),
        tools=st.dictionaries(tools, st.integers(0, 10**9)).map(_items),
    )


usages = st.builds(Usage, tokens, tokens, tokens, tokens, tokens, tokens, tokens, tokens)

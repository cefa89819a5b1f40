"""Splitting a long text where that does not change the number of its tokens. Pure.

Both vocabularies first cut a text into words by a pattern, from left to right and without looking
back, and then each word into tokens. Between a letter or number and a space a word always ends: no
alternative of either pattern has white space behind a letter, and none can then look beyond it.
Between a line's end and a letter likewise: what takes line ends takes no letter behind them, and
no word that begins with a letter may have a line's end in front.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

PIECE_CHARS = 64 * 1024  # less is not split: a piece more costs some microseconds

# [^\W_] is a letter or a number.
_PLACE = re.compile(r"(?<=[^\W_])(?= )|(?<=\n)(?=[^\W_])")


def split(text: str, piece_chars: int = PIECE_CHARS) -> Iterator[str]:
    """The text in pieces of about that many characters, longer where there is no place."""
    start = 0
    while len(text) - start > piece_chars:
        place = _PLACE.search(text, start + piece_chars)
        if place is None:
            break
        yield text[start : place.start()]
        start = place.start()
    if start < len(text):
        yield text[start:] if start else text

"""How many tokens a text is likely to have, where no vocabulary can be asked. Pure.

The figures are rules of thumb for the vocabularies of today's models: a word of English is a token
or a little more, three digits are one, three CJK characters are two.
"""

from __future__ import annotations

import re

# Each kind of text with the tokens that a piece and a character of it take.
_KINDS: tuple[tuple[re.Pattern[str], float, float], ...] = (
    (re.compile(r"[A-Za-z]{1,12}"), 0.6, 0.11),
    (re.compile(r"[0-9]{1,3}"), 1.0, 0.0),
    (re.compile(r"[!-/:-@\[-`{-~]{1,3}"), 0.7, 0.1),
    (re.compile(r"\n\s*"), 1.0, 0.0),
    (re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+"), 0.0, 0.67),
    # Letters of other scripts, with and without accents, and signs beyond ASCII.
    (re.compile(r"[\u0080-\u303f\u3100-\u33ff\ua000-\uabff]+"), 0.3, 0.4),
    (re.compile(r"[\ufb00-\uffff\U00010000-\U0010ffff]"), 2.0, 0.0),
)
_SLICE_CHARS = 65_536  # looked at in one go: what is found in it is held in memory


def text_tokens(text: str) -> float:
    """Of one text."""
    total = 0.0
    for start in range(0, len(text), _SLICE_CHARS):
        piece = text[start : start + _SLICE_CHARS]
        is_ascii = piece.isascii()
        for pattern, a_piece, a_char in _KINDS[:4] if is_ascii else _KINDS:
            found = pattern.findall(piece)
            total += a_piece * len(found)
            if a_char:
                total += a_char * sum(map(len, found))
    return total

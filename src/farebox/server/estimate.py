"""How many tokens a Responses call's input is likely to have, for models whose vocabulary is not
known here. Nothing is held or charged by it.

The figures are rules of thumb for the vocabularies of today's models: a word of English is a token
or a little more, three digits are one, three CJK characters are two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import msgspec

from farebox.core.call import Call

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
_MESSAGE_TOKENS = 4  # around each item: its role and its ends
_ANSWER_TOKENS = 3  # what leads to the answer
_IMAGE_TOKENS = {"low": 85, "original": 3000}  # by detail; OpenAI's table for a common size
_USUAL_IMAGE_TOKENS = 765
_FILE_TOKENS = 1500  # a document of a few pages, where only its address is known
_FILE_CHARS_A_TOKEN = 25  # of a PDF in base64, most of which is no text
_SEALED_CHARS_A_TOKEN = 4  # of thoughts that are encrypted
_UNSEEN = frozenset(("id", "type", "status", "role", "call_id", "annotations", "logprobs"))


def estimate(call: Call) -> int:
    """Tokens of the instructions, the tools, the format of the answer and the input."""
    fields = call.fields
    total = float(_ANSWER_TOKENS)
    for name in ("tools", "text"):  # a model is given their names, descriptions and schemas
        if name in fields:
            total += text_tokens(bytes(fields[name]).decode())
    for name in ("instructions", "input"):
        value = msgspec.json.decode(fields[name]) if name in fields else None
        items = cast("list[object]", value) if isinstance(value, list) else [value]
        total += sum(_MESSAGE_TOKENS + _tokens_of(item) for item in items if item is not None)
    return round(total)


def _tokens_of(item: object) -> float:
    """Of all texts within a JSON value, and of the images and files among them."""
    total = 0.0
    waiting: list[object] = [item]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            total += text_tokens(value)
        elif isinstance(value, list):
            waiting += cast("list[object]", value)
        elif isinstance(value, dict):
            members = cast("dict[str, object]", value)
            count = _TABLE.get(str(members.get("type")))
            if count is not None:
                total += count(members)
            else:
                total += _sealed(members)
                waiting += [each for name, each in members.items() if name not in _UNSEEN]
    return total


def _sealed(members: dict[str, object]) -> float:
    text = members.pop("encrypted_content", None)
    return len(text) / _SEALED_CHARS_A_TOKEN if isinstance(text, str) else 0.0


def _image(part: dict[str, object]) -> float:
    return _IMAGE_TOKENS.get(str(part.get("detail")), _USUAL_IMAGE_TOKENS)


def _file(part: dict[str, object]) -> float:
    data = part.get("file_data")
    return len(data) / _FILE_CHARS_A_TOKEN if isinstance(data, str) else _FILE_TOKENS


_TABLE: dict[str, Callable[[dict[str, object]], float]] = {
    "input_image": _image,
    "input_file": _file,
}


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

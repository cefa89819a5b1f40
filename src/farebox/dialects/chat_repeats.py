"""Chat events that are like one that was read before, but for their text. No I/O.

Most events of a stream are the same bytes around another piece of text. One of them is decoded and
mended by the rules; the next ones are recognised by their bytes, many at a time, and what is
between them is their text. Whatever is not so goes the way of all events.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import takewhile
from typing import Final

import msgspec

from farebox.dialects.chat_mend import ESCAPE, Choice, Chunk, is_set

_CHUNK = msgspec.json.Decoder(Chunk)
PROBE: Final = b"farebox-5f0b6c1e"  # stands in for a text, and in no stream
_FIELDS: Final = ("content", "reasoning_content", "reasoning")
# OpenAI hides the lengths of texts behind one of another length, at the end of each event.
_OBFUSCATION: Final = b'"obfuscation":"'
_DATA: Final = b"data: "
BLANK_LINE: Final = b"\n\n"
_NEWLINE: Final = ord("\n")  # as a number: to look for bytes in bytes costs an exception

# Text that stands in JSON as it is has none of these bytes. To have them translated, and to look
# whether anything has changed, takes a quarter of the time of a regular expression.
_ODD: Final = b'"\\' + bytes(range(0x20))
CHANGED: Final = bytes.maketrans(_ODD, b"?" * len(_ODD))
# What may stand between the quotes of a JSON string; a surrogate needs more than a look.
_TEXT = re.compile(
    rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
)


class Texts(msgspec.Struct, frozen=True, gc=False):
    """What some events of one pattern bring, in their order."""

    pieces: list[bytes]  # all that changes in each
    texts: list[bytes]  # as JSON without quotes
    size_bytes: int  # of the texts, as chat_mend.text_length() has it


class Pattern(msgspec.Struct, frozen=True):
    """The bytes around what changes in an event. That is the text; or, with a `middle`, the text
    in front of that and something of no interest behind it.
    """

    head: bytes
    tail: bytes
    middle: bytes
    end: bytes  # the tail and the blank line behind it
    between: bytes  # what changes in one event and in the next
    field: str  # of the delta, which holds the text
    service_tier: str | None
    inner: bytes  # the middle without its last quote
    changing: slice  # where that is, in an event with its blank line
    decodes: bool  # whether the texts will be, so that they must be UTF-8
    # Of what leaves, where it is the same in other words:
    leaving_head: bytes = b""
    leaving_between: bytes = b""  # one event and the next
    leaving_tail: bytes = b""
    # The same for one event: how it begins, and what of the one that came is its rest, if it is.
    leaving_front: bytes = b""
    rest: slice | None = None

    def read(self, events: list[bytes]) -> Texts | None:
        """The texts of events without their blank lines, if all of them are of this pattern and, in
        case that it matters, in UTF-8.
        """
        start, end = len(self.head), -len(self.tail)
        pieces = [event[start:end] for event in events]
        written = b"".join((self.head, self.between.join(pieces), self.tail))
        if written != BLANK_LINE.join(events):
            return None
        texts = pieces
        if self.middle:
            # What stands behind the middle has no quote, so the last one is the middle's.
            parts = [piece.rpartition(b'"') for piece in pieces]
            before, _, more = map(list, zip(*parts, strict=True)) if parts else ([], [], [])
            texts = [each.removesuffix(self.inner) for each in before]
            taken_bytes = sum(map(len, before)) - sum(map(len, texts))
            if taken_bytes != len(self.inner) * len(texts) or not _is_plain(b"".join(more)):
                return None
        return _texts(pieces, texts, decodes=self.decodes)

    def read_one(self, event: bytes) -> Texts | None:
        """The same for one event with its blank line: most reads are one."""
        piece = event[self.changing]
        if _NEWLINE in piece or event != self.head + piece + self.end:
            return None  # several events, or another
        text, more = piece, b""
        if self.middle:
            before, _, more = piece.rpartition(b'"')
            text = before.removesuffix(self.inner)
            if len(text) == len(before):
                return None
        plain = text + more
        if plain.translate(CHANGED) == plain and (not self.decodes or text.isascii()):
            return Texts([piece], [text], len(text))
        return _texts([piece], [text], decodes=self.decodes) if _is_plain(more) else None

    def leaving_as(self, head: bytes, tail: bytes) -> Pattern:
        """The same, with what is around the text when it leaves; the blank line is in `tail`."""
        front, rest = head, None
        if tail == self.end:
            pairs = zip(reversed(head), reversed(self.head), strict=False)
            alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            front = head[: len(head) - alike]
            rest = _slice(len(self.head) - alike, None)
        return msgspec.structs.replace(
            self,
            leaving_head=head,
            leaving_between=tail + head,
            leaving_tail=tail,
            leaving_front=front,
            rest=rest,
        )

    def frames(self, event: bytes) -> bool:
        """Whether an event without its blank line is of this pattern, if its text is a text."""
        return event.startswith(self.head) and event.endswith(self.tail) and self.middle in event


def learn(raw: bytes, data: bytes, chunk: Chunk, *, decodes: bool) -> tuple[Pattern, bytes] | None:
    """The pattern of an event that needs no mending, and its data with PROBE as its text; None if
    it may bring more than a text.
    """
    choice = _only_choice(chunk)
    if choice is None or raw != _DATA + data + BLANK_LINE:
        return None
    delta = choice.delta
    written = [name for name in _FIELDS if bytes(getattr(delta, name))[:1] == b'"']
    field = next((name for name in written if len(getattr(delta, name)) > 2), "")
    if not field or len(written) > 1 or PROBE in data:
        return None
    text, key = bytes(getattr(delta, field)), b'"%b"' % field.encode()
    # Behind the key: a text that is a colon alone would be found at the key's end.
    start = data.find(text, data.find(key) + len(key)) + 1
    end = start + len(text) - 2
    probe = data[:start] + PROBE + data[end:]
    if start == 0 or not _is_like(probe, chunk, field):
        return None
    head, tail, middle = _DATA + data[:start], data[end:], b""
    hidden = tail.rfind(_OBFUSCATION)
    if hidden >= 0:
        at = hidden + len(_OBFUSCATION)
        if not tail.endswith(b'"}') or not _is_plain(tail[at:-2]):
            return None
        middle, tail = tail[:at], tail[-2:]
    end = tail + BLANK_LINE
    changing = _slice(len(head), -len(end))
    tier, inner = chunk.service_tier, middle[:-1]
    pattern = Pattern(head, tail, middle, end, end + head, field, tier, inner, changing, decodes)
    return pattern, probe


@lru_cache(maxsize=1024)
def _slice(start: int, stop: int | None) -> slice:
    """One for all streams: of a thousand that are open side by side each event finds what is its
    own in memory that was not looked at for long.
    """
    return slice(start, stop)


def _only_choice(chunk: Chunk) -> Choice | None:
    """The choice of a chunk that brings a piece of text and nothing else."""
    if chunk.choices is None or len(chunk.choices) != 1 or is_set(chunk.usage):
        return None
    if chunk.service_tier == "":
        return None
    choice = chunk.choices[0]
    delta = choice.delta
    if choice.index != 0 or delta is None or choice.finish_reason is not None:
        return None
    if is_set(choice.logprobs) or is_set(choice.stop_reason) or is_set(delta.refusal):
        return None
    if delta.role is not None or delta.tool_calls is not None or delta.function_call is not None:
        return None
    return choice


def _is_like(probe: bytes, chunk: Chunk, field: str) -> bool:
    """Whether the probe is the chunk with another text: then what was replaced is the text, and
    all of it.
    """
    try:
        other = _CHUNK.decode(probe)
    except (msgspec.MsgspecError, ValueError):
        return False
    choice, like = (other.choices or [Choice()])[0], (chunk.choices or [Choice()])[0]
    if choice.delta is None or like.delta is None:
        return False
    if getattr(choice.delta, field) != msgspec.Raw(b'"%b"' % PROBE):
        return False
    setattr(choice.delta, field, getattr(like.delta, field))
    return other == chunk


def _texts(pieces: list[bytes], texts: list[bytes], *, decodes: bool) -> Texts | None:
    """None if one of them cannot stand in a JSON string, or is no UTF-8 and that matters."""
    joined = b"".join(texts)
    if _is_plain(joined):
        size_bytes = len(joined)
    elif all(map(_TEXT.fullmatch, texts)):
        size_bytes = len(joined) - 3 * sum(text.count(ESCAPE) for text in texts)
    else:
        return None
    if decodes and not joined.isascii() and not all(map(_is_utf8, texts)):
        return None
    return Texts(pieces, texts, size_bytes)


def _is_plain(data: bytes) -> bool:
    return data.translate(CHANGED) == data


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

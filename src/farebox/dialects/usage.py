"""What an answer reports as usage, in any vendor's shape, as tokens in disjoint classes. No prices.

The shape decides, not the vendor's name:
- OpenAI's chat and Responses: input tokens include those read from and written to the cache.
- Anthropic's Messages: input tokens exclude both; writes are split into 5 minutes and 1 hour.
  Iterations that compact the context (beta) are not in the figures of the call, and come on top.
  Those of an adviser are another model's, and paid for as a tool.
- DeepSeek: prompt tokens are hits plus misses; the hit may stand in two places and counts once.
- Kimi: a top-level `cached_tokens`. xAI: reasoning stands beside the output, not inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, cast

import msgspec

from farebox.core.usage import CLASSES, Usage

BYTES_A_TOKEN = 4  # of English text, by OpenAI's rule of thumb; for answers without usage
_UNKNOWN_CONTEXT = 2_500_000  # tokens: no model on the market takes more
_ABSURD_CONTEXTS = 4

ESTIMATED = "output_tokens_estimated"
"""Beside counts of Anthropic's: the output is ours, made of what had come when a stream broke."""
# Any of these says that the shape is Anthropic's.
_ANTHROPICS = frozenset(
    (
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "iterations",
        ESTIMATED,
    )
)

_INCLUSIVE = frozenset(
    (
        "prompt_tokens",
        "input_tokens",
        "completion_tokens",
        "output_tokens",
        "prompt_cache_hit_tokens",
        "prompt_cache_miss_tokens",
    )
)
_ON_INPUT = frozenset(("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"))
_ON_OUTPUT = frozenset(("reasoning_tokens", "audio_tokens"))

Fields = Mapping[str, object]


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What was read: None where nothing usable was reported, and what was odd about it."""

    usage: Usage | None
    flags: tuple[str, ...] = ()


NO_READING = Reading(None)


# The usual usage, which is checked while it is decoded. A name that is not here, even one that
# means nothing, is a case for the general rules: what is passed over is not checked to be JSON.
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _OnInput(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None


class _OnOutput(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    accepted_prediction_tokens: _Count | None = None
    rejected_prediction_tokens: _Count | None = None


class _Usual(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _OnInput | None = None
    completion_tokens_details: _OnOutput | None = None
    prompt_cache_hit_tokens: _Count | None = None
    prompt_cache_miss_tokens: _Count | None = None


_USUAL = msgspec.json.Decoder(_Usual)


class _Absurd(ValueError):
    """A count that no honest upstream reports."""


def read_usage(reported: object, context: int | None = None) -> Reading:
    """Read a usage object, decoded or still as JSON. Absurd ones (negative, not an int, above
    four contexts, not to be decoded) count as none.
    """
    limit = _ABSURD_CONTEXTS * (context or _UNKNOWN_CONTEXT)
    if not isinstance(reported, msgspec.Raw):
        return _read_any(reported, limit)
    try:
        usual = _USUAL.decode(reported)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_json(reported, limit)
    prompt, output = usual.prompt_tokens, usual.completion_tokens
    if prompt > limit or output > limit or prompt + output != usual.total_tokens:
        return _read_json(reported, limit)
    on_input, on_output = usual.prompt_tokens_details, usual.completion_tokens_details
    hit, miss = usual.prompt_cache_hit_tokens, usual.prompt_cache_miss_tokens
    if on_input is None and on_output is None and hit is None and miss is None:
        return Reading(Usage(prompt, 0, 0, 0, 0, output))
    return _read_usual(usual) or _read_json(reported, limit)


def _read_json(reported: msgspec.Raw, limit: int) -> Reading:
    """By the general rules."""
    try:
        decoded = msgspec.json.decode(reported)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Reading(None, ("bad_usage",))
    return _read_any(decoded, limit)


def _read_any(reported: object, limit: int) -> Reading:
    if not isinstance(reported, dict) or not reported:
        return NO_READING
    fields = cast("Fields", reported)
    try:
        if "prompt_tokens" not in fields and not _ANTHROPICS.isdisjoint(fields):
            return _read_exclusive(fields, limit)
        return _read_inclusive(fields, limit)
    except _Absurd:
        return Reading(None, ("bad_usage",))


def _read_usual(usual: _Usual) -> Reading | None:
    """The usual usage in a few steps, with the result of the general rules; None: by those. Of its
    counts the greatest were looked at.
    """
    prompt, output = usual.prompt_tokens, usual.completion_tokens
    on_input, on_output = usual.prompt_tokens_details, usual.completion_tokens_details
    hit, miss = usual.prompt_cache_hit_tokens or 0, usual.prompt_cache_miss_tokens or 0
    cached, written, audio, image = hit, 0, 0, 0
    if on_input is not None:
        if on_input.cached_tokens is not None:
            cached = on_input.cached_tokens
        written = on_input.cache_write_tokens or 0
        audio, image = on_input.audio_tokens or 0, on_input.image_tokens or 0
    reasoning = spoken = 0
    if on_output is not None:
        reasoning, spoken = on_output.reasoning_tokens or 0, on_output.audio_tokens or 0
    uncached = prompt - cached - written - audio - image
    # What is part of something and larger than it is odd, or absurd.
    if uncached < 0 or hit > prompt or miss > prompt or reasoning > output or spoken > output:
        return None
    return Reading(Usage(uncached, cached, written, 0, audio, output - spoken, spoken, image))


def _count(fields: Fields, name: str, limit: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise _Absurd(name)
    return value


def _counts(fields: Fields, known: frozenset[str], limit: int) -> dict[str, int]:
    """All counts with one of these names, but for null ones."""
    counts: dict[str, int] = {}
    for name, value in fields.items():
        if value is None or name not in known:
            continue
        if type(value) is not int or not 0 <= value <= limit:
            raise _Absurd(name)
        counts[name] = value
    return counts


def _details(fields: Fields, *names: str) -> Fields:
    for name in names:
        value = fields.get(name)
        if isinstance(value, dict):
            return cast("Fields", value)
    return {}


def _rest(total: int | None, known: int | None, limit: int) -> int:
    rest = max(0, (total or 0) - (known or 0))
    if rest > limit:
        raise _Absurd("total_tokens")
    return rest


def _read_exclusive(fields: Fields, limit: int) -> Reading:
    flags = ("estimated",) if fields.get(ESTIMATED) is True else ()
    usage = _exclusive(fields, limit)
    for entry in _iterations(fields):
        if entry.get("type") == "compaction":
            usage = _sum(usage, _exclusive(entry, limit))
    return Reading(usage, flags)


def _iterations(fields: Fields) -> Iterator[Fields]:
    found = fields.get("iterations")
    for entry in cast("list[object]", found) if isinstance(found, list) else ():
        if isinstance(entry, dict):
            yield cast("Fields", entry)


def _exclusive(fields: Fields, limit: int) -> Usage:
    split = _details(fields, "cache_creation")
    hour = _count(split, "ephemeral_1h_input_tokens", limit) or 0
    five_minutes = _count(split, "ephemeral_5m_input_tokens", limit) or 0
    # A stream's last figure has no split of its own: what came on top is held to be the usual kind.
    written = max(_count(fields, "cache_creation_input_tokens", limit) or 0, hour + five_minutes)
    return Usage(
        uncached_input=_count(fields, "input_tokens", limit) or 0,
        cache_read=_count(fields, "cache_read_input_tokens", limit) or 0,
        cache_write=written - hour,
        cache_write_1h=hour,
        output=_count(fields, "output_tokens", limit) or 0,
    )


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in CLASSES})


def _read_inclusive(fields: Fields, limit: int) -> Reading:
    count = _counts(fields, _INCLUSIVE, limit).get
    total = _count(fields, "total_tokens", 2 * limit)
    hit, miss = count("prompt_cache_hit_tokens"), count("prompt_cache_miss_tokens")
    output = count("completion_tokens", count("output_tokens"))
    prompt = count("prompt_tokens", count("input_tokens"))
    if prompt is None and hit is not None and miss is not None:
        prompt = hit + miss
    if prompt is None and output is None:
        return NO_READING
    if prompt is None:
        prompt = _rest(total, output, limit)
    if output is None:
        output = _rest(total, prompt, limit)
    details = _details(fields, "prompt_tokens_details", "input_tokens_details")
    on_input = _counts(details, _ON_INPUT, limit).get
    details = _details(fields, "completion_tokens_details", "output_tokens_details")
    on_output = _counts(details, _ON_OUTPUT, limit).get
    reasoning = on_output("reasoning_tokens", 0)
    if total is not None and prompt + output != total == prompt + output + reasoning:
        output += reasoning  # xAI counts reasoning beside the output
    cached = on_input("cached_tokens", hit)
    beside = _count(fields, "cached_tokens", limit)
    return _disjoint(
        prompt,
        output,
        (beside or 0) if cached is None else cached,
        on_input("cache_write_tokens", 0),
        on_input("audio_tokens", 0),
        on_input("image_tokens", 0),
        on_output("audio_tokens", 0),
    )


def _disjoint(  # noqa: PLR0917 (one count per class)
    prompt: int, output: int, cached: int, written: int, audio: int, image: int, audio_output: int
) -> Reading:
    """Each class takes of the prompt what those before it left: the total is never exceeded."""
    if not (cached or written or audio or image or audio_output):
        return Reading(Usage(prompt, output=output))  # as for most calls
    flags: list[str] = []
    if cached > prompt:
        flags.append("cached_exceeds_prompt")
    read = min(cached, prompt)
    left = prompt - read
    if written > left:
        flags.append(
            "write_overlap"
        )  # OpenAI calls the figure unadjusted: it may overlap the reads
    write = min(written, left)
    left -= write
    audio_input = min(audio, left)
    left -= audio_input
    image_input = min(image, left)
    spoken = min(audio_output, output)
    return Reading(
        Usage(
            uncached_input=left - image_input,
            cache_read=read,
            cache_write=write,
            audio_input=audio_input,
            output=output - spoken,
            audio_output=spoken,
            image_input=image_input,
        ),
        tuple(flags),
    )

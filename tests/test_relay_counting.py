"""Answers whose upstreams report no usage: their text is counted, if it can be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from farebox.dialects.said import MAX_BYTES
from farebox.routing.catalogue import Model
from tests.fakes.upstream import FakeUpstream
from tests.playing import DONE, END, GOOD_USAGE, JSON, STREAM, chunk, part, played
from tests.relaying import RecordingClient, Relaying

pytestmark = pytest.mark.anyio

STOP = chunk(finish="stop")


def delta(index: int = 0, **fields: Any) -> bytes:
    """An event of a stream with this delta."""
    choice = {"index": index, "delta": fields, "finish_reason": None}
    return part(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n")


def called(name: str | None = None, arguments: str = "") -> dict[str, Any]:
    """A delta's tool calls."""
    return {"tool_calls": [{"index": 0, "function": {"name": name, "arguments": arguments}}]}


async def test_all_that_a_model_wrote_is_counted_once(fake_upstream: FakeUpstream) -> None:
    """Thoughts, content, a tool's name and arguments: one text, and the count is the charge's."""
    steps = (
        delta(role="assistant", reasoning_content="I think."),
        delta(content="So \u00e9"),
        delta(**called("look")),
        delta(**called(None, '{"q":1}')),
    )
    async with played(fake_upstream, STREAM, *steps, STOP, DONE, END, tokens=42) as relaying:
        client = await relaying.call(stream=True)
        assert client.events[-1] == "[DONE]"
        assert relaying.counted == [('I think.So \u00e9look{"q":1}',)]
        assert (relaying.settlement.usage.output, relaying.settlement.flags) == (42, ("estimated",))


async def test_each_choice_is_a_text_of_its_own(fake_upstream: FakeUpstream) -> None:
    """However their pieces are mixed."""
    steps = [delta(n, content=text) for n, text in ((0, "a"), (1, "b"), (0, "c"), (1, "d"))]
    ends = (STOP, chunk(finish="stop", index=1))
    async with played(fake_upstream, STREAM, *steps, *ends, DONE, END, tokens=4) as relaying:
        await relaying.call(stream=True, n=2)
        assert relaying.counted == [("ac", "bd")]


async def test_a_whole_answer_is_counted_too(fake_upstream: FakeUpstream) -> None:
    """All of its choices."""
    message: dict[str, Any] = {"role": "assistant", "content": "hi", **called("f", "{}")}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = json.dumps({"choices": choices}).encode()
    async with played(fake_upstream, JSON, part(body), END, tokens=7) as relaying:
        await relaying.call()
        assert relaying.counted == [("hif{}",)]
        assert relaying.settlement.usage.output == 7


async def test_another_dialect_over_chat_is_counted_alike(fake_upstream: FakeUpstream) -> None:
    """What the upstream wrote counts, not what became of it."""
    steps = (STREAM, delta(reasoning_content="Hm."), delta(content="Yes"), STOP, DONE, END)
    async with played(fake_upstream, *steps, tokens=5) as relaying:
        await relaying.respond(stream=True)
        await relaying.message(stream=True)
        assert relaying.counted == [("Hm.Yes",), ("Hm.Yes",)]
        assert [each.usage.output for each in relaying.books.settled] == [5, 5]


async def test_what_broke_off_is_counted_as_far_as_it_came(fake_upstream: FakeUpstream) -> None:
    """The upstream is gone, and its text is here."""
    steps = (STREAM, delta(content="one two"), 0.05)
    async with played(fake_upstream, *steps, tokens=2) as relaying:
        await relaying.call(stream=True)
        assert relaying.counted == [("one two",)]
        assert (relaying.settlement.outcome, relaying.settlement.usage.output) == (
            "upstream_failed",
            2,
        )


async def test_a_count_never_exceeds_the_cap(fake_upstream: FakeUpstream) -> None:
    """It is ours, so nobody pays by it for more than was asked for."""
    steps = (STREAM, delta(content="one two"), STOP, DONE, END)
    async with played(fake_upstream, *steps, tokens=5000) as relaying:
        await relaying.call(stream=True, max_tokens=20)
        assert relaying.settlement.usage.output == 20


async def test_where_nobody_can_count_four_bytes_are_a_token(fake_upstream: FakeUpstream) -> None:
    """The counting process may be away."""
    steps = (STREAM, delta(content="12345678"), STOP, DONE, END)
    async with played(fake_upstream, *steps) as relaying:
        await relaying.call(stream=True)
        assert relaying.counted == [("12345678",)]
        assert relaying.settlement.usage.output == 2


async def test_text_is_kept_until_a_channel_has_shown_that_it_reports(
    fake_upstream: FakeUpstream,
) -> None:
    """A channel that reported usage is believed; what it does not report then is four bytes a
    token, and from then on its text is kept again.
    """
    good = (STREAM, delta(content="12345678"), STOP, GOOD_USAGE, DONE, END)
    async with played(fake_upstream, *good, tokens=3) as relaying:
        await relaying.call(stream=True)
        memory = relaying.memory
    silent = (STREAM, delta(content="12345678"), STOP, DONE, END)
    async with played(fake_upstream, *silent, tokens=3, memory=memory) as relaying:
        await relaying.call(stream=True)
        assert (relaying.counted, relaying.settlement.usage.output) == ([], 2)
        await relaying.call(stream=True)
        assert (relaying.counted, relaying.settlement.usage.output) == ([("12345678",)], 3)


async def test_only_so_much_text_is_kept(fake_upstream: FakeUpstream) -> None:
    """What is beyond it counts by its size."""
    piece = "x" * (MAX_BYTES // 2)
    steps = (STREAM, *[delta(content=piece)] * 3, STOP, DONE, END)
    more = {"tokens": 10, "model": {"max_output": 10**6}}
    async with played(fake_upstream, *steps, **more) as relaying:
        await relaying.call(stream=True)
        assert relaying.counted == [(piece * 2,)]
        assert relaying.settlement.usage.output == 10 + len(piece) // 4


async def test_what_cannot_be_read_as_text_ends_no_stream(fake_upstream: FakeUpstream) -> None:
    """It is passed on, and not counted."""
    odd = chunk("ODD").replace(b"ODD", b"O\xffD")  # it need not be mended, so nobody reads it
    steps = (STREAM, chunk("1234"), odd, chunk("5678"), STOP, DONE, END)
    async with played(fake_upstream, *steps, tokens=3) as relaying:
        client = await relaying.call(stream=True)
        assert client.ended
        assert relaying.counted == [("12345678",)]


async def test_a_worker_that_ends_does_not_wait_for_a_count(fake_upstream: FakeUpstream) -> None:
    """What came is charged by its size then, and the client is told."""
    counting = asyncio.Event()

    class Slow(Relaying):
        async def _count(self, model: Model, texts: Sequence[str]) -> int | None:
            counting.set()
            await asyncio.Event().wait()
            return 1

    async with Slow(fake_upstream) as relaying:
        client = RecordingClient()
        call = relaying.call("no-usage", say="word " * 40, stream=True, client=client)
        task = asyncio.create_task(call)
        await asyncio.wait_for(counting.wait(), 5)
        task.cancel()
        await asyncio.wait_for(task, 5)
        assert client.events[-1] == "[DONE]"
        assert 40 <= relaying.settlement.usage.output <= 60
        assert relaying.books.holds == {}

"""The worker's side: many questions on one connection, and no error whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from farebox.counting import wire
from farebox.counting.client import ProcessCounter
from farebox.counting.process import Codecs, Server

pytestmark = pytest.mark.anyio

HELLO = wire.pack("o200k_base", ["hello world"])
Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def counter(
    folder: Path, converse: Converse, limit_s: float = 5.0
) -> AsyncIterator[ProcessCounter]:
    """A counter whose process is this function."""

    async def converse_and_close(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await converse(reader, writer)
        writer.close()

    path = str(folder / "s")
    server = await asyncio.start_unix_server(converse_and_close, path)
    counting = ProcessCounter(path, limit_s)
    yield counting
    await counting.aclose()
    server.close()
    await asyncio.sleep(0.02)  # the other end closes, too


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    size_bytes, number = wire.read_head(await reader.readexactly(wire.HEAD_BYTES))
    return number, await reader.readexactly(size_bytes)


async def test_questions_are_answered_as_they_are_ready(tmp_path: Path) -> None:
    """In any order, each to the one who asked."""

    async def backwards(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = [await _read(reader) for _ in range(3)]
        for number, payload in reversed(asked):
            _, (text,) = wire.unpack(payload)
            writer.write(wire.frame(number, wire.answer(int(text))))
        writer.write(wire.frame(99, wire.answer(1)))  # an answer that nobody waits for

    async with counter(tmp_path, backwards) as counting:
        payloads = [wire.pack("v", [text]) for text in ("1", "2", "3")]
        assert await asyncio.gather(*map(counting.count, payloads)) == [1, 2, 3]


async def test_the_real_server_counts(tmp_path: Path) -> None:
    """Small and large texts; an unknown vocabulary and a broken question have no count."""
    server = Server(Codecs())
    async with counter(tmp_path, server.converse, 30) as counting:
        assert await counting.count(HELLO) == 2
        assert (
            await counting.count(wire.pack("deepseek_v4", ["word " * 100_000])) == 200_000 // 2 + 1
        )
        assert await counting.count(wire.pack("o200k_base", [" " * 600_000])) is None
        assert await counting.count(wire.pack("klingon", ["nuqneH"])) is None
        assert await counting.count(b"\xc1") is None
        assert await counting.count(HELLO) == 2
        assert not server.busy


async def test_a_process_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """Who waits has no count; the next question makes a new connection."""
    lives = 0

    async def mortal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lives
        lives += 1
        number, _ = await _read(reader)
        if lives > 1:
            writer.write(wire.frame(number, wire.answer(7)))

    async with counter(tmp_path, mortal) as counting:
        for tokens in (None, 7, 7):
            assert await counting.count(HELLO) == tokens
            await asyncio.sleep(0.02)  # that it has gone is noticed
    assert lives == 3


async def test_a_slow_process_is_not_waited_for(tmp_path: Path) -> None:
    """After its limit there is no count, and a late answer reaches nobody."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, _ = await _read(reader)
        second, _ = await _read(reader)
        for number, tokens in ((first, 1), (second, 2)):
            writer.write(wire.frame(number, wire.answer(tokens)))

    async with counter(tmp_path, slow, limit_s=0.3) as counting:
        assert [await counting.count(HELLO) for _ in range(2)] == [None, 2]


async def test_nonsense_ends_the_connection(tmp_path: Path) -> None:
    """Frames that are none of ours, and answers that are no numbers."""
    for nonsense in (b"\xff" * 64, wire.frame(1, b"\xc1"), wire.frame(1, b"\xa1x")):

        async def mad(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = nonsense
        ) -> None:
            await _read(reader)
            writer.write(said)

        (tmp_path / "s").unlink(missing_ok=True)
        async with counter(tmp_path, mad) as counting:
            assert await counting.count(HELLO) is None


async def test_without_a_process_there_is_no_count(tmp_path: Path) -> None:
    """No path, or nobody at its end."""
    assert await ProcessCounter(None).count(HELLO) is None
    assert await ProcessCounter(str(tmp_path / "nobody")).count(HELLO) is None


async def test_a_worker_that_breaks_the_rules_is_hung_up_on(tmp_path: Path) -> None:
    """A frame that is too long is not read."""
    async with counter(tmp_path, Server(Codecs()).converse):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "big") + bytes(8))
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

"""A counter without a process: the same vocabularies, loaded once a test run, in a thread."""

import asyncio
from functools import cache

from farebox.counting import vocabularies, wire
from farebox.counting.vocabularies import Codec, TooLong


@cache
def codec(name: str) -> Codec:
    return vocabularies.load(name)


def count(payload: bytes) -> int | None:
    name, texts = wire.unpack(payload)
    try:
        return vocabularies.count(codec(name), texts)
    except TooLong:
        return None


class InThread:
    """What the server asks for its counts."""

    async def count(self, payload: bytes) -> int | None:
        return await asyncio.to_thread(count, payload)

"""Names to addresses: order, memory, failures."""

import asyncio

import pytest

from farebox.upstream.resolve import Resolver

pytestmark = pytest.mark.anyio


async def test_an_address_is_its_own_answer():
    """Without asking anybody."""
    resolver = Resolver()
    assert await resolver.addresses("127.0.0.1") == ["127.0.0.1"]
    assert await resolver.addresses("::1") == ["::1"]


async def test_a_name_is_looked_up_once_for_all_who_ask():
    """And one who gives up does not take the answer from the others."""
    resolver = Resolver()
    askers = [asyncio.create_task(resolver.addresses("localhost")) for _ in range(5)]
    await asyncio.sleep(0)
    askers[0].cancel()
    answers = await asyncio.gather(*askers[1:])
    assert "127.0.0.1" in answers[0] or "::1" in answers[0]
    assert all(answer is answers[0] for answer in answers)
    await resolver.aclose()


async def test_an_answer_is_remembered_for_its_time():
    """Then the name is looked up again: a vendor may have moved."""
    resolver = Resolver(ttl_s=0.5)
    first = await resolver.addresses("localhost")
    assert await resolver.addresses("localhost") is first
    await asyncio.sleep(0.6)
    assert await resolver.addresses("localhost") is not first
    await resolver.aclose()


async def test_a_failure_is_not_remembered():
    """Each call asks again, so that a repaired name works at once."""
    resolver = Resolver()
    for _ in range(2):
        with pytest.raises((OSError, UnicodeError)):
            await resolver.addresses("bad..name")
    await resolver.aclose()

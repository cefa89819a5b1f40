"""Several addresses of one name: the first to open wins, and nothing else stays open."""

import asyncio

import pytest

from farebox.upstream.connection import Connection
from farebox.upstream.race import STAGGER_S, race

pytestmark = pytest.mark.anyio


class Runner:
    """An attempt that takes its time and then opens, or fails."""

    def __init__(
        self,
        takes_s: float,
        error: Exception | None = None,
        *,
        opens_when_cancelled: bool = False,
    ) -> None:
        self.takes_s = takes_s
        self.opens_when_cancelled = opens_when_cancelled
        self.error = error
        self.began_s: float | None = None
        self.was_cancelled = False
        self.connection = Connection(asyncio.get_running_loop(), 1024)

    async def __call__(self) -> Connection:
        self.began_s = asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.was_cancelled = True
            if not self.opens_when_cancelled:
                raise
        if self.error is not None:
            raise self.error
        return self.connection


async def test_the_first_to_open_wins_and_no_other_is_tried():
    """A good first address costs nothing more."""
    first, second = Runner(0.01), Runner(0)
    assert await race([first, second]) is first.connection
    assert second.began_s is None


async def test_a_failure_starts_the_next_at_once():
    """Nothing is waited for."""
    first, second = Runner(0, ConnectionRefusedError()), Runner(0.01)
    assert await race([first, second]) is second.connection
    assert first.began_s is not None
    assert second.began_s is not None
    assert second.began_s - first.began_s < STAGGER_S / 2


async def test_a_slow_address_is_overtaken_and_given_up():
    """As when IPv6 leads nowhere."""
    first, second = Runner(30), Runner(0.01)
    assert await race([first, second]) is second.connection
    await asyncio.sleep(0)
    assert first.was_cancelled


async def test_when_all_fail_the_last_failure_counts():
    """One address or many."""
    last = ConnectionResetError("last")
    for runners in ([Runner(0, last)], [Runner(0, ConnectionRefusedError()), Runner(0, last)]):
        with pytest.raises(ConnectionResetError, match="last"):
            await race(runners)


async def test_one_that_opens_too_late_is_closed():
    """Also when it opened in the very moment in which it was given up."""
    late, winner = Runner(30, opens_when_cancelled=True), Runner(0.01)
    assert await race([late, winner]) is winner.connection
    await asyncio.sleep(0.01)
    assert (late.connection.dropped, winner.connection.dropped) == (True, False)


async def test_giving_up_the_race_gives_up_every_runner():
    """None goes on behind the back of who gave up."""
    runners = [Runner(30), Runner(30)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(STAGGER_S + 0.1):
            await race(runners)
    await asyncio.sleep(0)
    assert [runner.was_cancelled for runner in runners] == [True, True]

"""Names to addresses, remembered for a while. What is done with them is dial.py's business."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

TTL_S = 30.0  # getaddrinfo tells none: long enough to spare calls, short enough for a move

_Answer = list[str]


class Resolver:
    """A cache before the system's resolver, which runs in a thread. Failures are not remembered."""

    __slots__ = ("_asked", "_ttl_s")

    def __init__(self, ttl_s: float = TTL_S) -> None:
        self._ttl_s = ttl_s
        # name -> (when to ask again, the look-up); a few, those of the operator's channels
        self._asked: dict[str, tuple[float, asyncio.Task[_Answer]]] = {}

    async def addresses(self, host: str) -> _Answer:
        """The IP addresses of a name, best first. Raises OSError or UnicodeError."""
        if _is_address(host):
            return [host]
        now_s = asyncio.get_running_loop().time()
        expires_s, lookup = self._asked.get(host, (0.0, None))
        if lookup is None or now_s >= expires_s:
            lookup = asyncio.create_task(_look_up(host), name="farebox-resolve")
            lookup.add_done_callback(lambda done: self._forget_failure(host, done))
            self._asked[host] = (now_s + self._ttl_s, lookup)
        # Shielded: one who gives up must not take the answer from others who wait for it.
        return await asyncio.shield(lookup)

    async def aclose(self) -> None:
        """Give up the look-ups under way."""
        lookups = [lookup for _, lookup in self._asked.values()]
        self._asked.clear()
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)

    def _forget_failure(self, host: str, lookup: asyncio.Task[_Answer]) -> None:
        # Asking for the exception also marks it as seen when every waiter has gone.
        has_failed = lookup.cancelled() or lookup.exception() is not None
        if has_failed and self._asked.get(host, (0.0, None))[1] is lookup:
            del self._asked[host]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _look_up(host: str) -> _Answer:
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    by_family: dict[int, list[str]] = {}
    for family, _, _, _, sockaddr in infos:
        by_family.setdefault(family, []).append(str(sockaddr[0]))
    # Families take turns (RFC 8305, 4): without IPv6 one short wait is lost, not one an address.
    turns = _take_turns(list(by_family.values()))
    if not turns:
        raise OSError("the name has no address")
    return turns


def _take_turns(lists: list[list[str]]) -> list[str]:
    """The first of each list, then the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [members[i] for i in range(longest) for members in lists if i < len(members)]

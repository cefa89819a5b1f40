"""A body that is taken as it arrives, with no task between."""

import asyncio
import gzip

import pytest

from farebox.errors import UpstreamFailed
from tests.upstream.asking import PATIENCE_S, ask, body_of, head_of
from tests.upstream.raw_server import CHUNKED, Peer, raw_server

pytestmark = pytest.mark.anyio
END = b"0\r\n\r\n"
ONE_TWO = (
    CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n" + END,
    b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nonetwo",
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Paced:
    """A script that sends each part when it is told to."""

    def __init__(self, *parts: bytes, head: bytes = CHUNKED) -> None:
        self._head, self._parts = head, parts
        self.go_on = asyncio.Semaphore(0)

    async def __call__(self, peer: Peer) -> None:
        await peer.answer(self._head)
        for part in self._parts:
            await self.go_on.acquire()
            await peer.send(part)
        await peer.hung_up()


async def test_what_arrives_is_taken_in_the_callback_it_arrives_in(make_client):
    """No task is woken for it; the end is an empty part, and ends the wait."""
    script = Paced(chunk(b"one"), chunk(b"two"), chunk(b"three") + END)
    taken: list[bytes] = []
    tasks: set[object] = set()

    def take(data: bytes) -> bool:
        taken.append(data)
        tasks.add(asyncio.current_task())
        script.go_on.release()
        return True

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        script.go_on.release()
        await exchange.pump(take, PATIENCE_S)
        assert (taken, tasks) == ([b"one", b"two", b"three", b""], {None})
        await exchange.pump(take, PATIENCE_S)
        assert taken[4:] == [b""]
        exchange.close()


async def test_what_is_large_only_when_decoded_leaves_the_loop_its_turns(make_client):
    """A few kilobytes that stand for megabytes: others run between each part and the next."""
    packed = gzip.compress(bytes(8_000_000))
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    script = Paced(chunk(packed) + END, head=head)
    turns, taken = 0, []  # by how many turns the loop was further when a part was taken

    def turn():
        nonlocal turns
        turns += 1
        if not taken or taken[-1][1]:
            asyncio.get_running_loop().call_soon(turn)

    def take(data: bytes) -> bool:
        taken.append((turns, len(data)))
        return True

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        turn()
        script.go_on.release()
        await exchange.pump(take, PATIENCE_S)
        exchange.close()
    assert sum(size for _, size in taken) == 8_000_000
    parts = [at for at, size in taken if size]
    assert len(parts) > 100
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize("answer", ONE_TWO)
async def test_a_body_that_is_here_is_had_at_once(make_client, answer):
    """Without a wait; after it comes the end, and the connection can be used again."""

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.answer(answer)

    async with raw_server(script) as server:
        client = make_client()
        for _ in range(2):
            exchange = ask(client, server.url())
            await head_of(exchange)
            body = None
            async with asyncio.timeout(20):
                while (body := exchange.whole(6)) is None:
                    await asyncio.sleep(0.001)
            assert body == b"onetwo"
            assert exchange.whole(6) == b""
            assert await body_of(exchange) == b""
            exchange.close()
            assert exchange.whole(6) is None
        assert server.accepted == 1


async def test_a_body_that_is_too_large_is_left_to_be_read(make_client):
    """As is one of which the end is still to come."""
    script = Paced(chunk(b"one"), chunk(b"two") + END)
    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        script.go_on.release()
        assert await exchange.read(PATIENCE_S) == b"one"
        assert exchange.whole(100) is None
        script.go_on.release()
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert exchange.whole(2) is None
        assert exchange.whole(3) == b"two"
        exchange.close()


@pytest.mark.parametrize("ending", ["truncated", "encoded", "aborted"])
async def test_a_body_that_is_no_good_as_it_came_is_never_whole(make_client, ending):
    """It breaks off, has to be decoded, or is not wanted any more."""
    packed = gzip.compress(b"one")
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    parts = (chunk(packed), END) if ending == "encoded" else (chunk(b"one"), END)

    async def script(peer: Peer) -> None:
        await peer.answer(head if ending == "encoded" else CHUNKED)
        await peer.send(b"".join(parts[: 1 if ending == "truncated" else 2]))
        peer.half_close()

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        await asyncio.sleep(0.05)
        if ending == "aborted":
            exchange.abort()
        assert exchange.whole(100) is None
        if ending == "encoded":
            assert await body_of(exchange) == b"one"
        exchange.close()


async def test_who_wants_no_more_gets_the_rest_later(make_client):
    """Nothing is lost in between, however it is asked for then."""
    script = Paced(chunk(b"one"), chunk(b"two") + END)
    taken: list[bytes] = []

    def take_one(data: bytes) -> bool:
        taken.append(data)
        return False

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        script.go_on.release()
        await exchange.pump(take_one, PATIENCE_S)
        script.go_on.release()
        await exchange.pump(take_one, PATIENCE_S)
        assert taken == [b"one", b"two"]
        assert await body_of(exchange) == b""
        exchange.close()


async def test_who_waits_can_be_woken_to_look_again(make_client):
    """Nothing is lost by it, and whoever does not wait is not woken later."""
    script = Paced(chunk(b"one") + END)
    taken: list[bytes] = []
    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        waiting = asyncio.create_task(exchange.pump(lambda data: not taken.append(data), 3600))
        await asyncio.sleep(0)
        exchange.wake()
        async with asyncio.timeout(20):
            await waiting
        assert taken == []
        exchange.wake()
        script.go_on.release()
        await exchange.pump(lambda data: not taken.append(data), PATIENCE_S)
        assert taken == [b"one", b""]
        exchange.close()


async def test_what_goes_wrong_in_taking_is_raised_where_it_is_waited_for(make_client):
    """Not in the event loop, where it would close the connection without a word."""
    script = Paced(chunk(b"one"), chunk(b"two") + END)

    def take(data: bytes) -> bool:
        raise ZeroDivisionError

    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        for _ in range(2):
            script.go_on.release()
            with pytest.raises(ZeroDivisionError):
                await exchange.pump(take, PATIENCE_S)
        assert await body_of(exchange) == b""
        exchange.close()


async def test_what_came_before_a_failure_is_taken_first(make_client):
    """Then the failure is raised, and it stays."""

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED + chunk(b"one"))
        peer.half_close()

    taken: list[bytes] = []
    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        for _ in range(2):
            with pytest.raises(UpstreamFailed) as caught:
                await exchange.pump(lambda data: not taken.append(data), PATIENCE_S)
            assert caught.value.reason == "truncated"
        assert taken == [b"one"]
        exchange.close()


@pytest.mark.parametrize("last", [b"", b"!"])
async def test_a_compressed_body_is_taken_decoded_and_must_be_whole(make_client, last):
    """To its last byte, in as many parts as there are."""
    packed = gzip.compress(b"x" * 1_000_000 + b"!")
    packed = packed if last else packed[:-1]
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    script = Paced(chunk(packed[:50]), chunk(packed[50:]) + END, head=head)
    taken: list[bytes] = []
    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)
        script.go_on.release()
        script.go_on.release()
        pump = exchange.pump(lambda data: not taken.append(data), PATIENCE_S)
        if last:
            await pump
            assert (b"".join(taken), taken[-1]) == (b"x" * 1_000_000 + b"!", b"")
        else:
            with pytest.raises(UpstreamFailed) as caught:
                await pump
            assert caught.value.reason == "truncated"
        exchange.close()


async def test_a_pump_ends_after_its_time_also_while_data_come(make_client):
    """Whoever waits has to look after other things too; then it is begun again."""

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED)
        for _ in range(40):
            await asyncio.sleep(0.01)
            await peer.send(chunk(b"a"))
        await peer.send(END)

    taken: list[bytes] = []
    async with raw_server(script) as server:
        exchange = ask(make_client(idle_timeout_s=0.2), server.url())
        await head_of(exchange)
        await exchange.pump(lambda data: not taken.append(data), 0.05)
        assert b"" not in taken
        await exchange.pump(lambda data: not taken.append(data), PATIENCE_S)
        assert b"".join(taken) == b"a" * 40
        exchange.close()


async def test_silence_is_an_idle_timeout_under_a_pump_too(make_client):
    """Counted from the last byte."""
    script = Paced(chunk(b"one"))
    taken: list[bytes] = []
    async with raw_server(script) as server:
        exchange = ask(make_client(idle_timeout_s=0.05), server.url())
        await head_of(exchange)
        script.go_on.release()
        with pytest.raises(UpstreamFailed) as caught:
            await exchange.pump(lambda data: not taken.append(data), PATIENCE_S)
        assert (caught.value.reason, taken) == ("idle_timeout", [b"one"])
        exchange.close()


async def test_whoever_takes_may_abort(make_client):
    """As for a client that hangs up at that moment."""
    script = Paced(chunk(b"one"))
    async with raw_server(script) as server:
        exchange = ask(make_client(), server.url())
        await head_of(exchange)

        def take(data: bytes) -> bool:
            exchange.abort()
            return True

        script.go_on.release()
        with pytest.raises(UpstreamFailed) as caught:
            await exchange.pump(take, PATIENCE_S)
        assert caught.value.reason == "aborted"
        await server.wait_until_open(0)
